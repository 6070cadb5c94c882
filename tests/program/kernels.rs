//! Kernels that refuse a socket option, as those do that run in user space.

use std::net::UdpSocket;

use reflector_netlab::topology::Namespace;
use reflector_testkit::seccomp::{ignore_option, refuse_option};
use reflector_testkit::{Client, Reflector, command, on_both_engines, own_lines};

use super::{FAILED, assert_refused};

const LISTEN: [&str; 3] = ["--listen", "0.0.0.0:9007,[::]:9007", "--json"];

on_both_engines! {
    fn what_only_makes_replies_faster_or_finer_is_done_without(engine: Engine) {
        let host = Namespace::new().unwrap();
        for (level, option, name) in [
            (libc::SOL_UDP, libc::UDP_GRO, "UDP_GRO"),
            (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
            (libc::SOL_IP, libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER"),
            (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER"),
            (libc::SOL_IPV6, libc::IPV6_FREEBIND, "IPV6_FREEBIND"),
        ] {
            let args = [&LISTEN[..], &["--engine", engine.name(), "--cores", "2"]].concat();
            let child = host.run(|| {
                refuse_option(level, option);
                command(&args).spawn().unwrap()
            });
            let reflector = Reflector::attach(child);
            for asked in ["127.0.0.1:9007", "[::1]:9007"] {
                Client::connect(&host, asked.parse().unwrap()).ask(b"without");
            }
            let (summary, log) = reflector.stop_with_log();
            assert_eq!(summary["replied"], 2, "{name}: {summary}");
            let start = format!(
                " WARN the kernel refuses the socket option {name} (Operation not supported"
            );
            let told = Vec::from_iter(own_lines(&log));
            assert!(told.len() == 1 && told[0].starts_with(&start), "{log}");
        }
    }

    /// Accepted, and never delivered.
    fn where_the_kernel_does_not_say_which_address_was_asked_it_is_told(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = [&LISTEN[..], &["--engine", engine.name(), "--interval", "10ms"]].concat();
        let child = host.run(|| {
            ignore_option(libc::SOL_IP, libc::IP_PKTINFO);
            command(&args).spawn().unwrap()
        });
        let reflector = Reflector::attach(child);
        let asking = host.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
        for _ in 0..2 {
            asking.send_to(b"ping", "127.0.0.1:9007").unwrap();
            reflector.wait_for_report("a drop", |it| it["dropped"]["no_pktinfo"] == 1);
        }
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(summary["dropped"]["no_pktinfo"], 2, "{summary}");
        let start = " WARN datagrams are dropped as no_pktinfo (this is said once): the kernel ";
        let told = Vec::from_iter(own_lines(&log));
        assert!(told.len() == 1 && told[0].starts_with(start), "{log}");
        assert!(log.contains("listen on each address itself"), "{log}");
    }

    fn what_is_needed_is_named(engine: Engine) {
        let host = Namespace::new().unwrap();
        for (level, option, name, more) in [
            (libc::SOL_IP, libc::IP_PKTINFO, "IP_PKTINFO", ""),
            (libc::SOL_IPV6, libc::IPV6_V6ONLY, "IPV6_V6ONLY", ""),
            (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", ""),
            (libc::SOL_IP, libc::IP_RECVTTL, "IP_RECVTTL", "--loop-guard=ttl"),
            (libc::SOL_IP, libc::IP_MTU_DISCOVER, "IP_MTU_DISCOVER", "--df"),
            (libc::SOL_IP, libc::IP_FREEBIND, "IP_FREEBIND", "--freebind"),
        ] {
            let mut args = [&LISTEN[..], &["-d", "1ms", "--engine", engine.name()]].concat();
            args.extend(Some(more).filter(|it| !it.is_empty()));
            let output = host.run(|| {
                refuse_option(level, option);
                command(&args).output().unwrap()
            });
            let addr = if level == libc::SOL_IPV6 { "[::]:9007" } else { "0.0.0.0:9007" };
            let sentence = format!(
                "ERROR cannot set the socket option {name} for {addr}: Operation not supported \
                 (os error 95)"
            );
            assert_refused(&output, FAILED, &sentence);
        }
    }
}
