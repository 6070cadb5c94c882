//! Which addresses are listened on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::settings::{DEFAULT_PORT, Listener};
use reflector_measure::error::Error;

/// Where to listen, of what is `wanted`: none covers another.
///
/// # Errors
/// An address that no reply can come from, or that another covers.
pub fn listeners(wanted: &[Listener], dual_stack: bool) -> Result<Vec<Listener>, Error> {
    if wanted.is_empty() {
        return Ok(default_listeners(dual_stack));
    }
    let mut listen: Vec<Listener> = Vec::new();
    for listener in wanted {
        let addr = canonical(listener.addr);
        check_listener(addr, dual_stack)?;
        if let Some(other) = listen.iter().find(|other| covers(other.addr, addr)) {
            return Err(Error::usage(
                format!("cannot reflect on {addr}"),
                format!("--listen {} covers it already", other.addr),
            ));
        }
        listen.push(Listener { addr, ..*listener });
    }
    Ok(listen)
}

fn default_listeners(dual_stack: bool) -> Vec<Listener> {
    let v4 = Listener::new((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into());
    let v6 = Listener {
        is_optional: !dual_stack,
        ..Listener::new((Ipv6Addr::UNSPECIFIED, DEFAULT_PORT).into())
    };
    if dual_stack { vec![v6] } else { vec![v4, v6] }
}

/// `addr`, as IPv4 where it is v4-mapped: `[::ffff:0.0.0.0]` is a wildcard that does not look like
/// one.
fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => {
            SocketAddr::new(addr.ip().to_canonical(), addr.port())
        }
        _ => addr,
    }
}

fn check_listener(addr: SocketAddr, dual_stack: bool) -> Result<(), Error> {
    let refuse = |said: &str| Err(Error::usage(format!("cannot reflect on {addr}"), said));
    if addr.ip().is_multicast() || addr.ip() == Ipv4Addr::BROADCAST {
        return refuse(
            "no reply can come from a multicast or broadcast address; listen on a unicast address \
             or a wildcard",
        );
    }
    if dual_stack && !(addr.is_ipv6() && addr.ip().is_unspecified()) {
        return refuse("--dual-stack is for the wildcard [::] only");
    }
    Ok(())
}

/// Whether one of the two receives what is sent to the other.
fn covers(a: SocketAddr, b: SocketAddr) -> bool {
    let same_port = a.port() == b.port() && a.port() != 0;
    let scope = |addr| match addr {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let is_same = a.ip() == b.ip() && scope(a) == scope(b);
    let meets = is_same || a.ip().is_unspecified() || b.ip().is_unspecified();
    same_port && a.is_ipv4() == b.is_ipv4() && meets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(addrs: &[&str], dual_stack: bool) -> Result<Vec<Listener>, Error> {
        let wanted = addrs
            .iter()
            .map(|addr| Listener::new(addr.parse().unwrap()));
        listeners(&Vec::from_iter(wanted), dual_stack)
    }

    fn said(addrs: &[&str], dual_stack: bool) -> String {
        let error = listen(addrs, dual_stack).unwrap_err();
        assert!(error.is_usage());
        error.to_string()
    }

    #[test]
    fn listening_twice_on_the_same_is_refused() {
        let text = said(&["0.0.0.0:9", "10.0.0.1:9"], false);
        assert_eq!(
            text,
            "cannot reflect on 10.0.0.1:9: --listen 0.0.0.0:9 covers it already"
        );
        assert!(said(&["0.0.0.0:9", "[::ffff:0.0.0.0]:9"], false).contains("covers"));
        assert!(listen(&["0.0.0.0:9", "[::]:9"], false).is_ok());
        assert!(listen(&["10.0.0.1:9", "10.0.0.2:9"], false).is_ok());
        assert!(listen(&["[fe80::1%1]:9", "[fe80::1%2]:9"], false).is_ok());
    }

    #[test]
    fn multicast_and_specific_dual_stack_are_refused() {
        assert!(said(&["224.0.0.1:9"], false).contains("unicast"));
        assert!(said(&["10.0.0.1:9"], true).contains("wildcard"));
    }
}
