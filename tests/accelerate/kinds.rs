//! Devices of other kinds than veth and bridge: each answers whole, and the sockets have nothing.

use std::io::ErrorKind;
use std::process::{Child, Command};

use reflector_accelerate::Way;
use reflector_netlab::topology::{Namespace, net, skip};
use reflector_testkit::{PORT, wait_until};

use crate::in_namespaces;
use crate::stage::{Accelerated, ask_all, everybody, ip};

/// Two namespaces with a link called `wire` between them, without addresses.
fn two() -> (Namespace, Namespace) {
    let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    server.add_veth("wire", &peer, "wire").unwrap();
    (server, peer)
}

#[test]
fn vxlan_answers() {
    in_namespaces("kinds::vxlan", || {
        let (server, peer) = two();
        for (namespace, host, other) in [(&server, 1, 2), (&peer, 2, 1)] {
            let under = net(&format!("10.8.0.{host}/24"));
            namespace.add_address("wire", under).unwrap();
            namespace.set_up("wire").unwrap();
            let add = "link add vx0 type vxlan id 7 dstport 4789";
            ip(
                namespace,
                &format!("{add} local 10.8.0.{host} remote 10.8.0.{other}"),
            );
            for address in [format!("10.9.0.{host}/24"), format!("fd09::{host}/64")] {
                namespace.add_address("vx0", net(&address)).unwrap();
            }
            namespace.set_up("vx0").unwrap();
        }
        for namespace in [&server, &peer] {
            namespace.wait_ready("wire").unwrap();
        }
        all_is_answered(&server, "vx0", &peer);
    });
}

#[test]
fn macvlan_answers() {
    in_namespaces("kinds::macvlan", || {
        let (server, peer) = two();
        server.set_up("wire").unwrap();
        // Else the device below answers ARP for its address, and gets what is asked.
        server.set_sysctl("ipv4/conf/wire/arp_ignore", "1").unwrap();
        ip(
            &server,
            "link add link wire name mv0 type macvlan mode bridge",
        );
        for (namespace, link, host) in [(&server, "mv0", 1), (&peer, "wire", 2)] {
            for address in [format!("10.9.0.{host}/24"), format!("fd09::{host}/64")] {
                namespace.add_address(link, net(&address)).unwrap();
            }
            namespace.set_up(link).unwrap();
        }
        for (namespace, link) in [(&server, "mv0"), (&peer, "wire")] {
            namespace.wait_ready(link).unwrap();
        }
        all_is_answered(&server, "mv0", &peer);
    });
}

fn all_is_answered(server: &Namespace, device: &str, peer: &Namespace) {
    let own = ["10.9.0.1", "fd09::1"];
    let accelerated = Accelerated::at(server, (device, Way::Plain), &own, PORT, everybody());
    let count: usize = own.iter().map(|ip| ask_all(peer, ip)).sum();
    assert_eq!(accelerated.counted().datagrams, count as u64);
    assert_eq!(accelerated.counted().trains, 4);
}

/// Frames of a tun begin with the IP header. What comes out at one end is carried to the other, as
/// a VPN does.
#[test]
fn tun_answers_without_a_link_header() {
    in_namespaces("kinds::tun", || {
        let (server, peer) = two();
        for (namespace, host) in [(&server, 1), (&peer, 2)] {
            let under = net(&format!("10.8.0.{host}/24"));
            namespace.add_address("wire", under).unwrap();
            namespace.set_up("wire").unwrap();
        }
        for namespace in [&server, &peer] {
            namespace.wait_ready("wire").unwrap();
        }
        let Some(_ends) = carry(&server, 1, 2).zip(carry(&peer, 2, 1)) else {
            return skip("kinds::tun", "clients", "no socat");
        };
        for (namespace, host) in [(&server, 1), (&peer, 2)] {
            wait_until("tun0 is there", || {
                namespace.interface_index("tun0").is_ok()
            });
            for address in [format!("10.9.0.{host}/24"), format!("fd09::{host}/64")] {
                namespace.add_address("tun0", net(&address)).unwrap();
            }
            // What fills a frame is not cut, and goes into one of the link.
            namespace.set_mtu("tun0", 1460).unwrap();
            namespace.set_up("tun0").unwrap();
        }
        let own = ["10.9.0.1", "fd09::1"];
        let accelerated = Accelerated::at(&server, ("tun0", Way::Plain), &own, PORT, everybody());
        let count: usize = own.iter().map(|ip| ask_all(&peer, ip)).sum();
        assert_eq!(accelerated.counted().datagrams, count as u64);
        // Without IFF_VNET_HDR a train is cut where it leaves.
        assert_eq!(accelerated.counted().trains, 0);
    });
}

/// Carries packets between a tun of `namespace` and the other end's, until it is dropped.
fn carry(namespace: &Namespace, host: u8, other: u8) -> Option<Ended> {
    let tun = "TUN,tun-name=tun0,tun-type=tun,iff-no-pi";
    let link = format!("UDP4-DATAGRAM:10.8.0.{other}:4000,bind=10.8.0.{host}:4000");
    let mut command = Command::new("socat");
    command.args(["-b", "2000", tun, &link]);
    match namespace.run(|| command.spawn()) {
        Ok(child) => Some(Ended(child)),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// Killed when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
