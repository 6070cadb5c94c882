//! Whether packets of IPv4 meet any rule: tables of nft, or of iptables as it was before.
//!
//! Asked by nfnetlink (linux/netfilter/nfnetlink.h), so that neither `nft` nor `iptables` is
//! needed.

use std::fs;
use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use reflector_udp::addr::array;
use reflector_udp::attempting;

/// Whether there is a table that rules for IPv4 could be in, in the calling thread's network
/// namespace. It may be empty.
///
/// # Errors
/// EPERM for those who have no CAP_NET_ADMIN there, who may not know.
pub fn has_ipv4_tables() -> io::Result<bool> {
    has_iptables()
        .and_then(|has| Ok(has || has_nft_tables()?))
        .map_err(attempting("list the tables of rules"))
}

/// Those of iptables proper; `iptables-nft` makes tables of nft.
fn has_iptables() -> io::Result<bool> {
    match fs::read_to_string("/proc/thread-self/net/ip_tables_names") {
        Ok(names) => Ok(!names.trim().is_empty()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

// linux/netlink.h, linux/netfilter.h, linux/netfilter/nf_tables.h.
const REQUEST_DUMP: u16 = 0x301;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const GET_TABLE: u16 = (10 << 8) | 1;
const ANY_FAMILY: u8 = 0;
const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;

fn has_nft_tables() -> io::Result<bool> {
    /// Bytes of the headers: `nlmsghdr`, `nfgenmsg`.
    const LEN: u32 = 16 + 4;
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut request = Vec::from(LEN.to_ne_bytes());
    request.extend(GET_TABLE.to_ne_bytes());
    request.extend(REQUEST_DUMP.to_ne_bytes());
    // Sequence number and port, for which there is no need: it is the only request.
    request.extend([0; 8]);
    request.extend([ANY_FAMILY, 0, 0, 0]);
    socket.send(&request, 0)?;
    let mut has_any = false;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while let Some(len) = array(rest, 0).map(u32::from_ne_bytes) {
            match array(rest, 4).map(u16::from_ne_bytes) {
                Some(DONE) => return Ok(has_any),
                Some(ERROR) => {
                    return match -array(rest, 16).map_or(0, i32::from_ne_bytes) {
                        // The kernel has no nf_tables.
                        libc::EINVAL | libc::EOPNOTSUPP => Ok(false),
                        errno => Err(io::Error::from_raw_os_error(errno)),
                    };
                }
                _ => has_any |= matches!(rest.get(16), Some(&(FAMILY_INET | FAMILY_IPV4))),
            }
            let next = (len.max(4) as usize).next_multiple_of(4);
            rest = rest.get(next..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::{Namespace, in_force, in_namespaces, nft};

    #[test]
    fn tables_for_ipv4_are_found_and_others_are_not() {
        let name = "netfilter::tests::tables_for_ipv4_are_found_and_others_are_not";
        in_namespaces(name, || {
            for (table, has) in [
                ("ip t", true),
                ("inet t", true),
                ("ip6 t", false),
                ("bridge t", false),
                ("arp t", false),
            ] {
                let namespace = Namespace::new().unwrap();
                assert!(!namespace.run(has_ipv4_tables).unwrap());
                if !in_force(name, nft(&namespace, &format!("add table {table}"))) {
                    return;
                }
                assert_eq!(namespace.run(has_ipv4_tables).unwrap(), has, "{table}");
            }
        });
    }
}
