//! Sockets that go from one server to the next, and what each of them is.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

/// What a socket of a server is, so that another one can go on with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketLabel {
    /// The address that is listened on.
    pub listen: SocketAddr,
    /// What the socket does there.
    #[serde(flatten)]
    pub role: SocketRole,
    /// Whether whoever opened it keeps it for good, for the next server: it must never be shut.
    pub is_kept: bool,
}

/// What a socket does for an address that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
#[non_exhaustive]
pub enum SocketRole {
    /// It receives.
    Receiver {
        /// Its number among those that receive there: they form a reuseport group.
        number: usize,
    },
    /// It sends the replies of the receiver with its number.
    Sender {
        /// That number.
        number: usize,
    },
    /// It sends what the others have no room for.
    Detour {
        /// Whether to IPv6 peers.
        to_ipv6: bool,
        /// Its number among those.
        lane: u8,
    },
}

/// A socket of another server, or of whoever opens sockets for servers.
#[derive(Debug)]
pub struct Inherited {
    /// What it is.
    pub label: SocketLabel,
    /// The socket.
    pub fd: OwnedFd,
}

/// The sockets of one listener.
#[derive(Debug, Default)]
pub struct Group {
    /// By number, with the sender that has the same one.
    pub receivers: Vec<(OwnedFd, Option<OwnedFd>)>,
    /// For IPv4 peers, and for IPv6 peers, by lane.
    pub detours: [Vec<OwnedFd>; 2],
}

/// What was inherited, by the address that is listened on.
#[derive(Debug)]
pub struct Pool(Vec<(SocketAddr, Group)>);

#[derive(Default)]
struct ByNumber {
    receivers: BTreeMap<usize, OwnedFd>,
    senders: BTreeMap<usize, OwnedFd>,
    detours: [BTreeMap<u8, OwnedFd>; 2],
}

impl Pool {
    /// Sorts `sockets`. The addresses keep the order in which they come first.
    pub fn new(sockets: Vec<Inherited>) -> Self {
        let mut groups: Vec<(SocketAddr, ByNumber)> = Vec::new();
        for Inherited { label, fd } in sockets {
            let known = groups.iter().position(|(addr, _)| *addr == label.listen);
            let index = known.unwrap_or_else(|| {
                groups.push((label.listen, ByNumber::default()));
                groups.len() - 1
            });
            let group = &mut groups[index].1;
            match label.role {
                SocketRole::Receiver { number } => _ = group.receivers.insert(number, fd),
                SocketRole::Sender { number } => _ = group.senders.insert(number, fd),
                SocketRole::Detour { to_ipv6, lane } => {
                    group.detours[usize::from(to_ipv6)].insert(lane, fd);
                }
            }
        }
        let sorted = groups.into_iter().map(|(addr, group)| {
            let ByNumber {
                receivers,
                mut senders,
                detours,
            } = group;
            let receivers = receivers.into_iter();
            let group = Group {
                receivers: receivers
                    .map(|(number, fd)| (fd, senders.remove(&number)))
                    .collect(),
                detours: detours.map(|lanes| lanes.into_values().collect()),
            };
            (addr, group)
        });
        Self(sorted.filter(|(_, it)| !it.receivers.is_empty()).collect())
    }

    /// Takes out the sockets of the address that is listened on with `wanted`: that very one, or
    /// with port 0 the first of the same host; with the address, which has the port.
    pub fn take(&mut self, wanted: SocketAddr) -> Option<(SocketAddr, Group)> {
        let is_it = |addr: SocketAddr| match wanted.port() {
            0 => host(addr) == host(wanted),
            _ => addr == wanted,
        };
        let index = self.0.iter().position(|(addr, _)| is_it(*addr))?;
        Some(self.0.remove(index))
    }

    /// The addresses that nobody has taken.
    pub fn left(&self) -> impl Iterator<Item = SocketAddr> {
        self.0.iter().map(|(addr, _)| *addr)
    }
}

fn host(addr: SocketAddr) -> (IpAddr, u32) {
    match addr {
        SocketAddr::V4(v4) => ((*v4.ip()).into(), 0),
        SocketAddr::V6(v6) => ((*v6.ip()).into(), v6.scope_id()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn socket(listen: &str, role: SocketRole) -> Inherited {
        let listen = listen.parse().unwrap();
        Inherited {
            label: SocketLabel {
                listen,
                role,
                is_kept: false,
            },
            fd: UdpSocket::bind("127.0.0.1:0").unwrap().into(),
        }
    }

    #[test]
    fn sockets_come_back_by_address_and_in_the_order_of_their_numbers() {
        let receiver = |number| SocketRole::Receiver { number };
        let sockets = vec![
            socket("127.0.0.1:7", receiver(1)),
            socket("127.0.0.1:7", receiver(0)),
            socket("127.0.0.1:7", SocketRole::Sender { number: 1 }),
            socket("[::1]:7", receiver(0)),
            socket(
                "[::1]:9",
                SocketRole::Detour {
                    to_ipv6: true,
                    lane: 0,
                },
            ),
        ];
        let mut pool = Pool::new(sockets);
        assert!(pool.take("127.0.0.1:8".parse().unwrap()).is_none());
        let (addr, group) = pool.take("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(addr.port(), 7);
        let has_sender = group.receivers.iter().map(|(_, it)| it.is_some());
        assert_eq!(Vec::from_iter(has_sender), [false, true]);
        // What nobody can be received from by is nothing to go on with.
        assert_eq!(
            Vec::from_iter(pool.left()),
            ["[::1]:7".parse::<SocketAddr>().unwrap()]
        );
    }
}
