//! Which of several runs were one load, and what repetitions of a load come to.

use crate::histogram::Sum;
use crate::run::{Counters, Kind, Run, Variation};
use crate::unit::Unit;
use reflector_measure::quantiles::Quantiles;

/// The runs of a group as loads: those that overlap in time were one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Loads {
    /// Each load, in the order of time.
    pub(crate) each: Vec<Run>,
    /// What several loads come to: of each quantity the median.
    median: Option<Run>,
    /// The least and the greatest of each quantity, where there are several loads.
    pub(crate) spread: Option<[Run; 2]>,
}

impl Loads {
    /// What they come to: the one load, or the median of several.
    pub(crate) fn total(&self) -> Option<&Run> {
        self.median.as_ref().or(self.each.first())
    }
}

/// The loads that `runs` were, which were asked to do the same. One of several runs is called by
/// `role`, if that says anything.
pub(crate) fn of(runs: &[Run], role: &str, notes: &mut Vec<String>) -> Loads {
    let parts = parts(runs, notes);
    let is_one = parts.len() == 1;
    let load = |(index, part): (usize, &Part)| {
        let count = part.runs.len();
        let name = match is_one {
            true if role.is_empty() => format!("{count} runs"),
            true => format!("{role} ({count} runs)"),
            false => format!("load {} ({count} runs)", index + 1),
        };
        merge(part, name, notes)
    };
    let each: Vec<_> = parts.iter().enumerate().map(load).collect();
    if each.len() < 2 {
        return Loads {
            each,
            median: None,
            spread: None,
        };
    }
    let count = each.len();
    Loads {
        median: Some(summed_up(&each, format!("median of {count}"), median)),
        spread: Some([
            summed_up(&each, format!("least of {count}"), least),
            summed_up(&each, format!("greatest of {count}"), greatest),
        ]),
        each,
    }
}

/// Runs that were one load.
struct Part {
    runs: Vec<Run>,
    /// Whether each two of them overlap, so that their rates add up.
    is_at_one_time: bool,
}

/// Runs that overlap in time by more than half of the shorter one, or are linked by others that do,
/// are parts of one load, in whichever order they are named. Those whose file does not say when are
/// taken for parts of the one load that there is, or for one of their own.
fn parts(runs: &[Run], notes: &mut Vec<String>) -> Vec<Part> {
    let (mut timed, untimed): (Vec<_>, Vec<_>) =
        runs.iter().cloned().partition(|run| run.span.is_some());
    let span = |run: &Run| run.span.unwrap_or_default();
    timed.sort_by(|a, b| span(a).0.total_cmp(&span(b).0));
    let mut parts: Vec<Part> = Vec::new();
    for run in timed {
        let is_linked = |part: &Part| part.runs.iter().any(|it| overlap(span(it), span(&run)));
        let is_at_one_time = |part: &Part| part.runs.iter().all(|it| overlap(span(it), span(&run)));
        let (linked, others): (Vec<_>, Vec<_>) = parts.into_iter().partition(is_linked);
        let all = linked.len() < 2
            && linked
                .iter()
                .all(|it| it.is_at_one_time && is_at_one_time(it));
        let linked = linked.into_iter().flat_map(|part| part.runs);
        parts = others;
        parts.push(Part {
            runs: linked.chain([run.clone()]).collect(),
            is_at_one_time: all,
        });
    }
    parts.sort_by(|a, b| span(&a.runs[0]).0.total_cmp(&span(&b.runs[0]).0));
    for part in parts.iter().filter(|part| !part.is_at_one_time) {
        notes.push(format!(
            "{}: {} runs overlap one after the other, not all at one time: their rates are not \
             added, the rate is that of all of it by the time that it took",
            part.runs[0].kind,
            part.runs.len()
        ));
    }
    if untimed.is_empty() {
        return parts;
    }
    let is_alone = untimed.len() == 1 && parts.is_empty();
    if !is_alone && !matches!(untimed[0].kind, Kind::HighestRate(_)) {
        notes.push(format!(
            "{}: a file that does not say when its run was is taken for a part of one load; \
             repetitions are told apart where it does",
            untimed[0].kind
        ));
    }
    match &mut parts[..] {
        [only] => only.runs.extend(untimed),
        _ => parts.push(Part {
            runs: untimed,
            is_at_one_time: true,
        }),
    }
    parts
}

/// Seconds of all of `spans`, those that overlap once.
fn covered(spans: impl Iterator<Item = (f64, f64)>) -> f64 {
    let mut spans = Vec::from_iter(spans);
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut reached = f64::NEG_INFINITY;
    let add = |(start, end): (f64, f64)| {
        let more = (end - start.max(reached)).max(0.0);
        reached = reached.max(end);
        more
    };
    spans.into_iter().map(add).sum()
}

