//! Tables of connection tracking, filled by the program `conntrack` (conntrack(8)).

use std::io::{self, Write};
use std::process::{Command, Stdio};

use reflector_netlab::topology::{Namespace, nft, skip};

/// That many take about five seconds, and 100 MB.
const ENTRIES_MAX: u64 = 600_000;

/// Fills the connection tracking table of `namespace` with entries that make room for no others;
/// false where that cannot be done.
pub fn fill_table(test_name: &str, namespace: &Namespace) -> bool {
    // Of the whole machine, and counted in each namespace.
    let max = namespace.sysctl("netfilter/nf_conntrack_max");
    let max: u64 = max.expect("rules track").parse().expect("a number");
    if max > ENTRIES_MAX {
        skip(
            test_name,
            "conntrack",
            "nf_conntrack_max is too large to be filled",
        );
        return false;
    }
    if !is_without_groups(namespace) {
        skip(test_name, "conntrack", "the program conntrack is missing");
        return false;
    }
    let mut conntrack = Command::new("conntrack");
    conntrack
        .args(["-R", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let child = namespace.run(|| conntrack.spawn());
    let mut child = child.expect("it was there just now");
    let mut lines = io::BufWriter::new(child.stdin.take().expect("it is piped"));
    for number in 0..max {
        let (net, port) = (number / 60_000, 1024 + number % 60_000);
        writeln!(
            lines,
            "-A -p udp -s 10.200.{net}.1 -d 10.201.0.1 --sport {port} --dport 9 \
             -u ASSURED,SEEN_REPLY -t 600"
        )
        .expect("it reads");
    }
    drop(lines);
    // Those that others had before leave no room for the last ones.
    child.wait().expect("it is our child");
    let count = namespace.sysctl("netfilter/nf_conntrack_count");
    let count = count.expect("rules track").parse();
    assert_eq!(count, Ok(max), "the table is full");
    true
}

/// Has connection tracking in `namespace` forget all flows to `port`, as a NAT does that restarts;
/// false where that cannot be done.
pub fn forget(test_name: &str, namespace: &Namespace, port: u16) -> bool {
    let is_done = delete(namespace, &["-p", "udp", "--dport", &port.to_string()]);
    if !is_done {
        skip(test_name, "conntrack", "the program conntrack is missing");
    }
    is_done
}

/// Has what a bridge reports of its groups go untracked, and takes out of the table what it has of
/// that: nobody answers, and from a table that is nearly full the kernel takes such entries away
/// some time later (`gc_worker` of net/netfilter/nf_conntrack_core.c). False where there is no
/// program `conntrack`.
fn is_without_groups(namespace: &Namespace) -> bool {
    let ruleset = "table inet groups {
        chain output {
            type filter hook output priority raw;
            ip protocol igmp notrack;
        }
    }";
    nft(namespace, ruleset).expect("rules that track are in force");
    // IGMP.
    delete(namespace, &["-p", "2"])
}

/// Takes out of the table of `namespace` what `filter` says; false where there is no program
/// `conntrack`.
fn delete(namespace: &Namespace, filter: &[&str]) -> bool {
    let mut delete = Command::new("conntrack");
    delete.arg("-D").args(filter);
    delete.stdout(Stdio::null()).stderr(Stdio::null());
    match namespace.run(|| delete.status()) {
        // 1 says that there was none.
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => panic!("{error}"),
    }
}
