//! Who is answered: the options, as typed, and what they come to.

mod files;
mod prefix;
mod rate;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use reflector::config::Builder;
use reflector::{Prefixes, Rules};
use reflector_measure::error::Error;

use crate::values::{List, items, list};
use prefix::{Prefix, prefix};

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct Peers {
    /// Reply only to peers in this prefix, 'private' or 'any'; repeatable, replaces the default
    /// [default: private]
    ///
    /// 'private' is every prefix that is not routed on the Internet: 10.0.0.0/8, 172.16.0.0/12,
    /// 192.168.0.0/16, 127.0.0.0/8, 169.254.0.0/16, 100.64.0.0/10, 198.18.0.0/15, ::1/128,
    /// fe80::/10, fc00::/7 and 2001:2::/48. 'private,192.0.2.1' adds to them.
    #[arg(long, value_name = "CIDR", value_parser = list(prefix))]
    allow: Vec<List<Prefix>>,
    /// Never reply to peers in this prefix, 'private' or 'any'; repeatable, wins over --allow
    #[arg(long, value_name = "CIDR", value_parser = list(prefix))]
    deny: Vec<List<Prefix>>,
    /// Never reply to these source ports; 'none' for no port [default: ports of known services]
    ///
    /// A list such as 7,53. By default, the ports of services that reply to or amplify what they
    /// receive: 7, 13, 17, 19, 37, 69, 111, 123, 137, 138, 161, 389, 500, 520, 1900, 3702,
    /// 5353, 5355 and 11211. Port 0 and the reflector's own port never get a reply.
    #[arg(long, value_name = "LIST", value_parser = ports)]
    deny_port: Option<PortList>,
    /// End loops between reflectors: off or ttl
    ///
    /// With 'ttl', the TTL of a reply (IPv6: the hop limit) is one less than that of the request
    /// when it was received, so that no loop is endless.
    #[arg(long, value_enum, value_name = "off|ttl", hide_possible_values = true)]
    #[arg(default_value_t = LoopGuard::Off)]
    loop_guard: LoopGuard,
    #[command(flatten)]
    files: files::Files,
    #[command(flatten)]
    rate: rate::Rate,
}

/// Protection against endless loops, beyond the guarded source ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LoopGuard {
    Off,
    Ttl,
}

/// Port numbers; without any it is `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortList(pub Vec<u16>);

impl Peers {
    /// `builder`, told who is answered.
    ///
    /// # Errors
    /// A list that cannot be read, or makes no sense.
    pub fn apply(&self, builder: Builder) -> Result<Builder, Error> {
        Ok(self.rate.apply(builder.rules(self.rules()?)))
    }

    /// Whether there is something to read again.
    pub fn has_files(&self) -> bool {
        !self.files.is_empty()
    }

    /// What is read again.
    pub fn files(&self) -> Vec<PathBuf> {
        self.files.paths().cloned().collect()
    }

    /// Who is answered, by the options and what the files say now.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn rules(&self) -> Result<Rules, Error> {
        let mut rules = Rules::default();
        let allowed = self.files.allowed()?;
        if allowed.is_some() || !self.allow.is_empty() {
            let named = nets(&self.allow).into_iter();
            rules.allow = Prefixes::new(named.chain(allowed.unwrap_or_default()));
        }
        let denied = nets(&self.deny).into_iter();
        rules.deny = Prefixes::new(denied.chain(self.files.denied()?));
        if let Some(PortList(ports)) = &self.deny_port {
            rules.deny_ports.clone_from(ports);
        }
        rules.loop_guard = self.loop_guard == LoopGuard::Ttl;
        Ok(rules)
    }
}

fn nets(prefixes: &[List<Prefix>]) -> Vec<IpNet> {
    let prefixes = prefixes.iter().flat_map(|List(items)| items);
    prefixes.flat_map(Prefix::nets).collect()
}

