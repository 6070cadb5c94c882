//! Who may ask, and from which ports.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use reflector::responder::echo::Echo;
use reflector::{Prefixes, Rules};
use reflector_netlab::topology::{DockerHost, Route, net};
use reflector_testkit::in_process::{InProcess, on_port};
use reflector_testkit::queue::Delivered;
use reflector_testkit::train::Client;
use reflector_testkit::{LISTEN, PORT, Reflector, at, on_both_engines, wait_until};

use super::{dropped, ping, start};

on_both_engines! {
    fn rules_are_replaced_while_the_server_runs(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(1);
        let server = InProcess::start(&picture.host, builder, || Echo);
        let asked = at(DockerHost::HOST);
        let mut judged = Client::any(&picture.container, asked);
        let mut other = Client::any(&picture.outside, asked);
        // One worker answers in order: with the other's answer, the fate of the first is known.
        let mut is_answered = || {
            judged.send(b"judged");
            other.send(b"other");
            assert_eq!(other.receive().bytes, b"other");
            !judged.leftover().is_empty()
        };
        assert!(is_answered());
        let mut rules = Rules::default();
        rules.deny = Prefixes::new([IpAddr::from(DockerHost::CONTAINER).into()]);
        server.handle().set_rules(rules);
        wait_until("the new rules refuse", || !is_answered());
        (0..10).for_each(|_| assert!(!is_answered()));
        server.handle().set_rules(Rules::default());
        wait_until("the old rules admit again", &mut is_answered);
        (0..10).for_each(|_| assert!(is_answered()));
        let summary = server.stop();
        assert!(dropped(&summary, "not_allowed") >= 10, "{summary}");
    }

    fn a_loop_guard_can_be_switched_on_while_the_server_runs(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(1);
        let server = InProcess::start(&picture.host, builder, || Echo);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        client.watch_hop_limits();
        client.set_hop_limit(37);
        let mut hops = || {
            client.send(b"ping");
            client.receive().hop_limit
        };
        assert_ne!(hops(), Some(36));
        let mut rules = Rules::default();
        rules.loop_guard = true;
        server.handle().set_rules(rules);
        wait_until("replies have one hop less", || hops() == Some(36));
        server.stop();
    }

    fn an_address_of_the_internet_is_refused_by_default_with_one_warning(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let public = give_a_public_address(&picture);
        let reflector = start(&picture.host, engine, &["--cores", "1"]);
        let mut private = Client::any(&picture.container, at(DockerHost::HOST));
        let mut refused = Client::connect(&picture.container, (public, 0), at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        for _ in 0..3 {
            refused.send(b"hello");
            refused.send_train(&[7; 200], 100);
        }
        delivered.wait_for(6);
        ping(&mut private);
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(dropped(&summary, "not_allowed"), 9, "{summary}");
        assert_eq!(summary["replied"], 1);
        assert!(refused.leftover().is_empty());
        let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains("--allow private,203.0.113.9 or"), "{log}");
    }

    fn allow_replaces_the_default_and_deny_wins(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let public = give_a_public_address(&picture);
        let private = DockerHost::CONTAINER;
        for (args, answered, refused) in [
            (vec!["--allow", "203.0.113.0/24"], public, private),
            (vec!["--allow", "any", "--deny", "private"], public, private),
            (vec!["--allow", "any", "--deny", "172.17.0.0/24"], public, private),
            (vec!["--allow", "any", "--deny", "203.0.113.9"], private, public),
        ] {
            let reflector = start(&picture.host, engine, &[&["--cores", "1"], &args[..]].concat());
            let client =
                |from| Client::connect(&picture.container, (from, 0), at(DockerHost::HOST));
            let (mut answered, mut refused) = (client(answered), client(refused));
            let delivered = Delivered::count(&picture.host);
            refused.send(b"hello");
            delivered.wait_for(1);
            ping(&mut answered);
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(dropped(&summary, "not_allowed"), 1, "{args:?}: {summary}");
            assert_eq!(summary["replied"], 1, "{args:?}: {summary}");
            // Whom --deny names, --allow would not help.
            assert_eq!(log.contains("--allow"), !args.contains(&"--deny"), "{args:?}: {log}");
            assert!(refused.leftover().is_empty());
        }
    }

    fn a_mapped_prefix_is_that_of_its_ipv4_peers(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        for sockets in [LISTEN, &["--listen", "[::]:5151", "--dual-stack"]] {
            let rules = ["--cores", "1", "--deny", "::ffff:172.17.0.3/128"];
            let reflector = Reflector::start(&picture.host, engine, &[sockets, &rules].concat());
            let mut denied = Client::any(&picture.container, at(DockerHost::HOST));
            let mut other = Client::any(&picture.outside, at(DockerHost::HOST));
            let mut over_ipv6 = Client::any(&picture.container, at(DockerHost::HOST_V6));
            let delivered = Delivered::count(&picture.host);
            denied.send(b"hello");
            denied.send_train(&[7; 200], 100);
            delivered.wait_for(2);
            ping(&mut other);
            ping(&mut over_ipv6);
            let summary = reflector.stop();
            assert_eq!(dropped(&summary, "not_allowed"), 3, "{sockets:?}: {summary}");
            assert_eq!(summary["replied"], 2, "{sockets:?}: {summary}");
            assert!(denied.leftover().is_empty());
        }
    }

    fn what_was_reserved_once_is_answered_where_the_lists_allow_it(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let peers = [Ipv4Addr::new(240, 7, 0, 9), Ipv4Addr::new(0, 1, 2, 3)];
        for peer in peers {
            let net = IpNet::from(IpAddr::from(peer));
            picture.container.add_address("eth0", net).unwrap();
            let back = Route::to(net).device("docker0");
            picture.host.add_route(&back).unwrap();
        }
        let from = |peer| Client::connect(&picture.container, (peer, 0), at(DockerHost::HOST));
        for (args, answered) in [
            (&["--allow", "240.0.0.0/4", "--allow", "0.0.0.0/8"][..], 2),
            (&["--allow", "any"], 2),
            (&[], 0),
        ] {
            let args = [&["--cores", "1"], args].concat();
            let reflector = start(&picture.host, engine, &args);
            for peer in peers {
                let mut client = from(peer);
                let delivered = Delivered::count(&picture.host);
                client.send(b"hello");
                delivered.wait_for(1);
                if answered > 0 {
                    client.expect_back(&[b"hello".to_vec()]);
                }
            }
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(summary["replied"], answered, "{args:?}: {summary}");
            assert_eq!(dropped(&summary, "not_allowed"), 2 - answered, "{args:?}: {summary}");
            assert_eq!(log.contains("--allow"), answered == 0, "{log}");
        }
    }

    fn denied_source_ports_get_no_answer(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        // Ports 19 (by default denied), 4444, and the reflector's own, which no option opens.
        for (args, answered) in [
            (&[][..], [false, true, false]),
            (&["--deny-port", "4444,4445"], [true, false, false]),
            (&["--deny-port", "none"], [true, true, false]),
        ] {
            let reflector = start(&picture.host, engine, &[&["--cores", "1"], args].concat());
            let mut replied = 0;
            for (port, is_answered) in [19, 4444, PORT].into_iter().zip(answered) {
                let from = (Ipv4Addr::UNSPECIFIED, port);
                let mut client = Client::connect(&picture.container, from, at(DockerHost::HOST));
                let delivered = Delivered::count(&picture.host);
                client.send(b"hello");
                delivered.wait_for(1);
                if is_answered {
                    client.expect_back(&[b"hello".to_vec()]);
                    replied += 1;
                }
            }
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(summary["replied"], replied, "{args:?}: {summary}");
            assert_eq!(dropped(&summary, "source_port"), 3 - replied, "{args:?}: {summary}");
            // Said once, of whichever came first.
            let warnings: Vec<_> = log.lines().filter(|line| line.contains("WARN")).collect();
            assert_eq!(warnings.len(), 1, "{log}");
            let remedy = if replied < 2 { "--deny-port none" } else { "from another port" };
            assert!(warnings[0].contains(remedy), "{args:?}: {log}");
        }
    }
}

/// Gives the container an address that is routed on the Internet, and the host the way back.
fn give_a_public_address(picture: &DockerHost) -> Ipv4Addr {
    picture
        .container
        .add_address("eth0", net("203.0.113.9/32"))
        .unwrap();
    let back = Route::to(net("203.0.113.0/24")).device("docker0");
    picture.host.add_route(&back).unwrap();
    Ipv4Addr::new(203, 0, 113, 9)
}
