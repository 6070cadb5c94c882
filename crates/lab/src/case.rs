//! The six questions: who asks, whom, at which address, through what, and what must come of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reflector_netlab::topology::{DockerHost, Namespace, NftError};

/// One situation in which the source of an answer matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Case {
    /// A container asks its own host, at another address than the bridge's
    Hairpin,
    /// A container asks another machine through NAT, at that machine's second address
    Nat,
    /// The same through a stateful filter, without NAT
    Filter,
    /// The hairpin in IPv6
    Ipv6,
    /// An IPv4 question to a server on a dual-stack socket
    DualStack,
    /// The usual remedy: a server bound to one address only
    Specific,
}

/// Where the server of a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On the host with docker0.
    Host,
    /// On the machine beyond the host's eth0.
    Outside,
}

impl Case {
    /// All of them, in the order shown.
    pub const ALL: [Case; 6] = [
        Case::Hairpin,
        Case::Nat,
        Case::Filter,
        Case::Ipv6,
        Case::DualStack,
        Case::Specific,
    ];

    /// Its name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Case::Hairpin => "hairpin",
            Case::Nat => "nat",
            Case::Filter => "filter",
            Case::Ipv6 => "ipv6",
            Case::DualStack => "dual-stack",
            Case::Specific => "specific",
        }
    }

    /// What it is, in a line.
    pub fn summary(self) -> &'static str {
        match self {
            Case::Hairpin => "A container asks its own host, at another address than the bridge's",
            Case::Nat => {
                "A container asks another machine through NAT, at that machine's second address"
            }
            Case::Filter => "The same through a stateful filter, without NAT",
            Case::Ipv6 => "The hairpin in IPv6",
            Case::DualStack => "An IPv4 question to a server on a dual-stack socket",
            Case::Specific => "The usual remedy: a server bound to one address only",
        }
    }

    /// What happens in it, in a sentence.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Case::Hairpin => {
                "The container asks its own host, at eth0's address. The host's shortest way back \
                 is docker0, which has an address of its own."
            }
            Case::Nat => {
                "The container asks another machine, at its second address. The host masquerades \
                 the question as its own and waits for the answer, to undo that."
            }
            Case::Filter => {
                "The container asks another machine, at its second address. The host forwards \
                 only answers to questions that it saw."
            }
            Case::Ipv6 => "The container asks its own host over IPv6, at eth0's address.",
            Case::DualStack => {
                "The container asks its own host over IPv4; the server has one [::] socket for \
                 both families, to which the container is ::ffff:172.17.0.3."
            }
            Case::Specific => {
                "The same question to servers that are bound to that one address. This is the \
                 usual way around the bug; every other address of the host is then deaf."
            }
        }
    }

    /// What a wrong source leads to here.
    pub(crate) fn consequence(self) -> &'static str {
        match self {
            Case::Hairpin | Case::Ipv6 | Case::DualStack | Case::Specific => {
                "The client is connected to the address it asked, so its kernel knows no such \
                 peer and refuses the answer."
            }
            Case::Nat => {
                "conntrack waits for an answer from the address asked, so the masquerade is not \
                 undone: the host takes the answer for its own and refuses it."
            }
            Case::Filter => {
                "conntrack knows no flow with that source, so the host drops the answer in \
                 silence."
            }
        }
    }

    /// The address that the client asks.
    pub(crate) fn asked(self) -> IpAddr {
        match self {
            Case::Hairpin | Case::DualStack | Case::Specific => DockerHost::HOST.into(),
            Case::Nat | Case::Filter => DockerHost::OUTSIDE_SECOND.into(),
            Case::Ipv6 => DockerHost::HOST_V6.into(),
        }
    }

    /// The address that the server is to bind.
    pub(crate) fn bind(self) -> IpAddr {
        match self {
            Case::Hairpin | Case::Nat | Case::Filter => Ipv4Addr::UNSPECIFIED.into(),
            Case::Ipv6 | Case::DualStack => Ipv6Addr::UNSPECIFIED.into(),
            Case::Specific => self.asked(),
        }
    }

    /// The client's address and port. The port is fixed, so that runs look alike: the namespaces
    /// are new, so it is free.
    pub(crate) fn client(self) -> SocketAddr {
        const PORT: u16 = 40000;
        match self {
            Case::Ipv6 => SocketAddr::new(DockerHost::CONTAINER_V6.into(), PORT),
            _ => SocketAddr::new(DockerHost::CONTAINER.into(), PORT),
        }
    }

    /// The machine that the server runs on.
    pub(crate) fn place(self) -> Place {
        match self {
            Case::Nat | Case::Filter => Place::Outside,
            _ => Place::Host,
        }
    }

    /// The namespace that the server runs in.
    pub(crate) fn server_namespace(self, picture: &DockerHost) -> &Namespace {
        match self.place() {
            Place::Host => &picture.host,
            Place::Outside => &picture.outside,
        }
    }

    /// The host's interfaces that are captured, the one next to the server last.
    pub(crate) fn interfaces(self) -> &'static [&'static str] {
        match self.place() {
            Place::Host => &["docker0"],
            Place::Outside => &["docker0", "eth0"],
        }
    }

    /// Whether the naive server is expected to answer from a wrong source.
    pub(crate) fn fools_naive(self) -> bool {
        self != Case::Specific
    }

    /// The rules of this case in force on the host of `picture`.
    ///
    /// # Errors
    /// `Missing` where the case needs `nft` and there is none; else what `nft` said.
    pub(crate) fn put_in_force(self, picture: &DockerHost) -> Result<(), NftError> {
        match self {
            Case::Nat => picture.masquerade(),
            Case::Filter => picture.stateful_filter(),
            Case::Hairpin | Case::Ipv6 | Case::DualStack | Case::Specific => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_server_and_question_are_of_one_family() {
        for case in Case::ALL {
            assert_eq!(case.client().is_ipv4(), case.asked().is_ipv4());
            assert!(case.bind().is_ipv6() || case.asked().is_ipv4());
        }
    }
}
