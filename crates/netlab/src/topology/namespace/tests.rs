//! What a namespace does, seen from inside.

use std::process::Command;

use super::*;
use crate::topology::require::in_namespaces;
use crate::topology::route::net;
use std::net::UdpSocket;

fn path(test: &str) -> String {
    format!("topology::namespace::tests::{test}")
}

#[test]
fn a_namespace_is_empty_and_its_own() {
    in_namespaces(&path("a_namespace_is_empty_and_its_own"), || {
        let namespace = Namespace::new().unwrap();
        let devices = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"));
        assert_eq!(
            devices
                .unwrap()
                .lines()
                .filter(|line| line.contains(':'))
                .count(),
            1
        );
        let (one, other) = (
            namespace.run(|| UdpSocket::bind("127.0.0.1:5151").unwrap()),
            Namespace::new()
                .unwrap()
                .run(|| UdpSocket::bind("127.0.0.1:5151").unwrap()),
        );
        one.set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        other.send_to(b"lost", "127.0.0.1:5151").unwrap();
        one.recv_from(&mut [0; 8]).unwrap_err();
    });
}

#[test]
fn children_live_in_the_namespace() {
    in_namespaces(&path("children_live_in_the_namespace"), || {
        let namespace = Namespace::new().unwrap();
        let own = namespace.run(|| fs::read_link("/proc/thread-self/ns/net").unwrap());
        let output = namespace
            .run(|| Command::new("readlink").arg("/proc/self/ns/net").output())
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            own.to_str().unwrap()
        );
        assert_ne!(fs::read_link("/proc/thread-self/ns/net").unwrap(), own);
    });
}

#[test]
fn a_panic_inside_comes_out_with_its_payload() {
    in_namespaces(&path("a_panic_inside_comes_out_with_its_payload"), || {
        let namespace = Namespace::new().unwrap();
        let name = thread::current().name().map(str::to_owned);
        assert_eq!(
            namespace.run(|| thread::current().name().map(str::to_owned)),
            name
        );
        let inside =
            panic::AssertUnwindSafe(|| namespace.run(|| panic::resume_unwind(Box::new(7))));
        let payload = panic::catch_unwind(inside).map(|()| 0).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&7));
    });
}

/// A datagram from the namespace to itself at `ip`, received on a wildcard socket.
fn reach(namespace: &Namespace, ip: IpAddr) -> io::Result<()> {
    let wildcard = if ip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = namespace.run(|| UdpSocket::bind(wildcard))?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send_to(b"self", (ip, socket.local_addr()?.port()))?;
    socket.recv_from(&mut [0; 8]).map(drop)
}

#[test]
fn addresses_and_routes_come_and_go() {
    in_namespaces(&path("addresses_and_routes_come_and_go"), || {
        let namespace = Namespace::new().unwrap();
        namespace.add_bridge("br0").unwrap();
        namespace.set_up("br0").unwrap();
        namespace.set_mtu("br0", 1300).unwrap();
        let bind = |ip: &str| namespace.run(|| UdpSocket::bind((ip, 0)).map(drop));
        for address in ["198.18.0.1/24", "fd98::1/64"] {
            let ip = address.split_once('/').unwrap().0;
            bind(ip).unwrap_err();
            namespace.add_address("br0", net(address)).unwrap();
            bind(ip).unwrap();
            let error = namespace.add_address("br0", net(address)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            assert!(error.to_string().contains(address), "{error}");
            namespace.delete_address("br0", net(address)).unwrap();
            bind(ip).unwrap_err();
        }
        for anywhere in ["198.18.9.0/24", "fd99::/64"] {
            let ip = net(anywhere).hosts().nth(6).unwrap();
            let route = Route::local(net(anywhere));
            reach(&namespace, ip).unwrap_err();
            namespace.add_route(&route).unwrap();
            reach(&namespace, ip).unwrap();
            let error = namespace.add_route(&route).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{error}");
            namespace.delete_route(&route).unwrap();
            reach(&namespace, ip).unwrap_err();
        }
        let index = namespace.interface_index("br0").unwrap();
        assert!(index > 1);
    });
}

/// The kernel makes IPv6 addresses known to its routing from a work queue.
#[test]
fn an_address_is_reachable_as_soon_as_it_is_added() {
    in_namespaces(
        &path("an_address_is_reachable_as_soon_as_it_is_added"),
        || {
            let namespace = Namespace::new().unwrap();
            namespace.add_bridge("br0").unwrap();
            namespace.set_up("br0").unwrap();
            for address in ["198.18.0.1/24", "fd98::1/64"].map(net) {
                for _ in 0..50 {
                    namespace.add_address("br0", address).unwrap();
                    reach(&namespace, address.addr()).unwrap();
                    namespace.delete_address("br0", address).unwrap();
                }
            }
        },
    );
}
