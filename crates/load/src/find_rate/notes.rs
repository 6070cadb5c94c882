//! What a reader should know about a search, in sentences.

use super::goal::{Goal, Limit};
use super::step::{Step, Verdict};

/// What set the limit besides the target, and how to get beyond it.
pub(super) fn limited(by: Limit) -> String {
    match by {
        Limit::Generator => {
            "the generator could not send more in time; the target may hold more: add --cores, or \
             send trains with --burst 64"
        }
        Limit::Rate => "that is --rate itself; the target may hold more: raise it",
    }
    .to_owned()
}

/// Why no rate of `ladder` holds, and what to try.
pub(super) fn why_none(ladder: &[Step], goal: &Goal) -> Vec<String> {
    let max_loss = goal.max_loss;
    let notes = [
        (
            Verdict::Holds,
            "no rate that held did so again: measure each longer, with --duration".to_owned(),
        ),
        (
            Verdict::TooMuchLost,
            format!("more than {max_loss} % was lost: {}", lower(ladder, goal)),
        ),
        (
            Verdict::TooSlow,
            "round trips took too long: allow more with --max-p99, or search lower with a lower \
             --rate and a longer --duration"
                .to_owned(),
        ),
        (
            Verdict::NotSent,
            "the generator could not send at some of the rates: lower --rate, add --cores, or send \
             trains with --burst 64"
                .to_owned(),
        ),
    ];
    let is_seen = |verdict| ladder.iter().any(|step| step.verdict == verdict);
    let seen = notes.into_iter().filter(|&(verdict, _)| is_seen(verdict));
    seen.map(|(_, note)| note).collect()
}

/// How to search below the rates that lost too much.
fn lower(ladder: &[Step], goal: &Goal) -> String {
    let floor = goal.floor_pps();
    let allow = "allow more with --find-rate";
    let answered = ladder.iter().map(|step| step.received_pps);
    let most = answered.fold(0.0, f64::max);
    if most <= 0.0 || most >= 2.0 * floor {
        return format!("{allow}, or search lower with a lower --rate and a longer --duration");
    }
    // Room for twice as many datagrams as the least that can be judged.
    let seconds = (200.0 / (goal.max_loss * most)).ceil();
    format!(
        "steps of {} s cannot judge less than {floor:.0} /s (100 / (percent x seconds)), of which \
         one lost datagram is {} %; about {most:.0} /s came back, so try --duration {seconds}, or \
         {allow}",
        goal.seconds, goal.max_loss
    )
}

/// Whether, and by how much, the generator was late in some of the steps.
pub(super) fn late(ladder: &[Step]) -> Option<String> {
    let late: Vec<_> = ladder
        .iter()
        .filter(|step| step.verdict == Verdict::SentLate)
        .collect();
    let longest = late
        .iter()
        .map(|step| step.send_lag_max_us)
        .fold(0.0, f64::max);
    (!late.is_empty()).then(|| {
        format!(
            "in {} of {} steps the generator sent late, by up to {:.1} ms, and then at once, which \
             can cost a target more than its rate does; they say nothing about the target",
            late.len(),
            ladder.len(),
            longest / 1000.0
        )
    })
}
