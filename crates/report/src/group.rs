//! Runs of one kind: put together where they are parts of the same run, merged where they are not.

use std::collections::BTreeMap;

use crate::compare::{Change, changes, worse};
use crate::run::{Counters, Kind, Run};
use reflector_measure::quantiles::Quantiles;

/// All that is known of one kind.
#[derive(Debug)]
pub(crate) struct Group {
    /// What was measured.
    pub(crate) kind: Kind,
    /// Each run.
    pub(crate) runs: Vec<Run>,
    /// All of them together, if there are several.
    pub(crate) merged: Option<Run>,
    /// What it is compared with, merged.
    pub(crate) baseline: Option<Run>,
    /// What a reader should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Group {
    /// The runs as one; `None` if there is only a baseline.
    pub(crate) fn total(&self) -> Option<&Run> {
        self.merged.as_ref().or(self.runs.first())
    }

    /// What has changed since the baseline.
    pub(crate) fn changes(&self) -> Vec<Change> {
        match (&self.baseline, self.total()) {
            (Some(baseline), Some(now)) => changes(baseline, now),
            _ => Vec::new(),
        }
    }

    /// What got worse by more than `max_percent`, a sentence each.
    pub(crate) fn worse(&self, max_percent: f64) -> Vec<String> {
        worse(&self.kind, &self.changes(), max_percent)
    }
}

/// Sorts runs by kind, and merges those of a kind.
pub(crate) fn gather(now: Vec<Run>, baseline: Vec<Run>) -> Vec<Group> {
    let mut kinds: BTreeMap<Kind, (Vec<Run>, Vec<Run>)> = BTreeMap::new();
    for run in now {
        kinds.entry(run.kind.clone()).or_default().0.push(run);
    }
    let is_compared = !baseline.is_empty();
    for run in baseline {
        kinds.entry(run.kind.clone()).or_default().1.push(run);
    }
    let group = |(kind, (now, baseline)): (Kind, (Vec<Run>, Vec<Run>))| {
        let (runs, baseline) = (put_together(now), put_together(baseline));
        let mut notes = Vec::new();
        let merged = (runs.len() > 1).then(|| merge(&runs, "merged", &mut notes));
        let baseline = (!baseline.is_empty()).then(|| merge(&baseline, "baseline", &mut notes));
        if is_compared && (baseline.is_none() || runs.is_empty()) {
            let side = if runs.is_empty() {
                "in the files"
            } else {
                "in the baseline"
            };
            notes.push(format!("{kind}: nothing to compare, there is none {side}"));
        }
        Group {
            kind,
            runs,
            merged,
            baseline,
            notes,
        }
    };
    kinds.into_iter().map(group).collect()
}

/// A summary and a histogram log of the same run are one run: the counters of the one, the times of
/// the other.
fn put_together(runs: Vec<Run>) -> Vec<Run> {
    let mut whole: Vec<Run> = Vec::with_capacity(runs.len());
    for run in runs {
        let other = whole.iter_mut().find(|it| is_other_half(it, &run));
        match other {
            Some(other) => {
                other.name = format!("{} + {}", other.name, run.name);
                if other.counters.is_none() {
                    other.counters = run.counters;
                    other.seconds = run.seconds;
                    other.rate_pps = run.rate_pps;
                    other.targets = run.targets;
                    other.times = run.times;
                } else {
                    other.times_ns = run.times_ns;
                }
            }
            None => whole.push(run),
        }
    }
    whole
}

fn is_other_half(a: &Run, b: &Run) -> bool {
    let is_half = |counted: &Run, timed: &Run| {
        counted.counters.is_some()
            && counted.times_ns.is_none()
            && timed.counters.is_none()
            && timed.times_ns.is_some()
    };
    let is_same = a.times.zip(b.times).is_some_and(|(a, b)| is_same(&a, &b));
    is_same && (is_half(a, b) || is_half(b, a))
}

/// Whether both are the same but for rounding. Not every report has the 99.99th percentile.
fn is_same(a: &Quantiles, b: &Quantiles) -> bool {
    let near = |(a, b): (f64, f64)| (a - b).abs() <= 1e-6 * a.abs().max(b.abs());
    let all = |it: &Quantiles| [it.min, it.p50, it.p90, it.p99, it.p99_9, it.max];
    a.count == b.count && all(a).into_iter().zip(all(b)).all(near)
}

