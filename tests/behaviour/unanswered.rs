//! What gets no answer, since that could come from a wrong address.

use std::net::SocketAddr;

use reflector::DropReason;
use reflector::internals::socket::Socket;
use reflector_netlab::capture::Capture;
use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, in_namespaces};
use reflector_testkit::in_process::{answer_queued, config, open_socket};
use reflector_testkit::queue::Delivered;
use reflector_testkit::train::Client;
use reflector_testkit::wire::{Udp, outgoing, outgoing_udp};
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, at, on_both_engines};
use reflector_udp::sockopt;

use super::{EVERYBODY, dropped, ping, shout};

on_both_engines! {
    fn broadcast_and_multicast_get_no_answer_from_any_worker(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        // IPv4 multicast does not reach an AF_INET6 socket that has joined no group.
        let dual_stack = ["--listen", "[::]:5151", "--dual-stack", "--cores", "4"];
        for (args, unheard) in [
            ([LISTEN, &["--cores", "4"]].concat(), 0),
            (dual_stack.to_vec(), 1),
        ] {
            let reflector = Reflector::start(&picture.host, engine, &args);
            let capture = Capture::start(&picture.host, "veth1").unwrap();
            let delivered = Delivered::count(&picture.host);
            let shouted = shout(&picture, &EVERYBODY);
            delivered.wait_for(shouted);
            let mut client = Client::any(&picture.container, at(DockerHost::HOST));
            ping(&mut client);
            let (summary, log) = reflector.stop_with_log();
            let told = " WARN datagrams are dropped as not_unicast (this is said once): ";
            assert_eq!(log.matches(told).count(), 1, "{log}");
            // Every worker got every one of them.
            assert_eq!(dropped(&summary, "not_unicast"), 4 * (shouted - unheard), "{summary}");
            assert_eq!(summary["replied"], 1);
            let pong = Udp { source: at(DockerHost::HOST), destination: client.addr(), len: 4 };
            assert_eq!(outgoing_udp(capture), [pong]);
        }
    }

    /// Where the kernel does not say which address was asked, any answer could be wrong.
    fn what_the_kernel_does_not_tell_is_not_answered(engine: Engine) {
        for (listen, asked, level, option) in [
            ("0.0.0.0:5151", at(DockerHost::HOST), libc::SOL_IP, libc::IP_PKTINFO),
            ("[::]:5151", at(DockerHost::HOST_V6), libc::SOL_IPV6, libc::IPV6_RECVPKTINFO),
        ] {
            assert_silent(engine, listen, asked, DropReason::NoPktinfo, |socket| {
                sockopt::set_int(socket, level, option, 0).unwrap();
            });
        }
    }

    /// Control messages that were cut off may be those that say which address was asked.
    fn what_is_cut_off_is_not_answered(engine: Engine) {
        /// Three stamps, the largest of the control messages that fill the room for others.
        const STAMPS: u32 = libc::SOF_TIMESTAMPING_RX_SOFTWARE | libc::SOF_TIMESTAMPING_SOFTWARE;
        let asked = at(DockerHost::HOST);
        assert_silent(engine, "0.0.0.0:5151", asked, DropReason::Truncated, |socket| {
            let set = |level, option, on| sockopt::set_int(socket, level, option, on).unwrap();
            set(libc::SOL_SOCKET, libc::SO_TIMESTAMPING, STAMPS as i32);
            for option in [libc::IP_RECVTOS, libc::IP_RECVTTL, libc::IP_RECVORIGDSTADDR] {
                set(libc::SOL_IP, option, 1);
            }
        });
    }
}

/// Of ten datagrams to a socket that `spoil` has changed, none is answered, and all are dropped for
/// `reason`.
fn assert_silent(
    engine: Engine,
    listen: &str,
    asked: SocketAddr,
    reason: DropReason,
    spoil: impl FnOnce(&Socket),
) {
    let picture = DockerHost::new().unwrap();
    let config = config(engine);
    let socket = open_socket(&picture.host, &config, listen);
    spoil(&socket);
    let mut client = Client::any(&picture.container, asked);
    let delivered = Delivered::count(&picture.host);
    (0..10).for_each(|_| client.send(b"who am I?"));
    delivered.wait_for(10);
    let stats = answer_queued(&config, socket);
    let dropped: Vec<_> = stats.counters().dropped().filter(|it| it.1 > 0).collect();
    assert_eq!((stats.counters().replied, dropped), (0, vec![(reason, 10)]));
    assert!(client.leftover().is_empty());
}

/// The control of the broadcast case: a server that looks at nothing answers everybody.
#[test]
fn a_naive_server_answers_broadcasts() {
    in_namespaces("unanswered::a_naive_server_answers_broadcasts", || {
        let picture = DockerHost::new().unwrap();
        let _server = NaiveServer::start(&picture.host, Wildcard::Ipv4, PORT).unwrap();
        let capture = Capture::start(&picture.host, "veth1").unwrap();
        let delivered = Delivered::count(&picture.container);
        let shouted = shout(&picture, &EVERYBODY[..3]);
        delivered.wait_for(shouted);
        let answers = outgoing(capture);
        assert_eq!(answers.len() as u64, shouted);
        assert!(
            answers
                .iter()
                .all(|it| it.source == at(DockerHost::DOCKER0))
        );
    });
}
