//! Runs of one kind that were asked to do the same: put together where they are parts of the same
//! run, merged where they were one load, and set beside each other where they are repetitions.

use std::collections::BTreeMap;

use crate::compare::{Change, changes, worse};
use crate::copies;
use crate::loads::{self, Loads};
use crate::run::{Kind, Run, Settings};
use crate::verdict::{Verdict, verdicts};
use reflector_measure::quantiles::Quantiles;

/// All that is known of one kind of run with the same settings.
#[derive(Debug)]
pub(crate) struct Group {
    /// What was measured.
    pub(crate) kind: Kind,
    /// What tells it from the other groups of its kind; empty where it is the only one.
    pub(crate) apart: String,
    /// Each run.
    pub(crate) runs: Vec<Run>,
    /// What they come to.
    pub(crate) now: Loads,
    /// What it is compared with.
    pub(crate) baseline: Loads,
    /// What a reader should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Group {
    /// The runs as one; `None` if there is only a baseline.
    pub(crate) fn total(&self) -> Option<&Run> {
        self.now.total()
    }

    /// Each run, then the loads that they were, if those are others, then what these come to.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Run> {
        let merged = self.now.each.iter();
        let merged = merged.filter(|load| !self.runs.iter().any(|run| run.name == load.name));
        let spread = self.now.spread.iter().flatten();
        let median = spread.clone().next().and(self.now.total());
        self.runs.iter().chain(merged).chain(median).chain(spread)
    }

    /// What has changed since the baseline.
    pub(crate) fn changes(&self) -> Vec<Change> {
        match (self.baseline.total(), self.total()) {
            (Some(baseline), Some(now)) => changes(baseline, now),
            _ => Vec::new(),
        }
    }

    /// Whether what was repeated has changed beyond chance.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        verdicts(&self.kind, &self.baseline.each, &self.now.each)
    }

    /// What got worse by more than `max_percent`, a sentence each.
    pub(crate) fn worse(&self, max_percent: f64) -> Vec<String> {
        worse(&self.kind, &self.changes(), max_percent)
    }
}

/// Runs of one kind by their settings.
type BySettings = BTreeMap<Option<Settings>, Vec<Run>>;

/// Sorts runs by kind and by settings, and merges what is alike.
pub(crate) fn gather(now: Vec<Run>, baseline: Vec<Run>) -> Vec<Group> {
    let is_compared = !baseline.is_empty();
    let mut kinds: BTreeMap<Kind, (Vec<Run>, Vec<Run>)> = BTreeMap::new();
    for run in now {
        kinds.entry(run.kind.clone()).or_default().0.push(run);
    }
    for run in baseline {
        kinds.entry(run.kind.clone()).or_default().1.push(run);
    }
    let mut groups = Vec::new();
    for (kind, (now, baseline)) in kinds {
        let mut notes = Vec::new();
        let [now, mut baseline] = [now, baseline].map(|runs| {
            let runs = copies::without(runs, &mut notes);
            by_settings(put_together(runs), &mut notes)
        });
        let mut pairs = Vec::new();
        let only = |runs: &BySettings| match runs.len() {
            1 => runs.keys().next().cloned(),
            _ => None,
        };
        if let (Some(settings), Some(other)) = (only(&now), only(&baseline)) {
            // Whoever names one baseline wants to compare with that.
            notes.extend(difference(settings.as_ref(), other.as_ref()));
            let before = baseline.into_values().flatten().collect();
            pairs.push((settings, now.into_values().flatten().collect(), before));
        } else {
            for (settings, runs) in now {
                let before = baseline.remove(&settings).unwrap_or_default();
                pairs.push((settings, runs, before));
            }
            let rest = baseline.into_iter();
            pairs.extend(rest.map(|(settings, before)| (settings, Vec::new(), before)));
        }
        let all: Vec<_> = pairs.iter().filter_map(|(it, _, _)| it.clone()).collect();
        for (settings, runs, before) in pairs {
            let apart = match &settings {
                Some(it) => it.apart_from(all.iter()),
                None if all.is_empty() => String::new(),
                None => "settings not known".to_owned(),
            };
            let mut notes = std::mem::take(&mut notes);
            let runs_of_both = runs.iter().chain(&before);
            notes.extend(runs_of_both.flat_map(|run| run.notes.iter().cloned()));
            let group = Group {
                now: loads::of(&runs, "merged", &mut notes),
                baseline: loads::of(&before, "", &mut notes),
                kind: kind.clone(),
                apart,
                runs,
                notes,
            };
            groups.push(with_comparison(group, is_compared));
        }
    }
    groups
}

/// Says where there is nothing to compare.
fn with_comparison(mut group: Group, is_compared: bool) -> Group {
    let side = match (group.runs.is_empty(), group.baseline.total()) {
        (true, _) => "in the files",
        (false, None) => "in the baseline",
        _ => return group,
    };
    if is_compared {
        let kind = &group.kind;
        group
            .notes
            .push(format!("{kind}: nothing to compare, there is none {side}"));
    }
    group
}

/// What the baseline was asked to do otherwise, if anything.
fn difference(now: Option<&Settings>, baseline: Option<&Settings>) -> Option<String> {
    let (now, baseline) = (now?, baseline?);
    (now != baseline).then(|| {
        format!(
            "the baseline was asked for something else: {} instead of {}",
            baseline.apart_from([now].into_iter()),
            now.apart_from([baseline].into_iter()),
        )
    })
}