fn overlap(a: (f64, f64), b: (f64, f64)) -> bool {
    let common = a.1.min(b.1) - a.0.max(b.0);
    let shorter = (a.1 - a.0).min(b.1 - b.0);
    common > shorter / 2.0
}

/// All of `runs` as one: counters and rates are added, histograms too. Quantiles of runs without a
/// histogram are lost, since no calculation gives those of a whole from those of its parts.
fn merge(part: &Part, name: String, notes: &mut Vec<String>) -> Run {
    let runs = &part.runs;
    if let [only] = &runs[..] {
        return only.clone();
    }
    let mut merged = Run::new(name, runs[0].kind.clone());
    merged.settings = runs[0].settings.clone();
    merged.variation.mean_us = mean_us(runs);
    let mut times_ns = Sum::new();
    let mut is_timed = true;
    for run in runs {
        merged.targets.extend(run.targets.iter().cloned());
        // Machines that loaded a target together did so at the same time.
        merged.seconds = merged.seconds.max(run.seconds);
        if let Some(counters) = &run.counters {
            merged
                .counters
                .get_or_insert_with(Counters::default)
                .add(counters);
        }
        merged.rate_pps = match (merged.rate_pps, run.rate_pps) {
            (Some(sum), Some(more)) => Some(sum + more),
            (sum, more) => sum.or(more),
        };
        is_timed &= match (&run.times_ns, run.times) {
            (Some(more), _) => times_ns.add(more).is_ok(),
            // Nothing was measured.
            (None, None) => true,
            (None, Some(_)) => false,
        };
    }
    let spans = runs.iter().filter_map(|run| run.span);
    merged.span = spans.clone().reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    if !part.is_at_one_time {
        merged.seconds = covered(spans);
        let all: Option<f64> = runs
            .iter()
            .map(|run| Some(run.rate_pps? * run.seconds))
            .sum();
        merged.rate_pps = all.map(|all| all / merged.seconds).filter(|it| *it > 0.0);
    }
    if matches!(merged.kind, Kind::HighestRate(_)) {
        notes.push(format!(
            "{}: each was found alone; the sum holds only if they share no bottleneck",
            merged.kind
        ));
    }
    if runs.iter().any(|run| run.counters.is_some())
        && runs.iter().any(|run| run.counters.is_none())
    {
        notes.push(format!(
            "{}: the merged counters are those of the files that have counters",
            merged.kind
        ));
    }
    if is_timed {
        let times = times_ns.into_ns(Unit::Ns);
        merged.times = times.quantiles();
        let least = runs.iter().filter_map(|run| Some(run.times?.min));
        if let (Some(times), Some(least)) = (&mut merged.times, least.reduce(f64::min)) {
            times.min = least;
        }
        merged.times_ns = merged.times.is_some().then_some(times.ns);
    } else {
        notes.push(format!(
            "{}: quantiles cannot be merged without histograms: save each run with --hdr, and name \
             those files too",
            merged.kind
        ));
    }
    merged
}

/// The mean of all that was received. What one differs from the next by has no such sum: it is not
/// said of how many it is the mean.
fn mean_us(runs: &[Run]) -> Option<f64> {
    let (mut count, mut sum) = (0.0, 0.0);
    for run in runs {
        let received = run.counters?.received as f64;
        if received > 0.0 {
            count += received;
            sum += received * run.variation.mean_us?;
        }
    }
    (count > 0.0).then(|| sum / count)
}

