//! Percentile tables (`.hgrm`), as HdrHistogram's `outputPercentileDistribution` prints them and
//! wrk2 among its own output.
//!
//! A table has a row for each percentile, with the count of all values up to there. Values between
//! two rows are taken for the greater one.

use std::io::BufRead;

use crate::histogram::Sum;
use crate::lines::{Fault, Lines};
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;

/// Whether `text` is the head of such a table.
pub(crate) fn is_head(text: &str) -> bool {
    text.contains("Value") && text.contains("Percentile") && text.contains("TotalCount")
}

/// Reads the first table of `lines`, which are those of the file `name`.
///
/// # Errors
/// The first line of the table that is no row, or a table without rows.
pub(crate) fn read(
    mut lines: Lines<impl BufRead>,
    name: &str,
    unit: Option<Unit>,
) -> Result<Saved, Fault> {
    let mut warnings = Vec::new();
    if unit.is_none() {
        warnings.push(format!(
            "{name}: states no unit, milliseconds are assumed as wrk2 writes them; --unit sets it"
        ));
    }
    let unit_ns = unit.unwrap_or(Unit::Ms).ns() as f64;
    let mut is_table = false;
    let mut times = Sum::new();
    let mut counted = 0;
    let mut stated = None;
    while let Some(line) = lines.read()? {
        let text = line.text.trim();
        if !is_table {
            is_table = is_head(text);
            continue;
        }
        if text.is_empty() {
            continue;
        }
        if text.starts_with('#') {
            stated = stated.or_else(|| total_count(text));
            continue;
        }
        if counted > 0 && stated.is_some() {
            // What follows the table is not of it.
            break;
        }
        match row(text) {
            Some((value, total)) if total >= counted => {
                times.record((value * unit_ns).round() as u64, total - counted);
                counted = total;
            }
            Some(_) => {
                return Err(Fault::at(
                    line.number,
                    "its count is less than the one before",
                ));
            }
            None if line.is_whole => {
                return Err(Fault::at(
                    line.number,
                    "it is not a row of a percentile table",
                ));
            }
            None => break,
        }
    }
    if counted == 0 {
        return Err(Fault::new("it is a percentile table without values"));
    }
    match stated {
        Some(total) if total != counted => warnings.push(format!(
            "{name}: its rows count {counted} values, and its end {total}"
        )),
        Some(_) => {}
        None => warnings.push(format!("{name}: the table has no end: it is cut off")),
    }
    let kind = Kind::Other(String::new());
    let run = Run::of_times(name.to_owned(), kind, 0.0, times.into_ns(Unit::Ns));
    Ok(Saved {
        runs: vec![run],
        warnings,
    })
}

/// Value and count of a row, as in `0.921 0.500000000000 1234 2.00`, or with commas.
fn row(text: &str) -> Option<(f64, u64)> {
    let separators = |c: char| c == ',' || c.is_whitespace();
    let mut fields = text.split(separators).filter(|field| !field.is_empty());
    let value = fields.next()?.parse::<f64>().ok()?;
    let quantile = fields.next()?.parse::<f64>().ok()?;
    let total = fields.next()?.parse().ok()?;
    let is_row = value >= 0.0 && value.is_finite() && (0.0..=1.0).contains(&quantile);
    is_row.then_some((value, total))
}

/// The count in `#[Max     =       10.100, Total count    =         1000]`.
fn total_count(text: &str) -> Option<u64> {
    let (_, count) = text.split_once("Total count")?;
    count
        .trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  Detailed Percentile spectrum:
       Value   Percentile   TotalCount 1/(1-Percentile)

       0.100     0.000000            1         1.00
       0.500     0.500000           50         2.00
       2.000     1.000000          100          inf
#[Mean    =        0.600, StdDeviation   =        0.100]
#[Max     =        2.000, Total count    =          100]
#[Buckets =           27, SubBuckets     =         2048]
----------------------------------------------------------
  5 requests in 1.00s
";

    fn read_text(text: &str, unit: Option<Unit>) -> Result<Saved, String> {
        read(Lines::new(text.as_bytes()), "f", unit).map_err(Fault::said)
    }

    #[test]
    fn a_table_is_as_good_as_its_rows() {
        let saved = read_text(TABLE, Some(Unit::Ms)).unwrap();
        let times = saved.runs[0].times.unwrap();
        assert_eq!(times.count, 100);
        assert!((times.p50 - 500.0).abs() < 1.0 && (times.max - 2000.0).abs() < 2.0);
        assert!(saved.warnings.is_empty());
    }

    #[test]
    fn a_table_that_is_cut_off_says_so() {
        let saved = read_text(&TABLE[..170], None).unwrap();
        assert!(saved.warnings[0].contains("milliseconds"));
        assert!(saved.warnings[1].contains("cut off"));
        assert!(read_text(&TABLE[..80], None).is_err());
        let torn = TABLE.replace("100          inf", "7 inf");
        assert!(read_text(&torn, None).unwrap_err().starts_with("line 6"));
    }
}
