//! Commands to paste.

use std::net::SocketAddr;

use reflector_measure::target;

/// The wildcard address of the family of `asked`, at its port.
pub(crate) fn wildcard(asked: SocketAddr) -> SocketAddr {
    SocketAddr::new(target::wildcard(asked.ip()), asked.port())
}

/// Deletes entries of connection tracking by their original tuple (conntrack(8)).
pub(crate) fn conntrack_delete(asked: SocketAddr, source: Option<SocketAddr>) -> String {
    let family = if asked.is_ipv6() { " -f ipv6" } else { "" };
    let source = source.map_or_else(String::new, |it| {
        format!(" --orig-src {} --sport {}", it.ip(), it.port())
    });
    format!(
        "conntrack -D{family} -p udp{source} --orig-dst {} --dport {}",
        asked.ip(),
        asked.port()
    )
}

/// Whose host a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one with the port.
    Server,
    /// The one that asks at it.
    Client,
}

/// Exempts `port` from connection tracking, both ways: with one way exempt, the other makes an
/// entry of its own, which finds no room in a full table and is NAT's to translate.
pub(crate) fn untracked(port: u16, side: Side) -> String {
    let (received, sent) = match side {
        Side::Server => ("dport", "sport"),
        Side::Client => ("sport", "dport"),
    };
    format!(
        "nft \"table inet untracked {{ \
         chain prerouting {{ type filter hook prerouting priority raw; \
         udp {received} {port} notrack; }}; \
         chain output {{ type filter hook output priority raw; \
         udp {sent} {port} notrack; }}; }}\""
    )
}