/// A run whose every quantity is that of `loads`, by `sum_up`.
fn summed_up(loads: &[Run], name: String, sum_up: fn(&mut [f64]) -> f64) -> Run {
    let all = |quantity: &dyn Fn(&Run) -> Option<f64>| {
        let mut values: Vec<_> = loads.iter().filter_map(quantity).collect();
        (values.len() == loads.len()).then(|| sum_up(&mut values))
    };
    let time = |of: fn(&Quantiles) -> f64| all(&|run: &Run| run.times.as_ref().map(of));
    let mut times = loads[0].times;
    if let Some(times) = &mut times {
        let counts = loads.iter().filter_map(|run| Some(run.times?.count));
        times.count = counts.fold(0, u64::saturating_add);
        for (own, sum) in [
            (&mut times.min, time(|it| it.min)),
            (&mut times.p50, time(|it| it.p50)),
            (&mut times.p90, time(|it| it.p90)),
            (&mut times.p99, time(|it| it.p99)),
            (&mut times.p99_9, time(|it| it.p99_9)),
            (&mut times.max, time(|it| it.max)),
        ] {
            *own = sum.unwrap_or(f64::NAN);
        }
        times.p99_99 = all(&|run: &Run| run.times?.p99_99);
    }
    Run {
        targets: loads.iter().flat_map(|run| run.targets.clone()).collect(),
        settings: loads[0].settings.clone(),
        seconds: all(&|run: &Run| Some(run.seconds)).unwrap_or_default(),
        rate_pps: all(&|run: &Run| run.rate_pps),
        loss: all(&Run::loss_percent),
        times: times.filter(|it| !it.p50.is_nan()),
        variation: Variation {
            mean_us: all(&|run: &Run| run.variation.mean_us),
            ipdv_us: all(&|run: &Run| run.variation.ipdv_us),
        },
        ..Run::new(name, loads[0].kind.clone())
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() % 2 {
        1 => values[half],
        _ => f64::midpoint(values[half - 1], values[half]),
    }
}

fn least(values: &mut [f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn greatest(values: &mut [f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_is_between_the_two_in_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn runs_that_only_touch_were_not_one_load() {
        assert!(overlap((0.0, 10.0), (1.0, 11.0)));
        assert!(!overlap((0.0, 10.0), (9.0, 19.0)));
        assert!(
            overlap((0.0, 10.0), (2.0, 3.0)),
            "a short one within a long one"
        );
    }

    fn at(spans: &[(f64, f64)]) -> Vec<Run> {
        let run = |&(start, end): &(f64, f64)| {
            let mut run = Run::new("r", Kind::RoundTrip);
            run.span = Some((start, end));
            run.seconds = end - start;
            run.rate_pps = Some(10.0);
            run
        };
        spans.iter().map(run).collect()
    }

    #[test]
    fn a_chain_of_runs_is_one_load_at_the_rate_of_its_time() {
        // Each overlaps the next by more than half, and not the one after.
        let chain = [(0.0, 10.0), (4.0, 14.0), (8.0, 18.0), (12.0, 22.0)];
        let mut notes = Vec::new();
        let loads = of(&at(&chain), "merged", &mut notes);
        let [load] = &loads.each[..] else {
            panic!("{loads:?}");
        };
        assert_eq!(load.seconds, 22.0);
        assert_eq!(load.rate_pps, Some(400.0 / 22.0));
        assert!(notes[0].contains("not all at one time"), "{notes:?}");
    }

    #[test]
    fn a_mean_is_that_of_all_that_was_received() {
        let mut runs = at(&[(0.0, 10.0), (0.0, 10.0), (0.0, 10.0)]);
        for (run, (received, mean_us)) in
            runs.iter_mut()
                .zip([(100, Some(10.0)), (300, Some(20.0)), (0, None)])
        {
            run.counters = Some(Counters {
                received,
                ..Counters::default()
            });
            run.variation.mean_us = mean_us;
        }
        let merged = of(&runs, "merged", &mut Vec::new());
        let [run] = &merged.each[..] else {
            panic!("{merged:?}");
        };
        assert_eq!(run.variation.mean_us, Some(17.5));
        assert_eq!(run.variation.ipdv_us, None, "of how many it is not said");
    }

    #[test]
    fn the_order_of_the_files_changes_no_load() {
        let runs = at(&[(0.0, 10.0), (0.0, 1.0), (0.5, 10.0), (20.0, 21.0)]);
        let rates = |runs: &[Run]| -> Vec<_> {
            let loads = of(runs, "merged", &mut Vec::new());
            loads.each.iter().map(|it| it.rate_pps).collect()
        };
        let expected = rates(&runs);
        assert_eq!(expected.len(), 2);
        for order in [[1, 0, 2, 3], [3, 2, 1, 0], [2, 3, 1, 0], [1, 2, 3, 0]] {
            let ordered = order.map(|index| runs[index].clone());
            assert_eq!(rates(&ordered), expected, "{order:?}");
        }
    }

    #[test]
    fn a_run_of_an_unknown_time_is_a_part_of_the_one_load_that_there_is() {
        let mut runs = at(&[(0.0, 10.0), (0.0, 0.0)]);
        runs[1].span = None;
        let mut notes = Vec::new();
        assert_eq!(of(&runs, "merged", &mut notes).each.len(), 1);
        assert!(notes[0].contains("does not say when"), "{notes:?}");
        runs.extend(at(&[(20.0, 30.0)]));
        assert_eq!(of(&runs, "merged", &mut notes).each.len(), 3);
    }
}
