//! What this host itself did not send.

use reflector_measure::errno;

use crate::diagnosis::Finding;
use crate::facts::Facts;

/// Why this host refused to send, or drops for want of room in its table.
pub(crate) fn unsent(facts: &Facts) -> Option<Finding> {
    if let (true, Some(table)) = (facts.is_table_full(), facts.occupancy) {
        return Some(Finding::new(
            "table_full",
            format!(
                "The connection tracking table of this host is full: {} of {} entries, and {} \
                 packets found no room meanwhile (column `drop` of `conntrack -S`). Such a packet \
                 is dropped; if it is sent here, its sender is told EPERM.",
                table.count, table.max, facts.counted.untrackable
            ),
        ));
    }
    let first = facts.unsent().next()?;
    if first != libc::EPERM {
        return Some(Finding::new(
            "not_sent",
            format!(
                "{} of the questions never left this host: its kernel refused them with {}.",
                facts.unsent().count(),
                errno::name(first)
            ),
        ));
    }
    let table = match facts.occupancy {
        Some(table) if table.is_above(95) => format!(
            "Its connection tracking table is nearly full, which may be why: {} of {} entries are \
             taken, although no packet is counted that found no room.",
            table.count, table.max
        ),
        Some(table) => format!(
            "Its connection tracking table is not why: {} of {} entries are taken.",
            table.count, table.max
        ),
        None => "Its connection tracking is not why: it tracks nothing.".to_owned(),
    };
    Some(Finding::new(
        "not_permitted",
        format!(
            "This host does not let it be sent (EPERM). {table} What else gives that error: a rule \
             of this host's own firewall, in a chain of the output or postrouting hook, or a BPF \
             program of this process's cgroup."
        ),
    ))
}
