//! What has changed between two runs of a kind.

use serde::Serialize;

use crate::run::{Kind, Run};

/// One quantity, before and now.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Change {
    /// Its name, with the unit.
    pub(crate) quantity: &'static str,
    /// Before.
    pub(crate) baseline: f64,
    /// Now.
    pub(crate) now: f64,
    /// The difference: in percent of the baseline, or in points where it is a percentage itself.
    /// Infinite, and null in JSON, where the baseline is zero.
    pub(crate) change: f64,
    /// Whether the difference is in points.
    pub(crate) is_points: bool,
    /// Whether more is better, worse, or neither.
    #[serde(skip)]
    better: Better,
    /// Whether a regression of it counts for `--max-regression`.
    #[serde(skip)]
    is_checked: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Better {
    More,
    Less,
}

impl Change {
    /// By how much it is worse; negative where it is better.
    pub(crate) fn regression(&self) -> f64 {
        match self.better {
            Better::More => -self.change,
            Better::Less => self.change,
        }
    }
}

/// All that both runs know.
pub(crate) fn changes(baseline: &Run, now: &Run) -> Vec<Change> {
    let rate = now.kind.rate_name();
    let mut changes = Vec::new();
    if let Some((baseline, now)) = baseline.rate_pps.zip(now.rate_pps) {
        changes.push(relative(rate, baseline, now, Better::More, true));
    }
    if let Some((baseline, now)) = baseline.loss_percent().zip(now.loss_percent()) {
        changes.push(Change {
            quantity: "lost %",
            baseline,
            now,
            change: now - baseline,
            is_points: true,
            better: Better::Less,
            is_checked: false,
        });
    }
    let variation = (baseline.variation, now.variation);
    if let Some((baseline, now)) = baseline.times.zip(now.times) {
        for (quantity, baseline, now, is_checked) in [
            ("min us", baseline.min, now.min, false),
            ("p50 us", baseline.p50, now.p50, false),
            ("p90 us", baseline.p90, now.p90, false),
            ("p99 us", baseline.p99, now.p99, true),
            ("p99.9 us", baseline.p99_9, now.p99_9, false),
            ("max us", baseline.max, now.max, false),
        ] {
            changes.push(relative(quantity, baseline, now, Better::Less, is_checked));
        }
    }
    let (baseline, now) = variation;
    for (quantity, baseline, now) in [
        ("mean us", baseline.mean_us, now.mean_us),
        ("ipdv us", baseline.ipdv_us, now.ipdv_us),
    ] {
        if let Some((baseline, now)) = baseline.zip(now) {
            changes.push(relative(quantity, baseline, now, Better::Less, false));
        }
    }
    changes
}

fn relative(
    quantity: &'static str,
    baseline: f64,
    now: f64,
    better: Better,
    is_checked: bool,
) -> Change {
    let change = if baseline > 0.0 {
        100.0 * (now - baseline) / baseline
    } else if now > 0.0 {
        // No percentage of nothing says how much more it is.
        f64::INFINITY
    } else {
        0.0
    };
    Change {
        quantity,
        baseline,
        now,
        change,
        is_points: false,
        better,
        is_checked,
    }
}

/// Which of p99 and rate got worse by more than `max_percent`, a sentence each.
pub(crate) fn worse(kind: &Kind, changes: &[Change], max_percent: f64) -> Vec<String> {
    let is_worse = |it: &&Change| it.is_checked && it.regression() > max_percent;
    let sentence = |it: &Change| {
        let by = match it.regression() {
            by if by.is_finite() => format!("{by:.1} %"),
            _ => "more than any percentage of it".to_owned(),
        };
        format!(
            "{kind}: {} went from {:.1} to {:.1}, worse by {by}; --max-regression allows \
             {max_percent} %",
            it.quantity, it.baseline, it.now,
        )
    };
    changes.iter().filter(is_worse).map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_rate_and_a_longer_p99_are_worse() {
        let changes = [
            relative("received/s", 100.0, 89.0, Better::More, true),
            relative("p50 us", 10.0, 99.0, Better::Less, false),
            relative("p99 us", 10.0, 11.5, Better::Less, true),
        ];
        assert_eq!(worse(&Kind::RoundTrip, &changes, 10.0).len(), 2);
        assert_eq!(worse(&Kind::RoundTrip, &changes, 12.0).len(), 1);
        assert!(worse(&Kind::RoundTrip, &changes, 20.0).is_empty());
        let from_nothing = [relative("p99 us", 0.0, 5.0, Better::Less, true)];
        let said = worse(&Kind::RoundTrip, &from_nothing, 1000.0);
        assert!(
            said[0].contains("from 0.0 to 5.0, worse by more than any"),
            "{said:?}"
        );
        let better = [relative("received/s", 100.0, 200.0, Better::More, true)];
        assert!(worse(&Kind::RoundTrip, &better, 0.0).is_empty());
    }
}
