//! Whether what was repeated has changed, or chance made it look so.

use std::cmp::Ordering;

use serde::Serialize;

use crate::run::{Kind, Run};

/// Below which probability a difference is not taken for chance.
const SIGNIFICANCE: f64 = 0.05;
/// Repetitions of each side that are looked at, the first ones.
const REPETITIONS_MAX: usize = 100;

/// Whether a quantity of repeated loads is another than it was.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    /// Its name, with the unit.
    pub(crate) quantity: &'static str,
    /// How many repetitions there were before and now.
    pub(crate) repetitions: [usize; 2],
    /// How probable so great a difference is where there is none; `None` where there are too few
    /// repetitions to tell any.
    pub(crate) probability: Option<f64>,
    /// `more`, `less`, `no_difference`, or `too_few_repetitions`.
    pub(crate) verdict: &'static str,
}

/// What the test of Mann and Whitney says of rate and p99, which asks nothing of their
/// distribution; nothing where nothing was repeated.
pub(crate) fn verdicts(kind: &Kind, baseline: &[Run], now: &[Run]) -> Vec<Verdict> {
    let rate = |runs: &[Run]| Vec::from_iter(runs.iter().filter_map(|run| run.rate_pps));
    let p99 = |runs: &[Run]| Vec::from_iter(runs.iter().filter_map(|run| Some(run.times?.p99)));
    let rate = verdict(kind.rate_name(), &rate(baseline), &rate(now));
    let p99 = verdict("p99 us", &p99(baseline), &p99(now));
    rate.into_iter().chain(p99).collect()
}

fn verdict(quantity: &'static str, baseline: &[f64], now: &[f64]) -> Option<Verdict> {
    let repetitions = [baseline.len(), now.len()];
    if repetitions.into_iter().any(|count| count < 2) {
        return None;
    }
    let baseline = &baseline[..baseline.len().min(REPETITIONS_MAX)];
    let now = &now[..now.len().min(REPETITIONS_MAX)];
    let pairs = baseline.len() * now.len();
    let least_probability = probability(baseline.len(), now.len(), 0);
    let (probability, verdict) = if least_probability > SIGNIFICANCE {
        (None, "too_few_repetitions")
    } else {
        let above = above(now, baseline);
        // A tie in the rarer order counts as a whole: rather no difference than a false one.
        let rarer = above.min(pairs as f64 - above).ceil() as usize;
        let probability = probability(baseline.len(), now.len(), rarer);
        let verdict = if probability > SIGNIFICANCE {
            "no_difference"
        } else if above > pairs as f64 / 2.0 {
            "more"
        } else {
            "less"
        };
        (Some(probability), verdict)
    };
    Some(Verdict {
        quantity,
        repetitions,
        probability,
        verdict,
    })
}

/// Pairs of a value of `a` and a smaller one of `b`; of two alike, a half.
fn above(a: &[f64], b: &[f64]) -> f64 {
    let pairs = a.iter().flat_map(|a| b.iter().map(move |b| (a, b)));
    let count = |(a, b): (&f64, &f64)| match a.total_cmp(b) {
        Ordering::Greater => 1.0,
        Ordering::Equal => 0.5,
        Ordering::Less => 0.0,
    };
    pairs.map(count).sum()
}

/// The probability that of `a` and `b` values, all from one source, at most `rarer` of the `a * b`
/// pairs are in the rarer order, whichever that is. Exact, and the same for all distributions
/// (H. B. Mann, D. R. Whitney, 1947).
fn probability(a: usize, b: usize, rarer: usize) -> f64 {
    // How many of the orders of a + b values have u pairs is the coefficient of q^u in the
    // Gaussian binomial: the product of (1 - q^(b + i)) / (1 - q^i) for i from 1 to a.
    let mut orders = vec![0.0; a * b + 1];
    orders[0] = 1.0;
    for i in 1..=a {
        for u in (b + i..orders.len()).rev() {
            orders[u] -= orders[u - b - i];
        }
        for u in i..orders.len() {
            orders[u] += orders[u - i];
        }
    }
    let all: f64 = orders.iter().sum();
    let tail: f64 = orders.iter().take(rarer + 1).sum();
    (2.0 * tail / all).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_told_from_chance_where_there_are_repetitions_enough() {
        let judged = |baseline: &[f64], now: &[f64]| {
            verdict("received/s", baseline, now).map(|it| it.verdict)
        };
        let before = [10.0, 11.0, 12.0, 13.0];
        assert_eq!(judged(&before, &[20.0, 21.0, 22.0, 23.0]), Some("more"));
        assert_eq!(judged(&before, &[1.0, 2.0, 3.0, 4.0]), Some("less"));
        assert_eq!(
            judged(&before, &[10.5, 11.5, 12.5, 9.5]),
            Some("no_difference")
        );
        assert_eq!(
            judged(&[10.0, 11.0, 12.0], &[20.0, 21.0, 22.0]),
            Some("too_few_repetitions")
        );
        assert_eq!(judged(&[10.0], &before), None);
    }

    #[test]
    fn the_probability_is_that_of_the_published_tables() {
        // For a significance of 5 % on both sides: the greatest u that is significant.
        for (a, b, u) in [(4, 4, 0), (5, 5, 2), (6, 8, 8), (10, 10, 23), (20, 20, 127)] {
            assert!(probability(a, b, u) <= 0.05, "{a} {b} {u}");
            assert!(probability(a, b, u + 1) > 0.05, "{a} {b} {u}");
        }
        assert!((probability(4, 4, 0) - 2.0 / 70.0).abs() < 1e-12);
        assert!((probability(3, 3, 0) - 0.1).abs() < 1e-12);
    }

    #[test]
    fn ties_are_no_difference() {
        assert_eq!(
            verdict("x", &[1.0; 5], &[1.0; 5]).unwrap().verdict,
            "no_difference"
        );
    }
}
