//! The nouns: a run that was saved, what kind of thing it measured, its counters and its times.

use std::collections::BTreeSet;
use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::histogram::Times;
use reflector_measure::quantiles::{Quantiles, value_at};

/// What was measured; only like is merged or compared with like.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Round trips, by `reflector load`.
    RoundTrip,
    /// Residence times, by `reflector`.
    Residence,
    /// The highest rate with at most this many percent lost, by `reflector load --find-rate`.
    HighestRate(String),
    /// Another tool's times; with the name that they have there, if any.
    Other(String),
}

impl Kind {
    /// For programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::RoundTrip => "round_trip",
            Self::Residence => "residence",
            Self::HighestRate(_) => "highest_rate",
            Self::Other(_) => "other",
        }
    }

    /// Which one, where the name does not say it.
    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::RoundTrip | Self::Residence => None,
            Self::HighestRate(detail) | Self::Other(detail) => {
                Some(detail).filter(|it| !it.is_empty()).map(|it| &**it)
            }
        }
    }
}

impl Kind {
    /// What a rate of it counts, as the head of a column.
    pub(crate) fn rate_name(&self) -> &'static str {
        match self {
            Self::RoundTrip => "received/s",
            Self::Residence => "replied/s",
            Self::HighestRate(_) => "offered/s",
            Self::Other(_) => "values/s",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RoundTrip => f.write_str("round trip"),
            Self::Residence => f.write_str("residence"),
            Self::HighestRate(percent) => write!(f, "highest rate with at most {percent} % lost"),
            Self::Other(name) if name.is_empty() => f.write_str("times"),
            Self::Other(name) => write!(f, "times of {name}"),
        }
    }
}

/// How many datagrams; what a kind does not count is zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    /// Sent by the generator.
    pub(crate) sent: u64,
    /// Answers received by the generator, or questions by the reflector.
    pub(crate) received: u64,
    /// Answered by the reflector.
    pub(crate) replied: u64,
    /// Not answered as they should be.
    pub(crate) lost: u64,
    /// Refused by the sender's own kernel.
    pub(crate) refused: u64,
    /// Left without an answer, for a reason.
    pub(crate) dropped: u64,
    /// Answered from an address that was not asked.
    pub(crate) wrong_source: u64,
    /// Dropped by the kernel because the receive buffer was full.
    pub(crate) kernel_drops: u64,
}

impl Counters {
    /// Adds `other`.
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, more) in [
            (&mut self.sent, other.sent),
            (&mut self.received, other.received),
            (&mut self.replied, other.replied),
            (&mut self.lost, other.lost),
            (&mut self.refused, other.refused),
            (&mut self.dropped, other.dropped),
            (&mut self.wrong_source, other.wrong_source),
            (&mut self.kernel_drops, other.kernel_drops),
        ] {
            *sum = sum.saturating_add(more);
        }
    }

    /// Lost, in percent of what was sent; or, by the reflector, not replied to or not even
    /// received, in percent of what came to its sockets. `None` of nothing.
    pub(crate) fn loss_percent(&self, kind: &Kind) -> Option<f64> {
        let (lost, of) = match kind {
            Kind::Residence => {
                let unanswered = self.received.saturating_sub(self.replied);
                (
                    unanswered.saturating_add(self.kernel_drops),
                    self.received.saturating_add(self.kernel_drops),
                )
            }
            _ => (self.lost, self.sent),
        };
        (of > 0).then(|| 100.0 * (lost as f64 / of as f64))
    }
}

/// How the round trips of what was received vary, in microseconds; what a file does not say is
/// `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Variation {
    /// Their mean.
    pub(crate) mean_us: Option<f64>,
    /// The mean difference between one and the next of its flow (IPDV).
    pub(crate) ipdv_us: Option<f64>,
}

/// What a run was asked to do, as far as it decides on the result: runs that differ in it are not
/// alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Settings(Vec<(&'static str, String)>);

impl Settings {
    /// From names and values.
    pub(crate) fn new(values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        Self(values.into_iter().collect())
    }

    /// The rate and whatever else decides on a load, as `5000/s, 64 bytes, 16 flows`.
    pub(crate) fn asked(&self) -> String {
        let asked = |(name, value): &(&str, String)| match (*name, &**value) {
            ("rate", "max") => Some("as many as possible".to_owned()),
            ("rate", rate) => Some(format!("{rate}/s")),
            ("size", size) => Some(format!("{size} bytes")),
            ("flows", "1") => Some("1 flow".to_owned()),
            ("flows", flows) => Some(format!("{flows} flows")),
            ("burst", burst) if burst != "1" => Some(format!("trains of {burst}")),
            ("window", window) if window != "none" => Some(format!("a window of {window}")),
            ("poisson", "true") => Some("at random times".to_owned()),
            _ => None,
        };
        Vec::from_iter(self.0.iter().filter_map(asked)).join(", ")
    }

