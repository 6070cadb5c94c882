//! Duplicate address detection (RFC 4862): an IPv6 address that this host has been given is tried
//! first, for a second or two, and cannot be bound meanwhile.

use std::fs;
use std::net::Ipv6Addr;
use std::time::Duration;

/// How long an address that is being tried is waited for: one question and its time, after a delay
/// of up to a second.
const TRIED_MAX: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Flags of an address (linux/if_addr.h).
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

/// Why an address of this host cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It is being tried.
    Tentative,
    /// Another host has it.
    Duplicate,
}

impl Unusable {
    /// What to try.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Tentative => {
                "this host is still trying the address (tentative), as it does while its link is \
                 down: look at `ip -6 address`"
            }
            Self::Duplicate => {
                "another host of the link has the address (dadfailed, duplicate address \
                 detection): take it from one of the two, and add it anew (`ip -6 address`)"
            }
        }
    }
}

/// Why `ip` cannot be used on the interface with the index `scope`, or on that which has it where
/// that is 0; `None` if it can, or is not there, or `/proc` does not tell.
pub fn unusable(ip: Ipv6Addr, scope: u32) -> Option<Unusable> {
    let text = fs::read_to_string("/proc/thread-self/net/if_inet6").ok()?;
    find(&text, ip, scope)
}

/// The same, after a wait where the address is being tried. Each `pause` is a part of the wait.
pub fn waited_for(ip: Ipv6Addr, scope: u32, mut pause: impl FnMut(Duration)) -> Option<Unusable> {
    let mut waited = Duration::ZERO;
    loop {
        match unusable(ip, scope) {
            Some(Unusable::Tentative) if waited < TRIED_MAX => pause(PAUSE),
            state => return state,
        }
        waited += PAUSE;
    }
}

/// The state of `ip` in `text`, which has a line for each address: itself, and in hexadecimal the
/// interface's index, the prefix's length, the scope and the flags; then the interface's name.
fn find(text: &str, ip: Ipv6Addr, scope: u32) -> Option<Unusable> {
    let hexadecimal = |field: Option<&str>| u32::from_str_radix(field?, 16).ok();
    let flags = text.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        let is_it = u128::from_str_radix(fields.next()?, 16).ok()? == ip.to_bits();
        let index = hexadecimal(fields.next())?;
        let flags = hexadecimal(fields.nth(2))?;
        (is_it && (scope == 0 || scope == index)).then_some(flags)
    })?;
    match flags {
        _ if flags & IFA_F_DADFAILED != 0 => Some(Unusable::Duplicate),
        _ if flags & IFA_F_TENTATIVE != 0 => Some(Unusable::Tentative),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
fd090000000000000000000000000031 02 40 00 c0     eth0
fd090000000000000000000000000032 02 40 00 c8     eth0
fe800000000000000000000000000001 02 40 20 80     eth0
fe800000000000000000000000000001 0a 40 20 c0     eth1
";

    #[test]
    fn the_state_is_that_of_the_address_on_its_interface() {
        for (ip, scope, state) in [
            ("::1", 0, None),
            ("fd09::31", 0, Some(Unusable::Tentative)),
            ("fd09::32", 0, Some(Unusable::Duplicate)),
            ("fd09::33", 0, None),
            ("fe80::1", 2, None),
            ("fe80::1", 10, Some(Unusable::Tentative)),
            ("fe80::1", 3, None),
        ] {
            assert_eq!(
                find(TEXT, ip.parse().unwrap(), scope),
                state,
                "{ip}%{scope}"
            );
        }
    }
}