/// All of `runs` as one: counters and rates are added, histograms too. Quantiles of runs without a
/// histogram are lost, since no calculation gives those of a whole from those of its parts.
fn merge(runs: &[Run], role: &str, notes: &mut Vec<String>) -> Run {
    if let [only] = runs {
        return only.clone();
    }
    let mut merged = Run::new(
        format!("{role} ({} runs)", runs.len()),
        runs[0].kind.clone(),
    );
    let mut times_ns = super::histogram::Sum::new();
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
        let times_ns = times_ns.into_ns(crate::unit::Unit::Ns);
        merged.times = (!times_ns.is_empty()).then(|| Quantiles::from_ns(&times_ns));
        merged.times_ns = merged.times.is_some().then_some(times_ns);
    } else {
        notes.push(format!(
            "{}: quantiles cannot be merged without histograms: save each run with --hdr, and name \
             those files too",
            merged.kind
        ));
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Sum;
    use crate::unit::Unit;

    fn timed(name: &str, values: &[u64]) -> Run {
        let mut times = Sum::new();
        values.iter().for_each(|&value| times.record(value, 1));
        Run::of_times(
            name.to_owned(),
            Kind::RoundTrip,
            1.0,
            times.into_ns(Unit::Ns),
        )
    }

    fn counted(name: &str, sent: u64, times: Option<Quantiles>) -> Run {
        Run {
            seconds: 2.0,
            counters: Some(Counters {
                sent,
                received: sent,
                ..Counters::default()
            }),
            rate_pps: Some(sent as f64 / 2.0),
            times,
            ..Run::new(name, Kind::RoundTrip)
        }
    }

    #[test]
    fn a_summary_and_its_log_are_one_run() {
        let log = timed("a.hlog", &[1000, 2000]);
        let summary = counted("a.json", 2, log.times);
        for runs in [vec![log.clone(), summary.clone()], vec![summary, log]] {
            let groups = gather(runs, Vec::new());
            let [run] = &groups[0].runs[..] else {
                panic!("{groups:?}");
            };
            assert_eq!((run.counters.unwrap().sent, run.seconds), (2, 2.0));
            assert!(run.times_ns.is_some() && groups[0].merged.is_none());
        }
    }

    #[test]
    fn runs_of_many_machines_add_up() {
        let a = timed("a", &[1000, 2000]);
        let b = timed("b", &[3000, 4000, 5000]);
        let runs = vec![
            counted("a.json", 2, a.times),
            a,
            counted("b.json", 3, b.times),
            b,
        ];
        let groups = gather(runs, Vec::new());
        let merged = groups[0].merged.as_ref().unwrap();
        assert_eq!(merged.counters.unwrap().sent, 5);
        assert_eq!((merged.rate_pps, merged.seconds), (Some(2.5), 2.0));
        let times = merged.times.unwrap();
        assert_eq!((times.count, times.p50.round()), (5, 3.0));
        assert!(groups[0].notes.is_empty());
    }

    #[test]
    fn quantiles_are_never_made_of_quantiles() {
        let a = timed("a", &[1000, 2000]);
        let mut other = a.times.unwrap();
        other.p50 = 9.0;
        let groups = gather(vec![counted("b", 5, Some(other)), a], Vec::new());
        let merged = groups[0].merged.as_ref().unwrap();
        assert!(merged.times.is_none() && merged.times_ns.is_none());
        assert!(groups[0].notes.iter().any(|it| it.contains("--hdr")));
    }

    #[test]
    fn kinds_do_not_mix() {
        let residence = Run {
            kind: Kind::Residence,
            ..timed("r", &[7])
        };
        let groups = gather(vec![timed("a", &[1]), residence], vec![timed("b", &[2])]);
        assert_eq!(groups.len(), 2);
        assert!(groups.iter().all(|group| group.merged.is_none()));
        assert!(groups[1].notes[0].contains("nothing to compare"));
    }
}
