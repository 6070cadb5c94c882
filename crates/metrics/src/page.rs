//! A page of figures in the OpenMetrics text format.

use std::collections::HashMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::buckets::Buckets;

/// The type of what [`Page::text`] makes, for HTTP.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
    Histogram(Vec<(Labels, Buckets)>),
    Info(Labels),
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

    /// A family of histograms, which are to be added.
    pub fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
    ) -> &mut Vec<(Labels, Buckets)> {
        match self.add(name, help, Samples::Histogram(Vec::new())) {
            Samples::Histogram(samples) => samples,
            _ => unreachable!("what was added is a histogram"),
        }
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
                Samples::Histogram(samples) => {
                    for (labels, buckets) in samples {
                        encode(buckets, &mut family.encode_family(labels)?)?;
                    }
                }
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
            Self::Histogram(_) => MetricType::Histogram,
            Self::Info(_) => MetricType::Info,
        }
    }
}

fn encode(
    Buckets {
        sum,
        count,
        buckets,
    }: &Buckets,
    metric: &mut MetricEncoder<'_>,
) -> Result<(), fmt::Error> {
    let none: Option<&HashMap<usize, Exemplar<Labels, f64>>> = None;
    metric.encode_histogram(*sum, *count, buckets, none)
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
    fn a_histogram_has_its_labels_at_each_bucket() {
        let mut page = Page::default();
        let lengths = Buckets::of_lengths(9, [(Some(1), 3), (Some(2), 1), (None, 1)]);
        page.histogram("batch_buffers", "How many")
            .push((vec![("worker", "0".to_owned())], lengths));
        let text = page.text("x");
        for line in [
            "x_batch_buffers_sum{worker=\"0\"} 9.0\n",
            "x_batch_buffers_count{worker=\"0\"} 5\n",
            "x_batch_buffers_bucket{le=\"2.0\",worker=\"0\"} 4\n",
            "x_batch_buffers_bucket{le=\"+Inf\",worker=\"0\"} 5\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
