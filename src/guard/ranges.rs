//! Ranges of numbers, made for looking up.

use std::sync::Arc;

/// Ranges in ascending order that do not overlap. Clones share their memory.
#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    /// First and last number of each.
    ranges: Arc<[(T, T)]>,
    /// Empty where it would not pay.
    index: Arc<[u32]>,
    /// Each part of the index has 2^this numbers.
    shift: u32,
}

/// What addresses are as numbers.
pub(super) trait Number: Copy + Ord {
    /// In which part of 2^`shift` numbers it is, counted from `first`: 0 before it, `last` behind
    /// that one.
    fn part(self, first: Self, shift: u32, last: usize) -> usize;
    /// The bits of its distance to `first`, without leading zeros.
    fn width(self, first: Self) -> u32;
    /// The next number; the last has none.
    fn next(self) -> Option<Self>;
    /// The one before; the first has none.
    fn previous(self) -> Option<Self>;
}

macro_rules! number {
    ($type:ty) => {
        impl Number for $type {
            #[inline]
            fn part(self, first: Self, shift: u32, last: usize) -> usize {
                (self.saturating_sub(first) >> shift).min(last as Self) as usize
            }

            fn width(self, first: Self) -> u32 {
                Self::BITS - (self - first).leading_zeros()
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Option<Self> {
                self.checked_sub(1)
            }
        }
    };
}

number!(u32);
number!(u128);

/// Below so many ranges a search has as few steps as an index costs.
const INDEXED_FROM: usize = 32;
/// The most parts of an index, as a power of two: 256 KiB.
const INDEX_BITS_MAX: u32 = 16;
/// The most starts that a part of an index may have.
const STARTS_MAX: u32 = 8;

impl<T: Number> Ranges<T> {
    /// The numbers of `ranges`, from first to last, in any order; they may overlap.
    pub fn new(mut ranges: Vec<(T, T)>) -> Self {
        ranges.sort_unstable();
        ranges.dedup_by(|next, range| {
            let is_joined = range.1.next().is_none_or(|after| next.0 <= after);
            if is_joined {
                range.1 = range.1.max(next.1);
            }
            is_joined
        });
        let mut made = Self {
            ranges: ranges.into(),
            index: Arc::default(),
            shift: 0,
        };
        made.make_index();
        made
    }

    /// Whether `number` is in one of them, by a search of all.
    #[inline]
    pub fn contains(&self, number: T) -> bool {
        let after = self.ranges.partition_point(|range| range.0 <= number);
        after > 0 && number <= self.ranges[after - 1].1
    }

    /// The same by the index, if there is one.
    pub fn contains_by_index(&self, number: T) -> bool {
        if self.index.is_empty() {
            return self.contains(number);
        }
        let part = number.part(self.ranges[0].0, self.shift, self.index.len() - 2);
        let (from, to) = (self.index[part] as usize, self.index[part + 1] as usize);
        // All before `from` start before the number, all from `to` on behind it.
        let within = &self.ranges[from..to];
        let after = from + within.iter().filter(|range| range.0 <= number).count();
        after > 0 && number <= self.ranges[after - 1].1
    }

    /// First and last number of each, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = (T, T)> {
        self.ranges.iter().copied()
    }

    /// What is left of them without those of `others`, in ascending order.
    pub fn without(&self, others: &Self) -> Vec<(T, T)> {
        let mut rest = Vec::new();
        for &(first, last) in self.ranges.iter() {
            let from = others.ranges.partition_point(|it| it.1 < first);
            let others = others.ranges[from..].iter();
            let mut next = Some(first);
            for other in others.take_while(|it| it.0 <= last) {
                let end = other.0.previous();
                rest.extend(next.zip(end).filter(|(from, to)| from <= to));
                next = other.1.next();
            }
            rest.extend(next.filter(|from| *from <= last).map(|from| (from, last)));
        }
        rest
    }

    /// Whether there is an index.
    pub fn has_index(&self) -> bool {
        !self.index.is_empty()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Divides the numbers from the first start to the last into equal parts, for each of which the
    /// index says how many ranges start before it: two parts for each range, or more, so that few
    /// parts have any two. Where the starts lie close together in places, which is so in IPv6, one
    /// part has many; a search of all of them is the faster way then, since each takes as many
    /// steps and the processor need not guess how many.
    fn make_index(&mut self) {
        let count = self.ranges.len();
        if count < INDEXED_FROM {
            return;
        }
        let (first, last) = (self.ranges[0].0, self.ranges[count - 1].0);
        let bits = (2 * count).next_power_of_two().ilog2();
        let shift = last.width(first).saturating_sub(bits.min(INDEX_BITS_MAX));
        let part = |start: T| start.part(first, shift, 1 << INDEX_BITS_MAX);
        let before = |it| self.ranges.partition_point(|range| part(range.0) < it) as u32;
        let index: Arc<[u32]> = (0..=part(last) + 1).map(before).collect();
        if index.windows(2).all(|part| part[1] - part[0] <= STARTS_MAX) {
            (self.index, self.shift) = (index, shift);
        }
    }
}

impl<T: Number> Default for Ranges<T> {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Close together, so that the parts of the index are small, and the last one is large: most of
    /// what is asked lies far beyond all parts.
    #[test]
    fn an_index_finds_what_lies_far_beyond_it() {
        const LAST: u128 = 1 << 126;
        let near = (1..1000).map(|it| (LAST - 4 * it, LAST - 4 * it));
        let ranges = Ranges::new(near.chain([(LAST, 2 * LAST - 1)]).collect());
        assert!(ranges.has_index());
        for number in 1..1000 {
            let near = LAST - 4 * number;
            assert!(ranges.contains_by_index(near));
            for shift in 12..126 {
                assert!(
                    ranges.contains_by_index(near + (1 << shift)),
                    "{number} {shift}"
                );
                assert!(
                    !ranges.contains_by_index(near - (1 << shift)),
                    "{number} {shift}"
                );
            }
        }
    }
}
