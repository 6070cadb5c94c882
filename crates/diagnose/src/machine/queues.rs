//! Whether a queue of an interface cuts trains.
//!
//! `tbf_segment` of net/sched/sch_tbf.c: a train longer than the bucket is cut. Where the queue has
//! no room for all of it, some of its datagrams are dropped, and one that is taken makes the call
//! that sent the train succeed.

use std::io;

use super::check::Check;
use reflector_netlink::Tbf;

/// Bytes of the longest train as a queue counts it: 65 535 of IP, and the headers of IPv6, UDP and
/// Ethernet once more for each of 128 datagrams.
const TRAIN_BYTES_MAX: u64 = 65_535 + 14 + 127 * (40 + 8 + 14);

/// A bucket that takes every train whole, with room for the header of a VLAN.
const BURST_ENOUGH: u64 = 80_000;

/// The check, of the token bucket filters and the interfaces that have them.
pub(super) fn check(tbfs: io::Result<Vec<(String, Tbf)>>) -> Check {
    let name = "tbf queues";
    let tbfs = match tbfs {
        Ok(tbfs) => tbfs,
        Err(error) => return Check::ok(name, format!("cannot be listed here: {error}")),
    };
    let cut: Vec<_> = tbfs
        .iter()
        .filter(|(_, tbf)| tbf.whole_max() < TRAIN_BYTES_MAX)
        .collect();
    if tbfs.is_empty() {
        return Check::ok(name, "none");
    }
    if cut.is_empty() {
        let names: Vec<_> = tbfs.iter().map(|(device, _)| device.as_str()).collect();
        return Check::ok(name, format!("{}: trains pass whole", names.join(", ")));
    }
    let sizes = cut.iter().map(|(device, tbf)| {
        let bytes = tbf.whole_max();
        format!("{device} cuts trains above {bytes} bytes")
    });
    let sizes: Vec<_> = sizes.collect();
    let found = format!(
        "{}; while its queue is full it drops parts of such a train, and the call that sent it \
         succeeds: only its own drops, `tc -s qdisc`, tell",
        sizes.join(", ")
    );
    let remedy = "a burst as long as a train; or shorter trains: --gso off, or a smaller --burst \
                  of `reflector load`";
    let commands: Vec<_> = cut
        .iter()
        .map(|(device, tbf)| enlarge(device, tbf))
        .collect();
    Check::warn(name, found, remedy).by(commands.join(" && "))
}

/// The command that gives `tbf` room for a train, and changes nothing else. The limit must hold a
/// train as well.
fn enlarge(device: &str, tbf: &Tbf) -> String {
    let limit = u64::from(tbf.limit).max(BURST_ENOUGH);
    let mut command = format!(
        "tc qdisc change dev {device} {} tbf rate {}bit burst {} limit {limit}",
        tbf.place,
        tbf.rate * 8,
        tbf.burst.max(BURST_ENOUGH)
    );
    if let Some(peak) = tbf.peak {
        let bucket = peak.burst.max(BURST_ENOUGH);
        command += &format!(" peakrate {}bit mtu {bucket}", peak.rate * 8);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use reflector_netlink::Peak;

    fn tbf(burst: u64, peak: Option<u64>) -> Tbf {
        Tbf {
            device: 2,
            place: "root".to_owned(),
            rate: 1_000_000,
            burst,
            peak: peak.map(|burst| Peak {
                rate: 2_000_000,
                burst,
            }),
            limit: 20_000,
        }
    }

    #[test]
    fn only_a_bucket_that_is_shorter_than_a_train_hinders() {
        let longest = TRAIN_BYTES_MAX;
        for (burst, peak, is_ok) in [
            (1600, None, false),
            (longest - 1, None, false),
            (longest, None, true),
            (longest, Some(longest - 1), false),
            (longest, Some(longest), true),
        ] {
            let check = check(Ok(vec![("eth0".to_owned(), tbf(burst, peak))]));
            assert_eq!(check.is_ok, is_ok, "{burst} {peak:?} {check:?}");
        }
        assert!(check(Ok(Vec::new())).is_ok);
        assert!(check(Err(io::ErrorKind::Unsupported.into())).is_ok);
    }

    #[test]
    fn each_is_named_and_has_its_command() {
        let small = tbf(1600, Some(1500));
        let large = tbf(100_000, None);
        let of = |name: &str, tbf| (name.to_owned(), tbf);
        let check = check(Ok(vec![
            of("eth0", small),
            of("eth1", large),
            of("lo", tbf(9000, None)),
        ]));
        let sizes = "eth0 cuts trains above 1500 bytes, lo cuts trains above 9000 bytes;";
        assert!(check.found.starts_with(sizes), "{check:?}");
        assert_eq!(
            check.command.unwrap(),
            "tc qdisc change dev eth0 root tbf rate 8000000bit burst 80000 limit 80000 peakrate \
             16000000bit mtu 80000 && \
             tc qdisc change dev lo root tbf rate 8000000bit burst 80000 limit 80000"
        );
    }
}
