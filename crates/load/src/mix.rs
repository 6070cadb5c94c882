//! Payload lengths, drawn by weight. Pure.

use fastrand::Rng;

/// Payload lengths, drawn by weight.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// Weights up to and including each size.
    cumulative: Vec<u32>,
    random: Rng,
}

impl Mix {
    /// A mix of sizes with these weights, drawn in an order that `seed` decides.
    pub(crate) fn new(weights: impl Iterator<Item = u32>, seed: u64) -> Self {
        let mut sum = 0u32;
        let cumulative = weights.map(|weight| {
            sum = sum.saturating_add(weight);
            sum
        });
        Self {
            cumulative: cumulative.collect(),
            random: Rng::with_seed(seed),
        }
    }

    /// The index of a size.
    #[inline]
    pub(crate) fn draw(&mut self) -> usize {
        let [_, .., last] = self.cumulative[..] else {
            return 0;
        };
        let ticket = self.random.u32(..last);
        self.cumulative.partition_point(|&sum| sum <= ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_drawn_by_weight() {
        let mut mix = Mix::new([7, 4, 1].into_iter(), 1);
        let mut counts = [0u32; 3];
        (0..12_000).for_each(|_| counts[mix.draw()] += 1);
        for (count, weight) in counts.into_iter().zip([7, 4, 1]) {
            assert!(count.abs_diff(weight * 1000) < 200, "{counts:?}");
        }
        assert_eq!(Mix::new([3].into_iter(), 1).draw(), 0);
    }
}
