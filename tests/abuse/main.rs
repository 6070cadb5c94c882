//! What an attacker in another namespace can try, what it costs the reflector, and that it costs
//! somebody who only asks nothing. Each prints the figures of its row in RELIABILITY.md.

mod packets;
mod stage;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::rc::Rc;

use fastrand::Rng;
use reflector_netlab::topology::DockerHost;
use reflector_testkit::raw::{Icmp, send_forged, send_forged_icmp};
use reflector_testkit::train::Client;
use reflector_testkit::volley::{VOLLEY, Volleys};
use reflector_testkit::{PORT, Reflector, at, on_both_engines};

use packets::{Fault, fragment, udp_v4, udp_v6};
use stage::Stage;

const HOST: SocketAddrV4 = SocketAddrV4::new(DockerHost::HOST, PORT);
const CONTAINER: SocketAddrV4 = SocketAddrV4::new(DockerHost::CONTAINER, 40_000);

/// Any address that a packet may come from.
fn any_source(rng: &mut Rng) -> Ipv4Addr {
    Ipv4Addr::from_bits(rng.u32(0x0b00_0000..0x7f00_0000))
}

/// Sends volleys of `packets` to the host, all the same each time.
fn same(stage: &Stage, packets: &[Vec<u8>]) -> impl FnMut() + use<> {
    let mut volleys = Volleys::new(&stage.picture.container, (*HOST.ip()).into(), packets);
    move || volleys.send()
}

/// Sends volleys to the host, each packet from another source.
fn from_anywhere(stage: &Stage) -> impl FnMut() + use<> {
    let packet = udp_v4(CONTAINER, HOST, &[7; 64], Fault::NoChecksum);
    let mut volleys = Volleys::new(&stage.picture.container, (*HOST.ip()).into(), &[packet]);
    let mut rng = Rng::with_seed(1);
    move || {
        volleys.forge(|| any_source(&mut rng));
        volleys.send();
    }
}

