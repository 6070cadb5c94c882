//! A search, step by step, and what it found.

use crate::find_rate::{Found, Step};
use reflector_measure::text::paragraph;

/// One step of a search. The steps come one by one, so their columns have room for what may come.
pub(crate) fn step(step: &Step, is_first: bool) -> String {
    let head = if is_first {
        format!(
            "\n  {:>11}  {:>11}  {:>8}  {:>11}  verdict\n",
            "offered /s", "sent /s", "lost %", "p99 us"
        )
    } else {
        String::new()
    };
    let offered = step.offered_pps;
    let offered = offered.map_or("max".to_owned(), |pps| format!("{pps:.0}"));
    format!(
        "{head}  {offered:>11}  {:>11.0}  {:>8.4}  {:>11.1}  {}\n",
        step.achieved_pps, step.loss_percent, step.rtt_p99_us, step.verdict
    )
}

/// What a search found, in lines of at most `width` columns.
pub(crate) fn found(found: &Found, width: usize) -> String {
    let at_most = format!("with at most {} % lost", found.max_loss_percent);
    let result = match (found.rate_pps, found.interrupted) {
        (Some(pps), true) => {
            format!("highest rate so far {at_most}: {pps:.0} /s, not confirmed")
        }
        (None, true) => "no rate so far".to_owned(),
        (Some(pps), false) => format!(
            "highest rate {at_most}: {pps:.0} /s, confirmed {} times",
            found.confirmations
        ),
        // The notes say what prevented it.
        (None, false) => "no rate was found".to_owned(),
    };
    let mut page = format!("\n{}", paragraph("", &result, width));
    for note in &found.notes {
        page += &paragraph("note: ", note, width);
    }
    page
}