    /// What is another in `self` than in `others`, as `rate 5000, size 64`.
    pub(crate) fn apart_from<'a>(&self, others: impl Iterator<Item = &'a Self> + Clone) -> String {
        let is_apart = |(name, value): &&(&str, String)| {
            let differs = |other: &Self| other.0.iter().any(|(n, v)| n == name && v != value);
            others.clone().any(differs)
        };
        let apart = self.0.iter().filter(is_apart);
        let apart = apart.map(|(name, value)| format!("{name} {value}"));
        Vec::from_iter(apart).join(", ")
    }
}

/// What is known about a run, or about several that were merged.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Files that it is from, with what tells it from others in the same file.
    pub(crate) name: String,
    /// What was measured.
    pub(crate) kind: Kind,
    /// The targets.
    pub(crate) targets: BTreeSet<String>,
    /// What it was asked to do, if the file says so.
    pub(crate) settings: Option<Settings>,
    /// How long it took.
    pub(crate) seconds: f64,
    /// When it began and ended, in seconds of the Unix epoch, if the file says so.
    pub(crate) span: Option<(f64, f64)>,
    /// How many datagrams, if the file says so.
    pub(crate) counters: Option<Counters>,
    /// Loss in percent, where it is not that of the counters.
    pub(crate) loss: Option<f64>,
    /// Per second: datagrams received by the generator, or replied to by the reflector, or values.
    pub(crate) rate_pps: Option<f64>,
    /// The times in short.
    pub(crate) times: Option<Quantiles>,
    /// How they vary.
    pub(crate) variation: Variation,
    /// The times in full, in nanoseconds.
    pub(crate) times_ns: Option<Histogram<u64>>,
    /// What a reader of its figures should know, a sentence each.
    pub(crate) notes: Vec<String>,
}

impl Run {
    /// A run of which nothing is known yet.
    pub(crate) fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            targets: BTreeSet::new(),
            settings: None,
            seconds: 0.0,
            span: None,
            counters: None,
            loss: None,
            rate_pps: None,
            times: None,
            variation: Variation::default(),
            times_ns: None,
            notes: Vec::new(),
        }
    }

    /// A run of which the times are known.
    pub(crate) fn of_times(name: String, kind: Kind, seconds: f64, times: Times) -> Self {
        let is_foreign = matches!(kind, Kind::Other(_)) && seconds > 0.0;
        Self {
            seconds,
            rate_pps: is_foreign.then(|| times.ns.len() as f64 / seconds),
            times: times.quantiles(),
            times_ns: Some(times.ns),
            ..Self::new(name, kind)
        }
    }

    /// Microseconds at `quantile`; `None` where they are not known, or there are too few beyond it.
    pub(crate) fn value_at(&self, quantile: f64) -> Option<f64> {
        let ns = value_at(self.times_ns.as_ref()?, quantile)?;
        match self.times {
            // The lower end of a bucket that may be wider than the one it is in here.
            Some(times) if quantile == 0.0 => Some(times.min),
            _ => Some(ns as f64 / 1000.0),
        }
    }

    /// Loss in percent, if the file says so.
    pub(crate) fn loss_percent(&self) -> Option<f64> {
        let counted = self
            .counters
            .and_then(|counters| counters.loss_percent(&self.kind));
        counted.or(self.loss)
    }
}

/// What was read from a file.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    /// The runs in it.
    pub(crate) runs: Vec<Run>,
    /// What a reader should know, sentences that begin with the file's name.
    pub(crate) warnings: Vec<String>,
    /// Whether it does not tell the unit of its times.
    pub(crate) has_no_unit: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_never_received_is_lost_too() {
        let counters = Counters {
            received: 100,
            replied: 95,
            kernel_drops: 300,
            ..Counters::default()
        };
        assert_eq!(counters.loss_percent(&Kind::Residence), Some(76.25));
        // A generator counts what its own sockets dropped among what is lost.
        let counters = Counters {
            sent: 100,
            lost: 25,
            kernel_drops: 25,
            ..Counters::default()
        };
        assert_eq!(counters.loss_percent(&Kind::RoundTrip), Some(25.0));
    }

    #[test]
    fn what_was_asked_is_said_in_short() {
        let asked = |values: &[(&'static str, &str)]| {
            let values = values.iter().map(|&(name, value)| (name, value.to_owned()));
            Settings::new(values).asked()
        };
        let usual = [
            ("target", "t"),
            ("rate", "5000"),
            ("size", "64"),
            ("burst", "1"),
        ];
        assert_eq!(asked(&usual), "5000/s, 64 bytes");
        let window = [
            ("rate", "max"),
            ("flows", "2"),
            ("burst", "64"),
            ("window", "4"),
        ];
        assert_eq!(
            asked(&window),
            "as many as possible, 2 flows, trains of 64, a window of 4"
        );
    }
}
