//! Who is answered, written out for those that look it up in another way.

use ipnet::IpNet;

use super::sets::{Ports, Prefixes};

/// What a guard admits, in plain values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admitted {
    /// Sources that are answered: prefixes that do not overlap, in which what is denied, or no
    /// reply can reach, is left out.
    pub prefixes: Vec<IpNet>,
    /// Source ports that get no answer, 0 and the reflector's own among them.
    pub denied_ports: Vec<u16>,
    /// Whether a reply has one hop less to go than its request had left, and one without any left
    /// is none.
    pub loop_guard: bool,
}

/// What `is_answerable` refuses, as prefixes.
const UNANSWERABLE: [&str; 5] = [
    "0.0.0.0/32",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/128",
    "ff00::/8",
];

impl Admitted {
    /// Who is allowed and not denied, but not from `ports`.
    pub(super) fn new(allow: &Prefixes, deny: &Prefixes, ports: &Ports, loop_guard: bool) -> Self {
        let parse = |text: &str| text.parse().expect("a prefix");
        let unanswerable = Prefixes::new(UNANSWERABLE.iter().copied().map(parse));
        let prefixes = allow.without(deny).without(&unanswerable).to_vec();
        Self {
            prefixes,
            denied_ports: ports.iter().collect(),
            loop_guard,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(allow: &[&str], deny: &[&str]) -> Vec<String> {
        let all = |texts: &[&str]| Prefixes::new(texts.iter().map(|it| it.parse().unwrap()));
        let ports = Ports::new([9007, 0, 53]);
        let admitted = Admitted::new(&all(allow), &all(deny), &ports, true);
        assert_eq!(admitted.denied_ports, [0, 53, 9007]);
        assert!(admitted.loop_guard);
        admitted.prefixes.iter().map(IpNet::to_string).collect()
    }

    #[test]
    fn what_is_denied_is_cut_out() {
        assert_eq!(
            admitted(
                &["10.0.0.0/8", "10.1.0.0/16"],
                &["10.64.0.0/10", "9.0.0.0/8"]
            ),
            ["10.0.0.0/10", "10.128.0.0/9"]
        );
        assert_eq!(
            admitted(&["10.0.0.0/31"], &["10.0.0.1/32"]),
            ["10.0.0.0/32"]
        );
        assert!(admitted(&["10.0.0.0/8"], &["0.0.0.0/0"]).is_empty());
    }

    #[test]
    fn sources_that_no_reply_can_reach_are_left_out() {
        let all = admitted(&["0.0.0.0/0", "::/0"], &[]);
        assert_eq!(all.first().unwrap(), "0.0.0.1/32");
        for refused in ["224.0.0.0/4", "255.255.255.255/32", "::/128", "ff00::/8"] {
            let refused: IpNet = refused.parse().unwrap();
            let is_clear = |net: &IpNet| !net.contains(&refused) && !refused.contains(net);
            assert!(
                all.iter().all(|it| is_clear(&it.parse().unwrap())),
                "{refused}"
            );
        }
    }

    /// The prefix that is left there is that of v4-mapped addresses, and no peer has one of those.
    #[test]
    fn ipv6_without_its_neighbour_of_mapped_addresses_admits_no_ipv4() {
        let left = admitted(&["::fffe:0:0/95"], &["::fffe:0:0/96"]);
        assert_eq!(left, ["::ffff:0.0.0.0/96"]);
    }
}
