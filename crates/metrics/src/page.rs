//! A page of figures in the OpenMetrics text format.

use std::fmt;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

/// The type of what [`Page::text`] makes, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The upper edges of the buckets of times, in seconds: 1 µs to 1 s, three a decade.
///
/// As literals, since a product of floats would print one bit off, and a query for the edge would
/// find nothing.
pub const EDGES: [f64; 19] = [
    0.000_001, 0.000_002, 0.000_005, 0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5,
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
];

/// Names and values that tell the samples of one family apart.
pub type Labels = Vec<(&'static str, String)>;

/// Families of figures, in the order they were added.
#[derive(Clone, Debug, Default)]
pub struct Page {
    families: Vec<Family>,
}

#[derive(Clone, Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    samples: Samples,
}

#[derive(Clone, Debug)]
enum Samples {
    Counter(Vec<(Labels, u64)>),
    Gauge(Vec<(Labels, f64)>),
    Times(Times),
    Info(Labels),
}

/// Times in buckets.
#[derive(Clone, Debug)]
struct Times {
    sum: f64,
    count: u64,
    /// What each bucket has beyond the ones before.
    buckets: Vec<(f64, u64)>,
}

impl Page {
    /// A family of counters, whose samples are to be added; `_total` is added to its name.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Vec<(Labels, u64)> {
        match self.add(name, help, Samples::Counter(Vec::new())) {
            Samples::Counter(samples) => samples,
            _ => unreachable!("what was added is a counter"),
        }
    }

    /// A family of gauges, whose samples are to be added.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Vec<(Labels, f64)> {
        match self.add(name, help, Samples::Gauge(Vec::new())) {
            Samples::Gauge(samples) => samples,
            _ => unreachable!("what was added is a gauge"),
        }
    }

    /// A histogram of times, recorded in nanoseconds and told in seconds, by [`EDGES`].
    pub fn times(&mut self, name: &'static str, help: &'static str, ns: &Histogram<u64>) {
        self.add(name, help, Samples::Times(Times::new(ns)));
    }

    /// What does not change, in labels; `_info` is added to its name.
    pub fn info(&mut self, name: &'static str, help: &'static str, labels: Labels) {
        self.add(name, help, Samples::Info(labels));
    }

    fn add(&mut self, name: &'static str, help: &'static str, samples: Samples) -> &mut Samples {
        let family = Family {
            name,
            help,
            samples,
        };
        self.families.push(family);
        let last = self.families.last_mut();
        &mut last.expect("one was added").samples
    }

    /// The page, each name with `prefix` before it.
    pub fn text(self, prefix: &str) -> String {
        let mut registry = Registry::with_prefix(prefix);
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a string takes what is written");
        page
    }
}

impl Times {
    fn new(ns: &Histogram<u64>) -> Self {
        let mut buckets = Vec::with_capacity(EDGES.len() + 1);
        let mut below = 0;
        for edge in EDGES {
            let edge_ns = (edge * 1e9).round() as u64;
            // Counts of values that the histogram does not tell from the edge are in.
            let until = ns.count_between(0, edge_ns);
            buckets.push((edge, until - below));
            below = until;
        }
        buckets.push((f64::INFINITY, ns.len() - below));
        let sum_ns = |value: hdrhistogram::iterators::IterationValue<u64>| {
            value.count_at_value() as f64 * ns.median_equivalent(value.value_iterated_to()) as f64
        };
        Self {
            sum: ns.iter_recorded().map(sum_ns).sum::<f64>() / 1e9,
            count: ns.len(),
            buckets,
        }
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Family {
            name,
            help,
            samples,
        } in &self.families
        {
            let mut family = encoder.encode_descriptor(name, help, None, samples.metric_type())?;
            match samples {
                Samples::Counter(samples) => {
                    for (labels, count) in samples {
                        ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
                    }
                }
                Samples::Gauge(samples) => {
                    for (labels, value) in samples {
                        ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
                    }
                }
                Samples::Times(times) => times.encode(&mut family)?,
                Samples::Info(labels) => family.encode_info(labels)?,
            }
        }
        Ok(())
    }
}

impl Samples {
    fn metric_type(&self) -> MetricType {
        match self {
            Self::Counter(_) => ConstCounter::<u64>::TYPE,
            Self::Gauge(_) => ConstGauge::<f64>::TYPE,
            Self::Times(_) => MetricType::Histogram,
            Self::Info(_) => MetricType::Info,
        }
    }
}

impl Times {
    fn encode(&self, family: &mut MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let none: Option<&std::collections::HashMap<usize, Exemplar<Labels, f64>>> = None;
        family.encode_histogram(self.sum, self.count, &self.buckets, none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_in_the_order_and_form_of_openmetrics() {
        let mut page = Page::default();
        page.info("build", "What runs", vec![("version", "1".to_owned())]);
        page.counter("dropped", "Why")
            .push((vec![("reason", "a\"b".to_owned())], 0));
        page.gauge("up", "Whether").push((vec![], 1.0));
        let expected = "\
            # HELP x_build What runs\n# TYPE x_build info\nx_build_info{version=\"1\"} 1\n\
            # HELP x_dropped Why\n# TYPE x_dropped counter\nx_dropped_total{reason=\"a\\\"b\"} 0\n\
            # HELP x_up Whether\n# TYPE x_up gauge\nx_up 1.0\n# EOF\n";
        assert_eq!(page.text("x"), expected);
    }

    #[test]
    fn times_are_counted_up_to_each_edge_and_the_longest_beyond() {
        let mut ns = Histogram::new_with_bounds(1, 10_000_000_000, 3).unwrap();
        for time in [500, 1_000, 1_500, 2_000_000_000] {
            ns.record(time).unwrap();
        }
        let times = Times::new(&ns);
        assert_eq!(times.buckets[..3], [(1e-6, 2), (2e-6, 1), (5e-6, 0)]);
        assert_eq!(times.buckets.last(), Some(&(f64::INFINITY, 1)));
        assert_eq!(times.count, 4);
        assert!((times.sum - 2.000_003).abs() < 0.002, "{}", times.sum);
        let mut page = Page::default();
        page.times("residence_seconds", "How long", &ns);
        let text = page.text("x");
        for line in [
            "x_residence_seconds_count 4\n",
            "x_residence_seconds_bucket{le=\"0.000001\"} 2\n",
            "x_residence_seconds_bucket{le=\"+Inf\"} 4\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
