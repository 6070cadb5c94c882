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
use crate::http::{Response, preference};
use crate::protobuf::{self, Message, Type};

/// The type of what [`Page::text`] makes, for HTTP.
pub const TEXT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

    /// The page for HTTP, in the format that is wanted most of what is `accepted`; text, where
    /// both are.
    pub fn response(self, prefix: &str, accepted: &str) -> Response {
        let wants = |wanted: &str| preference(accepted, wanted);
        let text = wants("application/openmetrics-text").max(wants("text/plain"));
        let (content_type, body) = match wants("application/vnd.google.protobuf") > text {
            true => (protobuf::CONTENT_TYPE, self.protobuf(prefix)),
            false => (TEXT_TYPE, self.text(prefix).into_bytes()),
        };
        Response {
            status: 200,
            content_type,
            body,
        }
    }

    /// The page, each name with `prefix` before it.
    pub fn text(self, prefix: &str) -> String {
        let mut registry = Registry::with_prefix(prefix);
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("a string takes what is written");
        page
    }

    /// The same in Prometheus' own format ([`protobuf`]), with native histograms.
    pub fn protobuf(&self, prefix: &str) -> Vec<u8> {
        let mut page = Vec::new();
        for Family {
            name,
            help,
            samples,
        } in &self.families
        {
            samples
                .message(&format!("{prefix}_{name}"), help)
                .append_to(&mut page);
        }
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
    /// A family of that name. One that says what does not change is a gauge there, and 1.
    fn message(&self, name: &str, help: &str) -> Message {
        match self {
            Self::Counter(samples) => {
                let name = format!("{name}_total");
                let mut family = Message::family(&name, help, Type::Counter);
                samples
                    .iter()
                    .for_each(|(labels, count)| family.counter(labels, *count));
                family
            }
            Self::Gauge(samples) => {
                let mut family = Message::family(name, help, Type::Gauge);
                samples
                    .iter()
                    .for_each(|(labels, value)| family.gauge(labels, *value));
                family
            }
            Self::Histogram(samples) => {
                let mut family = Message::family(name, help, Type::Histogram);
                samples
                    .iter()
                    .for_each(|(labels, all)| family.histogram(labels, all));
                family
            }
            Self::Info(labels) => {
                let mut family = Message::family(&format!("{name}_info"), help, Type::Gauge);
                family.gauge(labels, 1.0);
                family
            }
        }
    }

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
        ..
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
    fn prometheus_gets_its_own_format_where_it_prefers_that() {
        let content_type = |accepted: &str| {
            let mut page = Page::default();
            page.info("build", "What runs", vec![]);
            page.response("x", accepted).content_type
        };
        // What Prometheus 2.42 says with native histograms, and without.
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;\
                      encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,\
                      application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let without = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5,*/*;q=0.1";
        assert_eq!(content_type(native), protobuf::CONTENT_TYPE);
        for accepted in [without, "", "*/*"] {
            assert_eq!(content_type(accepted), TEXT_TYPE);
        }
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
