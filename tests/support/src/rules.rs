//! What named counters in nft rules have counted.

use std::io::ErrorKind;
use std::process::Command;

use reflector_netlab::topology::Namespace;

/// Packets that the counter `name` of `namespace` has seen (nft(8), stateful objects).
#[track_caller]
pub fn packets_counted(namespace: &Namespace, name: &str) -> u64 {
    counted(namespace, name).0
}

/// Packets and bytes that the counter `name` of `namespace` has seen.
#[track_caller]
pub fn counted(namespace: &Namespace, name: &str) -> (u64, u64) {
    let list = |program: &str| Command::new(program).args(["list", "counters"]).output();
    let output = namespace.run(|| match list("nft") {
        Err(error) if error.kind() == ErrorKind::NotFound => list("/usr/sbin/nft"),
        result => result,
    });
    let text = String::from_utf8(output.expect("nft put it in force").stdout).expect("text");
    let mut words = text.split_whitespace().skip_while(|word| *word != name);
    let mut after = |what: &str| {
        let count = words.find(|word| *word == what).and(words.next());
        let count = count.unwrap_or_else(|| panic!("no counter {name}: {text}"));
        count.parse().expect("a count")
    };
    (after("packets"), after("bytes"))
}
