//! Histograms of others, brought to nanoseconds, and added.

use hdrhistogram::Histogram;

use crate::unit::Unit;
use reflector_measure::quantiles::Quantiles;

/// Significant decimal digits of sums: 0.1 %, as our own logs have.
const SIGNIFICANT_DIGITS: u8 = 3;
/// Longest time that is told apart from longer ones, in nanoseconds: 73 years. A histogram can hold
/// no more than twice that.
const TIME_NS_MAX: u64 = u64::MAX / 8;
/// Values that a sum may have: as many as a quantile of them, which is a float, can tell apart. The
/// library adds counts without looking.
pub(crate) const COUNT_MAX: u64 = 1 << 53;
/// Bytes that the sums of a file may take: more than those of the usual digits ever do.
pub(crate) const SUMS_LEN_MAX: usize = 48 << 20;

/// A sum of histograms of any bounds, as fine as the finest of them. A value of a coarser one
/// counts at the upper end of its bucket, as every reader shows it.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    values: Histogram<u64>,
    /// The lower end of the lowest bucket: what a reader shows as the least.
    least: u64,
}

/// A sum in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Times {
    /// The values.
    pub(crate) ns: Histogram<u64>,
    /// The least of them, which may be less than the bucket that it is in there.
    pub(crate) least_ns: u64,
}

impl Sum {
    /// No values.
    pub(crate) fn new() -> Self {
        Self::with_digits(SIGNIFICANT_DIGITS)
    }

    fn with_digits(digits: u8) -> Self {
        Self {
            values: Histogram::new(digits).expect("3 to 5 digits are allowed"),
            least: u64::MAX,
        }
    }

