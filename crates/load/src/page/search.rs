//! A search, step by step, and what it found.

use crate::find_rate::{Found, Step};
use reflector_measure::text::paragraph;

/// The columns of a step: heading and width. A verdict follows.
const COLUMNS: [(&str, usize); 4] = [
    ("offered /s", 11),
    ("sent /s", 11),
    ("lost %", 8),
    ("p99 us", 11),
];
/// Columns of a terminal that has room for all of them, and the longest verdict.
const ALL: usize = 71;
/// The column that a narrower one leaves out: the verdict tells where it differs from the first.
const LEFT_OUT: usize = 1;

/// One step of a search, for a terminal of `width` columns. The steps come one by one, so their
/// columns have room for what may come.
pub(crate) fn step(step: &Step, is_first: bool, width: usize) -> String {
    let line = |cells: [&str; 4], verdict: &str| {
        let shown = cells.iter().zip(COLUMNS).enumerate();
        let shown = shown.filter(|&(index, _)| width >= ALL || index != LEFT_OUT);
        let cells = shown.map(|(_, (cell, (_, width)))| format!("  {cell:>width$}"));
        cells.collect::<String>() + &format!("  {verdict}\n")
    };
    let head = match is_first {
        true => "\n".to_owned() + &line(COLUMNS.map(|(heading, _)| heading), "verdict"),
        false => String::new(),
    };
    let offered = step.offered_pps;
    let offered = offered.map_or("max".to_owned(), |pps| format!("{pps:.0}"));
    let sent = format!("{:.0}", step.achieved_pps);
    let lost = format!("{:.4}", step.loss_percent);
    let p99 = format!("{:.1}", step.rtt_p99_us);
    head + &line([&offered, &sent, &lost, &p99], &step.verdict.to_string())
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
