//! Copies of a run, which count once.

use crate::run::Run;

/// `runs` without copies of one another, whatever they are called. What is left out is told.
pub(crate) fn without(runs: Vec<Run>, notes: &mut Vec<String>) -> Vec<Run> {
    let mut kept: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        match kept.iter().find(|it| is_copy(it, &run)) {
            Some(original) => notes.push(format!(
                "{} is a copy of {}, and counts once",
                run.name, original.name
            )),
            None => kept.push(run),
        }
    }
    kept
}

/// Whether two runs are one: they were at the same time, or have the same times to the nanosecond,
/// and nothing tells them apart.
fn is_copy(a: &Run, b: &Run) -> bool {
    let is_told = a.span.is_some() || a.times.is_some_and(|times| times.count > 0);
    is_told
        && (a.span, a.seconds, a.rate_pps) == (b.span, b.seconds, b.rate_pps)
        && (a.counters, a.loss, a.times) == (b.counters, b.loss, b.times)
        && (&a.targets, &a.settings, &a.kind) == (&b.targets, &b.settings, &b.kind)
        && (a.variation, &a.times_ns) == (b.variation, &b.times_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Sum;
    use crate::run::Kind;
    use crate::unit::Unit;

    fn run(name: &str, value: u64) -> Run {
        let mut times = Sum::new();
        times.record(value, 7);
        let times_ns = times.into_ns(Unit::Ns);
        Run::of_times(name.to_owned(), Kind::RoundTrip, 1.0, times_ns)
    }

    #[test]
    fn a_copy_counts_once_and_is_told() {
        let mut notes = Vec::new();
        let kept = without(vec![run("a", 5), run("b", 6), run("c", 5)], &mut notes);
        let names: Vec<_> = kept.iter().map(|run| run.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(notes, ["c is a copy of a, and counts once"]);
    }

    #[test]
    fn what_differs_or_tells_nothing_is_no_copy() {
        let mut at = [run("a", 5), run("b", 5)];
        at[0].span = Some((1.0, 2.0));
        at[1].span = Some((1.5, 2.5));
        let nothing = || Run::new("n", Kind::HighestRate("1".to_owned()));
        let runs = at.into_iter().chain([nothing(), nothing()]).collect();
        let mut notes = Vec::new();
        assert_eq!(without(runs, &mut notes).len(), 4, "{notes:?}");
    }
}
