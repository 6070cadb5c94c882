//! A bit for each device that replies leave by.

use reflector_measure::error::Error;

/// Which device has which bit. One that is let go of keeps its until another needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<(u32, bool)>);

impl Bits {
    /// As many as a number has that is listed with a prefix.
    const MOST: usize = u32::BITS as usize;

    /// A bit for the device `index`, maybe of one of those that `is_used` says no of.
    ///
    /// # Errors
    /// All are in use.
    pub fn give(
        &mut self,
        index: u32,
        is_loopback: bool,
        is_used: impl Fn(u32) -> bool,
    ) -> Result<u32, Error> {
        let known = self.0.iter().position(|(it, _)| *it == index);
        let place = known.or_else(|| self.0.iter().position(|(it, _)| !is_used(*it)));
        let place = place.unwrap_or(self.0.len());
        if place == Self::MOST {
            let said = format!("replies leave by {} others already", Self::MOST);
            return Err(
                Error::new(format!("cannot answer at the device number {index}"), said)
                    .try_this("name a bridge and not its ports"),
            );
        }
        self.0.resize(self.0.len().max(place + 1), (index, false));
        self.0[place] = (index, is_loopback);
        Ok(1 << place)
    }

    /// The bit of a device; 0 of one that has none.
    pub fn of(&self, index: u32) -> u32 {
        let place = self.0.iter().position(|(it, _)| *it == index);
        place.map_or(0, |place| 1 << place)
    }

    /// Those of loopbacks.
    pub fn of_loopbacks(&self) -> u32 {
        let places = self.0.iter().enumerate();
        places
            .filter(|(_, (_, is_loopback))| *is_loopback)
            .fold(0, |all, (place, _)| all | 1 << place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_is_kept_and_given_to_another_only_when_it_is_free() {
        let mut bits = Bits::default();
        for index in 0..32 {
            let bit = bits.give(100 + index, index == 3, |_| true);
            assert_eq!(bit.unwrap(), 1 << index);
        }
        assert_eq!(bits.give(107, false, |_| true).unwrap(), 1 << 7);
        assert_eq!(bits.of_loopbacks(), 1 << 3);
        assert!(bits.give(200, false, |_| true).is_err());
        assert_eq!(bits.give(200, false, |it| it != 109).unwrap(), 1 << 9);
        assert_eq!([bits.of(109), bits.of(200)], [0, 1 << 9]);
    }
}
