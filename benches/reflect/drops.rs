//! Rules that drop datagrams as they come in by a device, and count them: what is dropped there
//! costs nothing beyond.

use std::io;
use std::process::Command;

use reflector_netlab::topology::{Namespace, nft};

use super::server::PORT;

/// Bytes that IPv4 and UDP put before a payload.
const HEADERS_LEN: u64 = 28;

/// Drops at ingress of one device, until this is dropped.
pub struct Drops<'a> {
    namespace: &'a Namespace,
}

impl<'a> Drops<'a> {
    /// Drops what `device` brings whose port called `which`, `sport` or `dport`, is the server's.
    ///
    /// # Errors
    /// ENOENT where nft is not installed, or what it says.
    pub fn new(namespace: &'a Namespace, device: &str, which: &str) -> io::Result<Self> {
        let rules = format!(
            "table netdev drops {{ chain at {{
                type filter hook ingress device \"{device}\" priority 0;
                udp {which} {PORT} counter drop;
            }}; }}"
        );
        nft(namespace, &rules)?;
        Ok(Self { namespace })
    }

    /// How many datagrams of `payload_len` it has dropped; those of a train are one packet to it.
    ///
    /// # Errors
    /// What nft says, or that it says something else.
    pub fn datagrams(&self, payload_len: u16) -> io::Result<u64> {
        let said = listed(self.namespace)?;
        let number_after = |word: &str| -> Option<u64> {
            let (_, rest) = said.split_once(word)?;
            rest.split_whitespace().next()?.parse().ok()
        };
        let packets = number_after("counter packets ");
        let (Some(packets), Some(bytes)) = (packets, number_after(" bytes ")) else {
            return Err(io::Error::other(format!("nft shows no counter: {said}")));
        };
        Ok(bytes.saturating_sub(packets * HEADERS_LEN) / u64::from(payload_len))
    }
}

impl Drop for Drops<'_> {
    fn drop(&mut self) {
        // It goes with the namespace at the latest.
        let _ = nft(self.namespace, "delete table netdev drops;\n");
    }
}

/// The rules, as nft prints them.
fn listed(namespace: &Namespace) -> io::Result<String> {
    let run = |program| {
        let mut command = Command::new(program);
        namespace.run(|| command.args(["list", "ruleset"]).output())
    };
    let output = run("nft").or_else(|_| run("/usr/sbin/nft"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