/// Reads ports, or 'none'.
pub fn ports(text: &str) -> Result<PortList, String> {
    if text.trim() == "none" {
        return Ok(PortList(Vec::new()));
    }
    let port = |part: &str| {
        part.parse()
            .map_err(|_| format!("'{part}' is not a port; expected a list such as 7,53, or 'none'"))
    };
    items(text)
        .map(port)
        .collect::<Result<_, _>>()
        .map(PortList)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use reflector::{DEFAULT_ALLOW, DEFAULT_DENY_PORTS};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn ports_are_read() {
        assert_eq!(ports("none"), Ok(PortList(vec![])));
        assert_eq!(ports("7, 53,"), Ok(PortList(vec![7, 53])));
        assert!(ports("65536").is_err() && ports("").is_err());
    }

    #[test]
    fn a_prefix_that_could_mean_more_than_it_says_is_refused() {
        for (text, said) in [
            ("127.0.0.5/8", "expected 127.0.0.0/8 or 127.0.0.5/32"),
            (
                "2001:db8::1/32",
                "expected 2001:db8::/32 or 2001:db8::1/128",
            ),
            ("1.2.3.4/0", "expected 0.0.0.0/0 or 1.2.3.4/32"),
            ("010.0.0.0/8", "expected a prefix such as"),
            ("10.0.0.0/08", "expected a prefix such as"),
            ("10.0.0.0/+8", "expected a prefix such as"),
            ("10/8", "expected a prefix such as"),
            ("fe80::1%eth0", "expected a prefix such as"),
            ("Private", "expected a prefix such as"),
        ] {
            let error = prefix(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn private_is_the_default_and_can_be_added_to() {
        let private: Vec<IpNet> = DEFAULT_ALLOW
            .iter()
            .map(|net| net.parse().unwrap())
            .collect();
        let lists = [
            List(vec![Prefix::Private]),
            List(vec![prefix("192.0.2.0/24").unwrap()]),
        ];
        let all = [&private[..], &["192.0.2.0/24".parse().unwrap()]].concat();
        assert_eq!(nets(&lists), all);
    }

    #[test]
    fn a_prefix_may_be_an_address_or_all_of_them() {
        assert_eq!(prefix("any"), Ok(Prefix::Any));
        assert_eq!(prefix("10.0.0.1"), prefix("10.0.0.1/32"));
        assert!(prefix("10.0.0.0/33").is_err() && prefix("all").is_err());
        // What looks v4-mapped and is more than that could only be void.
        for text in [
            "::ffff:0:0/95",
            "::fffe:0:0/95",
            "::ffff:10.9.0.2/64",
            "::ffff:10.9.0.2/0",
        ] {
            assert!(prefix(text).unwrap_err().contains("0.0.0.0/0"), "{text}");
        }
        for text in [
            "::ffff:0:0/96",
            "::ffff:10.9.0.2",
            "::/0",
            "::/80",
            "::1/128",
        ] {
            assert!(prefix(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_help_lists_the_peers_that_are_answered_by_default() {
        let listed = |option: &str| {
            let program = Cli::command();
            let mut options = program.get_arguments();
            let option = options.find(|it| it.get_id() == option).unwrap();
            let help = option.get_long_help().unwrap().to_string();
            let words = help.split_whitespace();
            let words = words.map(|it| it.trim_end_matches([',', '.']).to_owned());
            words.collect::<Vec<_>>()
        };
        let (prefixes, ports) = (listed("allow"), listed("deny_port"));
        let prefixes = prefixes.iter().filter(|it| it.contains('/'));
        assert_eq!(prefixes.collect::<Vec<_>>(), DEFAULT_ALLOW);
        // The last one is that of the sentence on port 0.
        let ports: Vec<u16> = ports.iter().filter_map(|it| it.parse().ok()).collect();
        assert_eq!(ports, [DEFAULT_DENY_PORTS, &[0]].concat());
    }
}
