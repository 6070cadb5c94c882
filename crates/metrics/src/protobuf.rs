//! A page in Prometheus' own format, which has native histograms: each family as a message of
//! `io.prometheus.client` (client_model's metrics.proto), its length before it.
//!
//! The messages are written by hand, as there are few: prometheus-client has them as well, but
//! wants `protoc` of whoever builds, or twenty more crates.

use crate::buckets::Buckets;
use crate::native::{Native, SCHEMA, ZERO_THRESHOLD};

/// The type of a page in this format, for HTTP.
pub const CONTENT_TYPE: &str = "application/vnd.google.protobuf; \
                                proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// The types of families (`MetricType`).
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// Only grows.
    Counter = 0,
    /// Grows and shrinks.
    Gauge = 1,
    /// Values in buckets.
    Histogram = 4,
}

/// A message, as far as it is written.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

impl Message {
    /// A family without samples.
    pub fn family(name: &str, help: &str, kind: Type) -> Self {
        let mut family = Self::default();
        family.bytes(1, name.as_bytes());
        family.bytes(2, help.as_bytes());
        family.number(3, kind as u64);
        family
    }

    /// Adds a counter with `labels` to a family.
    pub fn counter(&mut self, labels: &[(&str, String)], count: u64) {
        // A whole number is one up to 2^53; the text format has no more digits in Prometheus.
        self.metric(labels, 3, &Self::value(count as f64));
    }

    /// Adds a gauge to a family.
    pub fn gauge(&mut self, labels: &[(&str, String)], value: f64) {
        self.metric(labels, 2, &Self::value(value));
    }

    /// Adds a histogram to a family, with its native buckets if it has any.
    pub fn histogram(&mut self, labels: &[(&str, String)], all: &Buckets) {
        let mut histogram = Self::default();
        histogram.number(1, all.count);
        histogram.double(2, all.sum);
        let mut below = 0;
        for &(edge, count) in &all.buckets {
            below += count;
            let mut bucket = Self::default();
            bucket.number(1, below);
            bucket.double(2, edge);
            histogram.message(3, &bucket);
        }
        if let Some(native) = &all.native {
            histogram.native(native);
        }
        self.metric(labels, 7, &histogram);
    }

    fn native(&mut self, native: &Native) {
        self.signed(5, i64::from(SCHEMA));
        self.double(6, ZERO_THRESHOLD);
        self.number(7, native.zero_count);
        for &(offset, len) in &native.spans {
            let mut span = Self::default();
            span.signed(1, i64::from(offset));
            span.number(2, u64::from(len));
            self.message(12, &span);
        }
        let mut deltas = Self::default();
        native
            .deltas
            .iter()
            .for_each(|&it| deltas.varint(zigzag(it)));
        self.message(13, &deltas);
    }

    fn metric(&mut self, labels: &[(&str, String)], tag: u64, sample: &Self) {
        let mut metric = Self::default();
        for (name, value) in labels {
            let mut pair = Self::default();
            pair.bytes(1, name.as_bytes());
            pair.bytes(2, value.as_bytes());
            metric.message(1, &pair);
        }
        metric.message(tag, sample);
        self.message(4, &metric);
    }

    fn value(value: f64) -> Self {
        let mut message = Self::default();
        message.double(1, value);
        message
    }

    /// Its bytes, with how many they are before them, at the end of `page`.
    pub fn append_to(&self, page: &mut Vec<u8>) {
        let mut delimited = Self::default();
        delimited.varint(self.0.len() as u64);
        page.extend_from_slice(&delimited.0);
        page.extend_from_slice(&self.0);
    }

    fn number(&mut self, tag: u64, value: u64) {
        self.varint(tag << 3);
        self.varint(value);
    }

    fn signed(&mut self, tag: u64, value: i64) {
        self.number(tag, zigzag(value));
    }

    fn double(&mut self, tag: u64, value: f64) {
        self.varint(tag << 3 | 1);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn message(&mut self, tag: u64, message: &Self) {
        self.bytes(tag, &message.0);
    }

    fn bytes(&mut self, tag: u64, bytes: &[u8]) {
        self.varint(tag << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// Seven bits a byte, the lowest first; the highest bit says that more come.
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// A signed number as one that is short where it is near zero.
fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_the_documents_of_protobuf_have_them() {
        let mut message = Message::default();
        message.number(1, 150);
        message.bytes(2, b"testing");
        assert_eq!(message.0, b"\x08\x96\x01\x12\x07testing");
        assert_eq!([0, -1, 1, -2, i64::MIN].map(zigzag), [0, 1, 2, 3, u64::MAX]);
    }

    #[test]
    fn a_family_is_its_length_and_its_fields() {
        let mut family = Message::family("x_total", "Why", Type::Counter);
        family.counter(&[("a", "b".to_owned())], 3);
        let mut page = Vec::new();
        family.append_to(&mut page);
        let expected = b"\x25\x0a\x07x_total\x12\x03Why\x18\x00\x22\x13\x0a\x06\x0a\x01a\x12\x01b\
                         \x1a\x09\x09\0\0\0\0\0\0\x08\x40";
        assert_eq!(page, expected);
    }

    #[test]
    fn a_histogram_has_classic_buckets_and_native_ones() {
        let mut family = Message::family("x", "", Type::Histogram);
        let before = family.0.len();
        let native = Native {
            zero_count: 0,
            spans: vec![(-2, 1)],
            deltas: vec![2],
        };
        family.histogram(
            &[],
            &Buckets {
                sum: 1.0,
                count: 2,
                buckets: vec![(1.0, 2)],
                native: Some(native),
            },
        );
        let one = b"\0\0\0\0\0\0\xf0\x3f";
        let bucket = [b"\x1a\x0b\x08\x02\x11", &one[..]].concat();
        let zero = ZERO_THRESHOLD.to_le_bytes();
        let expected = [
            b"\x22\x30\x3a\x2e\x08\x02\x11",
            &one[..],
            &bucket,
            b"\x28\x06\x31",
            &zero,
            b"\x38\x00\x62\x04\x08\x03\x10\x01\x6a\x01\x04",
        ];
        assert_eq!(family.0[before..], expected.concat());
    }
}