on_both_engines! {
    fn forged_sources_that_no_list_allows(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let volley = from_anywhere(&stage);
        let outcome = stage.attack("random sources, lists as by default", VOLLEY as u64, volley);
        // A few are in 10/8's neighbours that are allowed, such as 100.64/10.
        let refused = outcome.summary["dropped"]["not_allowed"].as_u64().unwrap();
        assert!(refused * 10 > outcome.received * 9, "{}", outcome.summary);
    }

    fn a_flood_from_everywhere_without_a_limit(engine: Engine) {
        let stage = Stage::new(engine, &["--allow", "any"]);
        let volley = from_anywhere(&stage);
        let what = "random sources, all allowed, no limit";
        stage.attack(what, VOLLEY as u64, volley).expect_answered();
    }

    fn a_flood_from_everywhere_with_a_limit(engine: Engine) {
        let stage = Stage::new(engine, &["--allow", "any", "--rate-limit", "20k"]).longer(10);
        let volley = from_anywhere(&stage);
        let what = "random sources, all allowed, `--rate-limit 20k`";
        let outcome = stage.attack(what, VOLLEY as u64, volley);
        let limited = outcome.summary["dropped"]["rate_limited"].as_u64().unwrap();
        assert!(limited * 100 <= outcome.received, "{}", outcome.summary);
    }

    fn a_flood_from_one_source_with_a_limit(engine: Engine) {
        let stage = Stage::new(engine, &["--rate-limit", "20k/100"]);
        let volley = same(&stage, &[udp_v4(CONTAINER, HOST, &[7; 64], Fault::None)]);
        let outcome = stage.attack("one source, `--rate-limit 20k/100`", VOLLEY as u64, volley);
        let limited = outcome.summary["dropped"]["rate_limited"].as_u64().unwrap();
        assert!(limited > 0, "{}", outcome.summary);
    }

    fn a_flood_of_trains(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let client = Client::any(&stage.picture.container, at(DockerHost::HOST));
        let volley = move || (0..8).for_each(|_| _ = client.send_train(&[7; 64 * 64], 64));
        stage.attack("trains of 64", 8 * 64, volley).expect_answered();
    }

    fn a_flood_of_trains_with_a_limit(engine: Engine) {
        let stage = Stage::new(engine, &["--rate-limit", "20k/100"]);
        let client = Client::any(&stage.picture.container, at(DockerHost::HOST));
        let volley = move || (0..8).for_each(|_| _ = client.send_train(&[7; 64 * 64], 64));
        let outcome = stage.attack("trains of 64, `--rate-limit 20k/100`", 8 * 64, volley);
        let limited = outcome.summary["dropped"]["rate_limited"].as_u64().unwrap();
        assert!(limited > 0, "{}", outcome.summary);
    }

    fn source_port_0_and_our_own(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let from = |port| SocketAddrV4::new(DockerHost::CONTAINER, port);
        let packets = [0, PORT, 19].map(|port| udp_v4(from(port), HOST, &[7; 64], Fault::None));
        let volley = same(&stage, &packets);
        let outcome = stage.attack("source port 0, our own, chargen's", VOLLEY as u64, volley);
        outcome.expect_dropped("source_port");
    }

    fn our_own_addresses_as_source(engine: Engine) {
        let stage = Stage::new(engine, &["--allow", "any"]);
        let own = [DockerHost::HOST, DockerHost::DOCKER0, Ipv4Addr::LOCALHOST];
        let packets =
            own.map(|ip| udp_v4(SocketAddrV4::new(ip, 40_000), HOST, &[7; 64], Fault::None));
        let volley = same(&stage, &packets);
        stage.attack("our own address as source", VOLLEY as u64, volley).expect_unseen();
    }

    fn sources_that_no_reply_can_reach(engine: Engine) {
        let stage = Stage::new(engine, &["--allow", "any"]);
        let sources = [Ipv4Addr::BROADCAST, Ipv4Addr::new(224, 0, 0, 1)];
        let packets =
            sources.map(|ip| udp_v4(SocketAddrV4::new(ip, 40_000), HOST, &[7; 64], Fault::None));
        let volley = same(&stage, &packets);
        stage.attack("broadcast and multicast as source", VOLLEY as u64, volley).expect_unseen();
    }

    fn requests_to_everybody(engine: Engine) {
        let stage = Stage::new(engine, &["--allow", "any"]);
        let everybody = Ipv4Addr::new(172, 17, 255, 255);
        let packet =
            udp_v4(CONTAINER, SocketAddrV4::new(everybody, PORT), &[7; 64], Fault::None);
        let mut volleys =
            Volleys::new(&stage.picture.container, everybody.into(), &[packet]);
        let what = "to the broadcast address";
        let outcome = stage.attack(what, VOLLEY as u64, move || volleys.send());
        outcome.expect_dropped("not_unicast");
    }

    fn fragments_that_never_become_whole(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let whole = udp_v4(CONTAINER, HOST, &[7; 1024], Fault::None);
        let packets: Vec<_> = (1..=VOLLEY as u16).map(|id| fragment(&whole, id)).collect();
        let volley = same(&stage, &packets);
        stage.attack("first fragments without a last", VOLLEY as u64, volley).expect_unseen();
    }

    fn lengths_and_checksums_that_are_wrong(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let faults = [Fault::TooLong, Fault::TooShort, Fault::WrongChecksum];
        let packets = faults.map(|fault| udp_v4(CONTAINER, HOST, &[7; 64], fault));
        let volley = same(&stage, &packets);
        stage.attack("wrong lengths and checksums", VOLLEY as u64, volley).expect_unseen();
    }

    fn no_checksum_over_ipv6(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let from = SocketAddrV6::new(DockerHost::CONTAINER_V6, 40_000, 0, 0);
        let to = SocketAddrV6::new(DockerHost::HOST_V6, PORT, 0, 0);
        let packet = udp_v6(from, to, &[7; 64], Fault::NoChecksum);
        let mut volleys = Volleys::new(&stage.picture.container, (*to.ip()).into(), &[packet]);
        let what = "UDP checksum 0 over IPv6";
        stage.attack(what, VOLLEY as u64, move || volleys.send()).expect_unseen();
    }

    fn empty_datagrams(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let volley = same(&stage, &[udp_v4(CONTAINER, HOST, &[], Fault::None)]);
        stage.attack("empty datagrams", VOLLEY as u64, volley).expect_answered();
    }

    fn the_largest_datagrams(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let client = Client::any(&stage.picture.container, at(DockerHost::HOST));
        let volley = move || (0..8).for_each(|_| client.send(&[7; 65_507]));
        stage.attack("datagrams of 65507 bytes, in fragments", 8, volley).expect_answered();
    }

    fn icmp_errors_about_our_replies(engine: Engine) {
        let stage = Stage::new(engine, &[]);
        let (host, container): (IpAddr, IpAddr) =
            (DockerHost::HOST.into(), DockerHost::CONTAINER.into());
        let picture = Rc::clone(&stage.picture);
        let ours = SocketAddr::new(host, PORT);
        let volley = move || {
            for code in 0..16 {
                let icmp = Icmp::new(3, code, 68);
                let about = SocketAddr::V4(CONTAINER);
                send_forged_icmp(&picture.container, container, host, icmp, ours, about);
            }
        };
        stage.attack("ICMP errors about our replies", 16, volley).expect_unseen();
    }

    fn a_loop_with_another_reflector(engine: Engine) {
        let guard = ["--loop-guard", "ttl"];
        let stage = Stage::new(engine, &guard);
        let there = ["--listen", "0.0.0.0:5252", "--cores", "1", "--interval", "0"];
        let there = [&there[..], &guard].concat();
        let other = Reflector::start(&stage.picture.container, engine, &there);
        let picture = Rc::clone(&stage.picture);
        let from = SocketAddrV4::new(DockerHost::CONTAINER, 5252);
        let volley = move || send_forged(&picture.container, from, HOST, 64, b"loop");
        let outcome = stage.attack("a loop, `--loop-guard ttl`", 1, volley);
        // Each with 64 hops, of which this one gets every second.
        let forged = u64::from(stage::volleys() + stage::WARM_UP);
        assert!(outcome.received <= 32 * forged, "{}", outcome.summary);
        drop(other);
    }
}
