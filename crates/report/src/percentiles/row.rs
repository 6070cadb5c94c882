//! One row of a percentile table, and the line at its end.

use std::ops::RangeInclusive;

/// A row: all values up to `value` are `count`, and at least the part `quantile` of all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) value: f64,
    pub(super) quantile: f64,
    /// As it is written: where the writer counts in 32 bits, what is left of it.
    pub(super) count: i64,
    /// Its line, counted from 1.
    pub(super) line: u64,
}

/// A row, as in `0.921 0.500000000000 1234 2.00`; with decimal commas, as in `0,921 0,5 1234 2,00`;
/// or with commas between, as in `0.921,0.5,1234,2.00`. The last column may be missing.
pub(super) fn row(text: &str, line: u64) -> Option<Row> {
    let by_space: Vec<_> = text.split_whitespace().collect();
    let has_gaps = by_space.len() > 1 && !by_space[0].ends_with(',');
    let fields: Vec<_> = match has_gaps {
        true => by_space,
        false => text.split(',').map(str::trim).collect(),
    };
    let ([value, quantile, count] | [value, quantile, count, _]) = fields[..] else {
        return None;
    };
    let (value, quantile) = (number(value)?, number(quantile)?);
    let is_row = value >= 0.0 && (0.0..=1.0).contains(&quantile);
    let count = whole(number(count)?)?;
    is_row.then_some(Row {
        value,
        quantile,
        count,
        line,
    })
}

/// A number with a decimal point or a decimal comma; none with both, which may mean thousands.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.matches(['.', ',']).count() <= 1;
    let number: f64 = text.replace(',', ".").parse().ok()?;
    (is_plain && number.is_finite()).then_some(number)
}

/// Counts that a table may have: as many as a float tells apart. What a counter of 32 bits has left
/// of them may be negative, and no less than it can hold.
const COUNTS: RangeInclusive<f64> = i32::MIN as f64..=(1_u64 << 53) as f64;

/// A count; some writers give it decimals, all of them zero.
fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && COUNTS.contains(&number)).then_some(number as i64)
}

/// The count in `#[Max     =       10.100, Total count    =         1000]`.
pub(super) fn total_count(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("Total count")?;
    let count = rest.trim_matches(|c: char| !c.is_ascii_digit());
    u64::try_from(whole(number(count)?)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_one_that_can_be_told_from_the_next() {
        for (count, is_row) in [
            ("9007199254740992", true),
            ("9007199254740994", false),
            ("-2147483648", true),
            ("-9e18", false),
            ("1e300", false),
        ] {
            let row = row(&format!("1.0 0.5 {count} 2.00"), 1);
            assert_eq!(row.is_some(), is_row, "{count}");
        }
        assert_eq!(total_count("#[Total count = 99999999999999999999]"), None);
    }
}
