//! How long datagrams are here: the residence-time histogram.

use hdrhistogram::Histogram;

/// Largest residence time that is told apart from longer ones, in nanoseconds: ten seconds.
const RESIDENCE_NS_MAX: u64 = 10_000_000_000;
/// Significant decimal digits: 0.1 %.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Bytes of one histogram: 25 buckets of 1024 counts.
pub const HISTOGRAM_BYTES: usize = 25 * 1024 * 8;

/// Residence times: from the kernel's receive stamp to just before the reply is handed over.
#[derive(Clone, Debug)]
pub struct Latency {
    residence_ns: Histogram<u64>,
    /// Datagrams whose time is unknown because `CLOCK_REALTIME` was set meanwhile.
    pub clock_stepped: u64,
}

impl Latency {
    /// No values yet; allocates.
    pub fn new() -> Self {
        let residence_ns = Histogram::new_with_bounds(1, RESIDENCE_NS_MAX, SIGNIFICANT_DIGITS)
            .expect("1 < the maximum, and 3 is between 0 and 5");
        Self {
            residence_ns,
            clock_stepped: 0,
        }
    }

    /// No values yet; takes memory as what is [added](Self::add) needs it, which for times below a
    /// tenth of a millisecond is a quarter.
    pub fn growing() -> Self {
        let residence_ns = Histogram::new(SIGNIFICANT_DIGITS).expect("3 is between 0 and 5");
        Self {
            residence_ns,
            clock_stepped: 0,
        }
    }

    /// Records that `count` datagrams were here `residence_ns`.
    pub fn record(&mut self, residence_ns: u64, count: u64) {
        self.residence_ns.saturating_record_n(residence_ns, count);
    }

    /// The histogram, in nanoseconds.
    pub fn residence_ns(&self) -> &Histogram<u64> {
        &self.residence_ns
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.residence_ns
            .add(&other.residence_ns)
            .expect("both have the same bounds");
        self.clock_stepped += other.clock_stepped;
    }

    /// Forgets all values.
    pub fn reset(&mut self) {
        self.residence_ns.reset();
        self.clock_stepped = 0;
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_counts_each_of_its_datagrams() {
        let mut latency = Latency::new();
        latency.record(5_000, 32);
        latency.record(u64::MAX, 1);
        assert_eq!(latency.residence_ns().len(), 33);
        assert_eq!(latency.residence_ns().value_at_quantile(0.5), 5_003);
    }

    #[test]
    fn one_that_grows_takes_little_and_counts_the_same() {
        let (mut whole, mut grown) = (Latency::new(), Latency::growing());
        assert!(grown.residence_ns.distinct_values() * 10 < whole.residence_ns.distinct_values());
        for ns in [900, 70_000, RESIDENCE_NS_MAX, u64::MAX] {
            let mut one = Latency::new();
            one.record(ns, 3);
            whole.add(&one);
            grown.add(&one);
            assert!(grown.residence_ns == whole.residence_ns, "{ns}");
        }
        grown.reset();
        assert_eq!(grown.residence_ns().len(), 0);
    }

    #[test]
    fn the_stated_size_is_that_of_the_histogram() {
        let counts = Latency::new().residence_ns.distinct_values() * size_of::<u64>();
        assert!(
            counts <= HISTOGRAM_BYTES && counts > HISTOGRAM_BYTES / 2,
            "{counts}"
        );
    }
}
