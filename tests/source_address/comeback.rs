//! Interfaces that are deleted and made again under their names, as containers and VPNs do it.

use std::net::{SocketAddr, SocketAddrV6, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, net};
use reflector_testkit::{PORT, Reflector, join, on_both_engines, own_lines, wait_until};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

on_both_engines! {
    fn a_device_that_comes_back_is_listened_on_again(engine: Engine) {
        let link = Link::new();
        let listen = ["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"];
        let args = [&listen[..], &["--device", "v0", "--cores", "2"]].concat();
        let reflector = Reflector::start(&link.server, engine, &args);
        let asked = || [link.asked("10.9.0.1"), link.asked("fd09::1")];
        asked().iter().for_each(|asked| link.assert_answered(*asked));
        for _ in 0..2 {
            link.replace();
            for asked in asked() {
                wait_until("it is listened on again", || link.is_answered(asked));
                link.assert_answered(asked);
            }
        }
        let (_, log) = reflector.stop_with_log();
        let gone = " WARN the interface v0 has gone: nothing is received by it until it is back";
        let back = " INFO bound to the interface v0 again";
        assert_eq!(Vec::from_iter(own_lines(&log)), [gone, back, gone, back]);
    }

    /// Only the socket that it concerns is bound anew; what others are asked is answered all the
    /// while.
    fn a_scope_that_comes_back_is_listened_on_again_and_others_lose_nothing(engine: Engine) {
        let link = Link::new();
        let index = link.server.interface_index("v0").unwrap();
        let scoped = format!("[fe80::9%{index}]:5151");
        let args = ["--listen", "0.0.0.0:5151", "--listen", &scoped, "--cores", "1"];
        let reflector = Reflector::start(&link.server, engine, &args);
        link.assert_answered(link.asked("fe80::9"));
        let is_over = AtomicBool::new(false);
        let asked_meanwhile = thread::scope(|scope| {
            let other = scope.spawn(|| {
                let loopback = SocketAddr::from(([127, 0, 0, 1], PORT));
                let client = connect(&link.server, loopback);
                let mut count = 0;
                while !is_over.load(Ordering::Relaxed) {
                    client.send(b"ping").unwrap();
                    assert_eq!(client.recv(&mut [0; 8]).unwrap(), 4);
                    count += 1;
                }
                count
            });
            link.replace();
            wait_until("it is listened on again", || link.is_answered(link.asked("fe80::9")));
            is_over.store(true, Ordering::Relaxed);
            other.join().unwrap()
        });
        link.assert_answered(link.asked("fe80::9"));
        let (summary, log) = reflector.stop_with_log();
        assert!(summary["replied"].as_u64() >= Some(asked_meanwhile), "{summary}");
        assert!(log.contains(" INFO bound to the interface v0 again"), "{log}");
    }

    /// It would be deaf for good: whoever watches over it can start it anew.
    fn where_it_may_not_be_bound_again_the_process_ends_with_the_reason(engine: Engine) {
        let link = Link::new();
        let listen = ["--listen", "0.0.0.0:5151", "--device", "v0"];
        let args = [&listen[..], &["--json", "--engine", engine.name()]].concat();
        let child = link.server.run(|| {
            remove_capability_from_bounding_set(CapabilitySet::NET_RAW).unwrap();
            reflector_testkit::command(&args).spawn().unwrap()
        });
        let reflector = Reflector::attach(child);
        link.assert_answered(link.asked("10.9.0.1"));
        link.replace();
        let (summary, log, status) = reflector.wait();
        assert_eq!(status.code(), Some(1));
        assert_eq!(summary["type"], "summary");
        let sentence = "ERROR cannot bind to the interface v0 again: Operation not permitted";
        assert!(log.contains(sentence), "{log}");
    }
}

/// A server and a peer with one link between them, `v0` at both ends.
struct Link {
    server: Namespace,
    peer: Namespace,
}

impl Link {
    fn new() -> Self {
        let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let link = Self { server, peer };
        link.make();
        link
    }

    fn make(&self) {
        join(&self.server, &self.peer, "v0");
        self.server.add_address("v0", net("fe80::9/64")).unwrap();
        self.server.wait_ready("v0").unwrap();
    }

    /// Deletes the link and makes it again, under the same name and with the same addresses.
    fn replace(&self) {
        let index = || self.server.interface_index("v0").unwrap();
        let before = index();
        self.server.delete_link("v0").unwrap();
        self.make();
        assert_ne!(index(), before, "it is another one to the kernel");
    }

    /// Where the peer asks the server at `ip`.
    fn asked(&self, ip: &str) -> SocketAddr {
        match super::ip(ip) {
            std::net::IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                let scope = self.peer.interface_index("v0").unwrap();
                SocketAddrV6::new(ip, PORT, 0, scope).into()
            }
            ip => SocketAddr::new(ip, PORT),
        }
    }

    /// Whether an answer comes within a moment.
    fn is_answered(&self, asked: SocketAddr) -> bool {
        let client = connect(&self.peer, asked);
        client
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        // Refused while nobody listens there.
        client.send(b"ping").is_ok() && client.recv(&mut [0; 8]).is_ok()
    }

    /// Asks from so many ports that every worker is asked.
    fn assert_answered(&self, asked: SocketAddr) {
        for _ in 0..20 {
            let client = connect(&self.peer, asked);
            client.send(b"ping").unwrap();
            assert_eq!(client.recv(&mut [0; 8]).unwrap(), 4);
        }
    }
}

/// A client in `namespace` that takes answers from `asked` only, and waits long for them.
fn connect(namespace: &Namespace, asked: SocketAddr) -> UdpSocket {
    let any = if asked.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let client = namespace.run(|| UdpSocket::bind(any).unwrap());
    client
        .set_read_timeout(Some(reflector_testkit::PATIENCE))
        .unwrap();
    client.connect(asked).unwrap();
    client
}