    /// Adds `other`.
    ///
    /// # Errors
    /// Its values are greater, or more, than the sum can hold.
    pub(crate) fn add(&mut self, other: &Histogram<u64>) -> Result<(), String> {
        if other.is_empty() {
            return Ok(());
        }
        if self.values.len().saturating_add(other.len()) > COUNT_MAX {
            return Err(format!("there are more than {COUNT_MAX} values in all"));
        }
        if other.sigfig() > self.values.sigfig() {
            let coarse = std::mem::replace(self, Self::with_digits(other.sigfig()));
            self.add(&coarse.values)?;
            self.least = coarse.least;
        }
        self.least = self.least.min(other.min());
        if other.sigfig() == self.values.sigfig() && other.low() == self.values.low() {
            return self.values.add(other).map_err(|e| e.to_string());
        }
        for value in other.iter_recorded() {
            self.values
                .record_n(value.value_iterated_to(), value.count_at_value())
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Adds `count` times one value; of more than [`COUNT_MAX`] in all, what there is room for.
    pub(crate) fn record(&mut self, value: u64, count: u64) {
        let count = count.min(COUNT_MAX.saturating_sub(self.values.len()));
        if count == 0 {
            return;
        }
        let value = value.min(TIME_NS_MAX);
        self.values
            .record_n(value, count)
            .expect("it grows as far as TIME_NS_MAX");
        self.least = self.least.min(self.values.lowest_equivalent(value));
    }

    /// Bytes that its values take.
    pub(crate) fn len_bytes(&self) -> usize {
        len_bytes(&self.values)
    }

    /// The sum, in nanoseconds where it was in `unit`.
    pub(crate) fn into_ns(self, unit: Unit) -> Times {
        let least_ns = self.least.saturating_mul(unit.ns());
        if unit == Unit::Ns {
            return Times {
                ns: self.values,
                least_ns,
            };
        }
        let mut scaled = Self::with_digits(self.values.sigfig());
        for value in self.values.iter_recorded() {
            let ns = value.value_iterated_to().saturating_mul(unit.ns());
            scaled.record(ns, value.count_at_value());
        }
        Times {
            ns: scaled.values,
            least_ns,
        }
    }
}

impl Default for Sum {
    fn default() -> Self {
        Self::new()
    }
}

impl Times {
    /// Them in short; `None` where there are none.
    pub(crate) fn quantiles(&self) -> Option<Quantiles> {
        let mut quantiles = Quantiles::from_ns(&self.ns);
        quantiles.min = quantiles.min.min(self.least_ns as f64 / 1000.0);
        (!self.ns.is_empty()).then_some(quantiles)
    }
}

/// Bytes that the counts of `histogram` take.
pub(crate) fn len_bytes(histogram: &Histogram<u64>) -> usize {
    histogram.distinct_values() * size_of::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use hdrhistogram::serialization::{Serializer, V2DeflateSerializer, V2Serializer};
    use proptest::prelude::*;

    use crate::encoded::{Decoder, is_encoded};

    fn decode(text: &str) -> Result<Histogram<u64>, String> {
        Decoder::new().decode(text)
    }

    fn of(values: &[u64]) -> Histogram<u64> {
        let mut sum = Sum::new();
        values.iter().for_each(|&value| sum.record(value, 1));
        sum.values
    }

    fn encode(histogram: &Histogram<u64>, serializer: &mut impl Serializer) -> Vec<u8> {
        let mut bytes = Vec::new();
        serializer.serialize(histogram, &mut bytes).ok().unwrap();
        bytes
    }

    fn values() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(prop_oneof![0..100_000u64, 0..TIME_NS_MAX], 0..60)
    }

    proptest! {
        #[test]
        fn parts_that_are_merged_equal_the_whole(parts in prop::collection::vec(values(), 0..6)) {
            let mut merged = Sum::new();
            for part in &parts {
                merged.add(&of(part)).unwrap();
            }
            prop_assert_eq!(merged.values, of(&parts.concat()));
        }

        #[test]
        fn what_was_encoded_is_decoded(values in values()) {
            let histogram = of(&values);
            let plain = encode(&histogram, &mut V2Serializer::new());
            let deflated = encode(&histogram, &mut V2DeflateSerializer::new());
            for bytes in [plain, deflated] {
                let text = STANDARD.encode(bytes);
                prop_assert!(is_encoded(&text));
                prop_assert_eq!(&decode(&text).unwrap(), &histogram);
            }
        }

        #[test]
        fn no_damage_does_harm(
            values in values(),
            at in any::<prop::sample::Index>(),
            bytes: [u8; 9],
        ) {
            let mut plain = encode(&of(&values), &mut V2Serializer::new());
            let at = at.index(plain.len());
            let len = bytes.len().min(plain.len() - at);
            plain[at..at + len].copy_from_slice(&bytes[..len]);
            if let Ok(histogram) = decode(&STANDARD.encode(plain)) {
                let _ = Sum::new().add(&histogram);
            }
        }
    }

    #[test]
    fn a_length_that_is_not_there_is_not_allocated() {
        let mut bytes = encode(&of(&[1]), &mut V2Serializer::new());
        bytes[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(
            decode(&STANDARD.encode(bytes))
                .unwrap_err()
                .contains("cut off")
        );
    }

    #[test]
    fn a_coarse_histogram_reads_as_it_does_elsewhere() {
        // Two digits and a least value of 20 us, as hiccup meters have it.
        let mut coarse = Histogram::<u64>::new_with_bounds(20_000, 30_000_000_000, 2).unwrap();
        for us in [30.0, 60.0, 90.0, 113.0, 114.0, 114.5] {
            coarse.record((us * 1000.0) as u64).unwrap();
        }
        let mut sum = Sum::new();
        sum.add(&coarse).unwrap();
        let quantiles = sum.into_ns(Unit::Ns).quantiles().unwrap();
        assert_eq!((quantiles.p50, quantiles.max), (98.303, 114.687));
        assert_eq!(quantiles.min, 16.384);
    }

    #[test]
    fn a_sum_is_as_fine_as_the_finest() {
        let mut fine = Histogram::<u64>::new(5).unwrap();
        fine.record(123_456_789).unwrap();
        let mut sum = Sum::new();
        sum.record(1_000_000, 1);
        sum.add(&fine).unwrap();
        let times = sum.into_ns(Unit::Ns);
        assert!(times.ns.max() - 123_456_789 < 1024, "{}", times.ns.max());
        assert_eq!((times.ns.len(), times.least_ns), (2, 999_936));
    }

    #[test]
    fn words_are_no_histograms() {
        for word in [
            "HISTORY",
            "HISTOGRAM",
            "HISTAMINE",
            "HISTx",
            "DHISTORY",
            "HIST",
        ] {
            assert!(!is_encoded(word), "{word}");
        }
        assert!(is_encoded("HISTFAAAAxx") && is_encoded("HISTEwAAxx"));
        let said = decode("DHISTgAAAAMAAAAA").unwrap_err();
        assert!(
            is_encoded("DHISTgAAAAMAAAAA") && said.contains("fractions"),
            "{said}"
        );
    }

    #[test]
    fn units_become_nanoseconds() {
        let mut sum = Sum::new();
        sum.record(5, 3);
        sum.record(u64::MAX, 1);
        let ns = sum.into_ns(Unit::Us).ns;
        assert_eq!((ns.len(), ns.count_at(5_000)), (4, 3));
    }
}
