//! The axes of the plot, and how times become heights.

use std::ops::Range;

use hdrhistogram::Histogram;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};

/// Decades of times from which their axis is logarithmic.
const DECADES_LINEAR_MAX: f64 = 2.0;

/// An axis with the ticks that it is given.
pub(super) struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis over `range`.
    pub(super) fn new(range: Range<f64>, ticks: Vec<f64>) -> Self {
        Self { range, ticks }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let part = (value - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (part * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}

/// How times become heights.
pub(super) struct Scale {
    is_logarithmic: bool,
    low_ns: f64,
    high_ns: f64,
}

impl Scale {
    /// For all of `times_ns`.
    pub(super) fn new<'a>(times_ns: impl Iterator<Item = &'a Histogram<u64>> + Clone) -> Self {
        let least = times_ns.clone().map(Histogram::min).min();
        let greatest = times_ns.map(Histogram::max).max();
        let low_ns = least.unwrap_or(1).max(1) as f64;
        let high_ns = greatest.unwrap_or(1).max(2) as f64;
        Self {
            is_logarithmic: (high_ns / low_ns).log10() > DECADES_LINEAR_MAX,
            low_ns,
            high_ns,
        }
    }

    /// What the axis says of itself.
    pub(super) fn title(&self) -> &'static str {
        if self.is_logarithmic {
            "time (logarithmic)"
        } else {
            "time"
        }
    }

    /// The height of a time.
    pub(super) fn at(&self, ns: u64) -> f64 {
        if self.is_logarithmic {
            (ns.max(1) as f64).log10()
        } else {
            ns as f64
        }
    }

    /// The heights that there are.
    pub(super) fn range(&self) -> Range<f64> {
        if self.is_logarithmic {
            self.low_ns.log10().floor()..self.high_ns.log10() + 0.05
        } else {
            0.0..1.05 * self.high_ns
        }
    }

    /// The heights that have a label.
    pub(super) fn ticks(&self) -> Vec<f64> {
        let Range {
            start: low,
            end: high,
        } = self.range();
        if self.is_logarithmic {
            let decades = low as i32..=high as i32;
            return decades.map(f64::from).collect();
        }
        // Some five ticks at 1, 2 or 5 times a power of ten.
        let power = 10f64.powf((high / 5.0).log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|it| it * power)
            .into_iter()
            .find(|&step| high / step <= 6.0)
            .unwrap_or(10.0 * power);
        (0..=(high / step) as u32)
            .map(|it| f64::from(it) * step)
            .collect()
    }

    /// The time of a height.
    pub(super) fn label(&self, y: f64) -> String {
        let ns = if self.is_logarithmic {
            10f64.powf(y)
        } else {
            y
        };
        let (per_unit, unit) = match ns.round() {
            ..1e3 => (1.0, "ns"),
            1e3..1e6 => (1e3, "us"),
            1e6..1e9 => (1e6, "ms"),
            _ => (1e9, "s"),
        };
        let number = (ns / per_unit * 100.0).round() / 100.0;
        format!("{number} {unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(low_ns: f64, high_ns: f64) -> Scale {
        Scale {
            is_logarithmic: (high_ns / low_ns).log10() > DECADES_LINEAR_MAX,
            low_ns,
            high_ns,
        }
    }

    #[test]
    fn ticks_carry_their_unit() {
        let labels = |scale: Scale| -> Vec<String> {
            scale.ticks().into_iter().map(|y| scale.label(y)).collect()
        };
        assert_eq!(
            labels(scale(20_000.0, 30_000_000.0)),
            ["10 us", "100 us", "1 ms", "10 ms"]
        );
        assert_eq!(
            labels(scale(20_000.0, 110_000.0)),
            ["0 ns", "20 us", "40 us", "60 us", "80 us", "100 us"]
        );
    }

    #[test]
    fn an_axis_says_that_it_is_logarithmic() {
        assert_eq!(scale(20_000.0, 30_000_000.0).title(), "time (logarithmic)");
        assert_eq!(scale(20_000.0, 110_000.0).title(), "time");
    }
}