/// Runs by their settings. Those whose file does not say theirs, such as histogram logs, are taken
/// for runs like the others where there is one sort of others.
fn by_settings(runs: Vec<Run>, notes: &mut Vec<String>) -> BySettings {
    let mut sorted = BySettings::new();
    for run in runs {
        sorted.entry(run.settings.clone()).or_default().push(run);
    }
    if sorted.len() == 2
        && let Some(unknown) = sorted.remove(&None)
    {
        let names = unknown.iter().map(|run| run.name.as_str());
        notes.push(format!(
            "{} does not say what was asked for: taken for the same as the others",
            Vec::from_iter(names).join(", ")
        ));
        let others = sorted.values_mut().next();
        others.expect("one is left of two").extend(unknown);
    }
    sorted
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
                    (other.settings, other.span) = (run.settings, run.span);
                    (other.times, other.variation) = (run.times, run.variation);
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

/// Whether both are the same but for the width of a bucket: a summary knows the longest time, a
/// histogram the end of its bucket. Not every report has the 99.99th percentile.
fn is_same(a: &Quantiles, b: &Quantiles) -> bool {
    let near = |(a, b): (f64, f64)| (a - b).abs() <= 1e-3 * a.abs().max(b.abs());
    let all = |it: &Quantiles| [it.min, it.p50, it.p90, it.p99, it.p99_9, it.max];
    a.count == b.count && all(a).into_iter().zip(all(b)).all(near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Sum;
    use crate::run::Counters;
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
            assert!(run.times_ns.is_some() && groups[0].now.each.len() == 1);
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
        let merged = groups[0].total().unwrap();
        assert_eq!(merged.counters.unwrap().sent, 5);
        assert_eq!((merged.rate_pps, merged.seconds), (Some(2.5), 2.0));
        let times = merged.times.unwrap();
        assert_eq!((times.count, times.p50.round()), (5, 3.0));
        assert!(
            groups[0].notes[0].contains("does not say when"),
            "{groups:?}"
        );
    }

    #[test]
    fn quantiles_are_never_made_of_quantiles() {
        let a = timed("a", &[1000, 2000]);
        let mut other = a.times.unwrap();
        other.p50 = 9.0;
        let groups = gather(vec![counted("b", 5, Some(other)), a], Vec::new());
        let merged = groups[0].total().unwrap();
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
        assert!(groups.iter().all(|group| group.now.each.len() == 1));
        assert!(groups[1].notes[0].contains("nothing to compare"));
    }

    fn asked(mut run: Run, rate: &str, span: (f64, f64)) -> Run {
        run.settings = Some(Settings::new([
            ("target", "t".to_owned()),
            ("rate", rate.to_owned()),
        ]));
        run.span = Some(span);
        run
    }

    #[test]
    fn what_overlaps_is_one_load_and_what_does_not_is_a_repetition() {
        let run = |name: &str, sent, span| asked(counted(name, sent, None), "5", span);
        let together = [run("a", 10, (0.0, 2.0)), run("b", 12, (0.1, 2.1))];
        let groups = gather(together.to_vec(), Vec::new());
        assert_eq!(groups[0].total().unwrap().rate_pps, Some(11.0));
        assert!(groups[0].now.spread.is_none());
        let later = run("c", 20, (5.0, 7.0));
        let all = [&together[..], &[later, run("d", 30, (9.0, 11.0))]].concat();
        let groups = gather(all, Vec::new());
        let now = &groups[0].now;
        let rates: Vec<_> = now.each.iter().map(|it| it.rate_pps.unwrap()).collect();
        assert_eq!(rates, [11.0, 10.0, 15.0]);
        assert_eq!(now.total().unwrap().rate_pps, Some(11.0), "the median");
        let [least, greatest] = now.spread.as_ref().unwrap();
        assert_eq!(
            (least.rate_pps, greatest.rate_pps),
            (Some(10.0), Some(15.0))
        );
    }

    #[test]
    fn a_rate_that_was_halved_is_worse_however_often_it_was_measured() {
        let run = |sent, at: f64| asked(counted("r", sent, None), "5", (at, at + 2.0));
        let baseline = vec![run(100, 0.0)];
        let halved = vec![run(50, 10.0), run(50, 20.0)];
        let groups = gather(halved, baseline);
        assert_eq!(groups[0].worse(10.0).len(), 1, "{groups:?}");
    }

    #[test]
    fn unlike_runs_are_groups_of_their_own() {
        let a = asked(counted("a", 10, None), "5", (0.0, 2.0));
        let b = asked(counted("b", 20, None), "9", (0.0, 2.0));
        let groups = gather(vec![a.clone(), b.clone()], Vec::new());
        let apart: Vec<_> = groups.iter().map(|group| group.apart.as_str()).collect();
        assert_eq!(apart, ["rate 5", "rate 9"]);
        // One that says nothing joins neither.
        let groups = gather(
            vec![a.clone(), b.clone(), counted("c", 1, None)],
            Vec::new(),
        );
        assert_eq!(groups.len(), 3);
        // A baseline that is the only one is compared all the same, and the difference told.
        let groups = gather(vec![a], vec![b]);
        assert_eq!(groups.len(), 1);
        assert!(!groups[0].changes().is_empty());
        assert!(
            groups[0].notes[0].contains("rate 9 instead of rate 5"),
            "{groups:?}"
        );
    }
}
