//! The quantiles that every report has, and those of a percentile table.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Quantiles of measured times, in microseconds; all zero where `count` is, and written as null
/// then: nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", from = "Written")]
#[non_exhaustive]
pub struct Quantiles {
    /// Times measured.
    pub count: u64,
    /// Shortest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// 99.99th percentile; `None` only where it was read from a report that does not have it.
    pub p99_99: Option<f64>,
    /// Longest.
    pub max: f64,
}

/// The same as it is written, where a null is what was not measured.
#[derive(Serialize, Deserialize)]
struct Written {
    count: u64,
    min: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    p99_9: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p99_99: Option<Option<f64>>,
    max: Option<f64>,
}

impl From<Quantiles> for Written {
    fn from(times: Quantiles) -> Self {
        let told = |us: f64| (times.count > 0).then_some(us);
        Self {
            count: times.count,
            min: told(times.min),
            p50: told(times.p50),
            p90: told(times.p90),
            p99: told(times.p99),
            p99_9: told(times.p99_9),
            p99_99: times.p99_99.map(told),
            max: told(times.max),
        }
    }
}

impl From<Written> for Quantiles {
    fn from(times: Written) -> Self {
        Self {
            count: times.count,
            min: times.min.unwrap_or(0.0),
            p50: times.p50.unwrap_or(0.0),
            p90: times.p90.unwrap_or(0.0),
            p99: times.p99.unwrap_or(0.0),
            p99_9: times.p99_9.unwrap_or(0.0),
            p99_99: times.p99_99.flatten(),
            max: times.max.unwrap_or(0.0),
        }
    }
}

impl Quantiles {
    /// The quantiles of a histogram of nanoseconds.
    pub fn from_ns(times_ns: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(times_ns.value_at_quantile(quantile));
        Self {
            count: times_ns.len(),
            min: us(times_ns.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: Some(at(0.9999)),
            max: us(times_ns.max()),
        }
    }
}

impl Quantiles {
    /// The same, none of them above `us`, which is known to be the longest: a histogram gives the
    /// upper end of a bucket.
    #[must_use]
    pub fn at_most(self, us: f64) -> Self {
        Self {
            count: self.count,
            min: self.min.min(us),
            p50: self.p50.min(us),
            p90: self.p90.min(us),
            p99: self.p99.min(us),
            p99_9: self.p99_9.min(us),
            p99_99: self.p99_99.map(|it| it.min(us)),
            max: self.max.min(us),
        }
    }
}

/// Quantiles of a percentile table, and how they are written in percent.
pub const PERCENTILES: [(f64, &str); 15] = [
    (0.0, "0"),
    (0.25, "25"),
    (0.5, "50"),
    (0.75, "75"),
    (0.9, "90"),
    (0.95, "95"),
    (0.99, "99"),
    (0.995, "99.5"),
    (0.999, "99.9"),
    (0.9995, "99.95"),
    (0.9999, "99.99"),
    (0.99999, "99.999"),
    (0.999999, "99.9999"),
    (0.9999999, "99.99999"),
    (1.0, "100"),
];

/// The value at `quantile`; `None` where there are too few values beyond it to tell.
pub fn value_at(times: &Histogram<u64>, quantile: f64) -> Option<u64> {
    let beyond = (1.0 - quantile) * times.len() as f64;
    let is_told = !times.is_empty() && (quantile >= 1.0 || beyond >= 1.0);
    is_told.then(|| times.value_at_quantile(quantile))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl Iterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new(3).unwrap();
        values.for_each(|value| histogram.record(value).unwrap());
        histogram
    }

    #[test]
    fn nanoseconds_become_microseconds() {
        let quantiles = Quantiles::from_ns(&histogram((1..=1000).map(|us| us * 1000)));
        assert_eq!(quantiles.count, 1000);
        for (us, expected) in [
            (quantiles.min, 1.0),
            (quantiles.p50, 500.0),
            (quantiles.p99, 990.0),
            (quantiles.max, 1000.0),
        ] {
            assert!((us - expected).abs() <= 0.001 * expected, "{quantiles:?}");
        }
    }

    #[test]
    fn a_quantile_needs_a_value_beyond_it() {
        let times = histogram(1..=1000);
        let told = PERCENTILES.map(|(quantile, _)| value_at(&times, quantile).is_some());
        assert_eq!(
            told.iter().filter(|&&it| it).count(),
            10,
            "0 to 99.9, and 100"
        );
        assert_eq!(value_at(&times, 1.0), Some(1000));
        assert_eq!(value_at(&histogram(0..0), 1.0), None);
    }

    #[test]
    fn without_times_there_is_no_zero() {
        let none = Quantiles::from_ns(&histogram(0..0));
        let json = serde_json::to_value(none).unwrap();
        let keys = [
            "count", "min", "p50", "p90", "p99", "p99_9", "p99_99", "max",
        ];
        assert_eq!(json.as_object().unwrap().len(), keys.len());
        assert!(keys[1..].iter().all(|key| json[key].is_null()), "{json}");
        let read: Quantiles = serde_json::from_value(json).unwrap();
        assert_eq!(
            read,
            Quantiles {
                p99_99: None,
                ..none
            }
        );
        let zeros = r#"{"count":0,"min":0.0,"p50":0.0,"p90":0.0,"p99":0.0,"p99_9":0.0,"max":0.0}"#;
        assert_eq!(serde_json::from_str::<Quantiles>(zeros).unwrap(), read);
    }

    #[test]
    fn a_report_without_the_fourth_nine_is_read_and_written_as_it_is() {
        let json = r#"{"count":1,"min":1.0,"p50":1.0,"p90":1.0,"p99":1.0,"p99_9":1.0,"max":1.0}"#;
        let read: Quantiles = serde_json::from_str(json).unwrap();
        assert_eq!(read.p99_99, None);
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }
}
