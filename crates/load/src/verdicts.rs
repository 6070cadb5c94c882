//! What the counters alone say to a reader, in words.

use std::time::Duration;

use crate::plan::Plan;
use crate::totals::Totals;

/// Limits that were exceeded.
pub(crate) fn missed(plan: &Plan, totals: &Totals) -> Vec<String> {
    let mut missed = Vec::new();
    for (percent, what) in [
        (totals.loss_percent, "lost"),
        // What was never sent proves nothing about the target.
        (totals.refused_percent, "refused by this host"),
    ] {
        let is_over = |&(percent, max): &(f64, f64)| percent > max;
        if let Some((percent, max)) = percent.zip(plan.max_loss).filter(is_over) {
            missed.push(format!(
                "{percent:.4} % are {what}, --max-loss allows {max} %"
            ));
        }
    }
    let p99 = Duration::from_nanos((totals.rtt_us.p99 * 1000.0) as u64);
    if let Some(max) = plan.max_p99.filter(|&max| p99 > max) {
        let (p99, max) = (totals.rtt_us.p99, max.as_secs_f64() * 1e6);
        missed.push(format!("p99 is {p99:.1} us, --max-p99 allows {max:.1} us"));
    }
    missed
}

/// What this host would not send.
pub(crate) fn refused(totals: &Totals) -> Option<String> {
    let errors: Vec<_> = totals.send_errors.keys().map(String::as_str).collect();
    let meaning = |errno: &&str| match *errno {
        "EPERM" => Some("EPERM means a firewall on this host (`nft list ruleset`)"),
        "ENOBUFS" => Some("ENOBUFS means that the queue of the device was full"),
        _ => None,
    };
    let meanings: Vec<_> = errors.iter().filter_map(meaning).collect();
    (totals.refused > 0 && totals.sent > 0).then(|| {
        let mut note = format!(
            "this host's kernel refused {} of {} datagrams ({}): they are neither lost nor timed",
            totals.refused,
            totals.sent + totals.refused,
            errors.join(", "),
        );
        for meaning in meanings {
            note += "; ";
            note += meaning;
        }
        note
    })
}

/// Why nothing came back, as far as what did come tells.
pub(crate) fn unanswered(plan: &Plan, totals: &Totals) -> String {
    let target = &plan.target_name;
    if !plan.silent.is_empty() {
        let silent: Vec<_> = plan.silent.iter().map(ToString::to_string).collect();
        return format!(
            "{target} never answered: {} was loaded, and a probe to {} was not answered either; -4 \
             and -6 choose between them",
            plan.target,
            silent.join(", ")
        );
    }
    if totals.icmp.contains_key("port_unreachable") {
        format!("{target} never answered: nobody listens on this port")
    } else if let Some(said) = totals.icmp.keys().next() {
        format!("{target} never answered: ICMP says {said}")
    } else if totals.corrupt + totals.foreign > 0 {
        format!("{target} answers, but not with what it was sent: it is not an echo service")
    } else {
        format!(
            "{target} never answered: it is not an echo service, or a firewall drops the datagrams \
             or the answers; `reflector diagnose {target}` finds out more"
        )
    }
}
