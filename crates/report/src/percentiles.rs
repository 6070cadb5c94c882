//! Percentile tables (`.hgrm`), as HdrHistogram's `outputPercentileDistribution` prints them and
//! wrk2 among its own output.
//!
//! A table has a row for each percentile, with the count of all values up to there. Values between
//! two rows are taken for the greater one.

use std::io::BufRead;

use crate::histogram::{Sum, Times};
use crate::lines::{Fault, Lines};
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;

/// Whether `text` is the head of such a table.
pub(crate) fn is_head(text: &str) -> bool {
    text.contains("Value") && text.contains("Percentile") && text.contains("TotalCount")
}

/// The unit that the head of a table states, as in `Value(us)` or `Value (ms)`.
fn unit_of_head(head: &str) -> Option<Unit> {
    let (_, rest) = head.split_once("Value")?;
    let (symbol, _) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
    let symbol = symbol.trim().replace(['\u{b5}', '\u{3bc}'], "u");
    Unit::ALL
        .into_iter()
        .find(|unit| unit.symbol() == symbol.to_lowercase())
}

/// Reads the first table of `lines`, which are those of the file `name`. A unit that the table
/// states wins over `unit`.
///
/// # Errors
/// The first line of the table that is no row, or contradicts another; a table without rows.
pub(crate) fn read(
    lines: &mut Lines<impl BufRead>,
    name: &str,
    unit: Option<Unit>,
) -> Result<Saved, Fault> {
    let mut warnings = Vec::new();
    let mut head_unit = None;
    let mut is_table = false;
    let mut rows: Vec<Row> = Vec::new();
    let mut stated = None;
    while let Some(line) = lines.read()? {
        let text = line.text.trim();
        if !is_table {
            is_table = is_head(text);
            head_unit = unit_of_head(text);
            continue;
        }
        if text.is_empty() {
            continue;
        }
        if text.starts_with('#') {
            stated = stated.or_else(|| total_count(text));
            continue;
        }
        let is_over = stated.is_some() || rows.last().is_some_and(|row| row.quantile >= 1.0);
        if is_over && !rows.is_empty() {
            // What follows the table is not of it.
            break;
        }
        match row(text) {
            Some(row) if rows.last().is_some_and(|before| row.total < before.total) => {
                return Err(Fault::at(
                    line.number,
                    "its count is less than the one before",
                ));
            }
            Some(_) if rows.len() == ROWS_MAX => {
                let said = format!("a table of more than {ROWS_MAX} rows");
                return Err(Fault::at(line.number, said));
            }
            Some(row) => rows.push(Row {
                line: line.number,
                ..row
            }),
            None if line.is_whole => {
                return Err(Fault::at(
                    line.number,
                    "it is not a row of a percentile table",
                ));
            }
            None => break,
        }
    }
    let Some(last) = rows.last() else {
        return Err(Fault::new("it is a percentile table without values"));
    };
    let counted = last.total;
    match stated {
        Some(total) if total != counted => warnings.push(format!(
            "{name}: its rows count {counted} values, and its end {total}"
        )),
        None if last.quantile < 1.0 => {
            warnings.push(format!("{name}: the table has no end: it is cut off"));
        }
        _ => check(&rows, counted)?,
    }
    if head_unit.or(unit).is_none() {
        warnings.push(format!(
            "{name}: states no unit, milliseconds are assumed as wrk2 writes them; --unit sets it"
        ));
    }
    let times_ns = times_ns(&rows, head_unit.or(unit).unwrap_or(Unit::Ms));
    let kind = Kind::Other(String::new());
    let run = Run::of_times(name.to_owned(), kind, 0.0, times_ns);
    Ok(Saved {
        runs: vec![run],
        warnings,
    })
}

/// A row: all values up to `value` are `total`, and at least the part `quantile` of all.
struct Row {
    value: f64,
    quantile: f64,
    total: u64,
    /// Its line, counted from 1.
    line: u64,
}

/// Rows of the longest table that is read: one of five digits that shows each value has no more.
const ROWS_MAX: usize = 1 << 20;

fn times_ns(rows: &[Row], unit: Unit) -> Times {
    let mut times = Sum::new();
    let mut counted = 0;
    for row in rows {
        let ns = (row.value * unit.ns() as f64).round() as u64;
        times.record(ns, row.total - counted);
        counted = row.total;
    }
    times.into_ns(Unit::Ns)
}

/// Checks that each row's count is the part of all that its percentile says: numbers that were
/// taken for others do not agree.
fn check(rows: &[Row], all: u64) -> Result<(), Fault> {
    for row in rows {
        let least = row.quantile * all as f64;
        // Percentiles are written with few digits, and counts are whole.
        if (row.total as f64) < least * (1.0 - 1e-6) - 1.0 {
            let said = format!(
                "its count is {}, and its percentile says at least {least:.0} of {all}",
                row.total
            );
            return Err(Fault::at(row.line, said));
        }
    }
    Ok(())
}

/// A row, as in `0.921 0.500000000000 1234 2.00`; with decimal commas, as in `0,921 0,5 1234 2,00`;
/// or with commas between, as in `0.921,0.5,1234,2.00`. The last column may be missing.
fn row(text: &str) -> Option<Row> {
    let by_space: Vec<_> = text.split_whitespace().collect();
    let has_gaps = by_space.len() > 1 && !by_space[0].ends_with(',');
    let fields: Vec<_> = match has_gaps {
        true => by_space,
        false => text.split(',').map(str::trim).collect(),
    };
    let ([value, quantile, total] | [value, quantile, total, _]) = fields[..] else {
        return None;
    };
    let (value, quantile) = (number(value)?, number(quantile)?);
    let is_row = value >= 0.0 && (0.0..=1.0).contains(&quantile);
    let total = whole(number(total)?)?;
    is_row.then_some(Row {
        value,
        quantile,
        total,
        line: 0,
    })
}

/// A number with a decimal point or a decimal comma; none with both, which may mean thousands.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.matches(['.', ',']).count() <= 1;
    let number: f64 = text.replace(',', ".").parse().ok()?;
    (is_plain && number.is_finite()).then_some(number)
}

/// A count; some writers give it decimals, all of them zero.
fn whole(number: f64) -> Option<u64> {
    (number >= 0.0 && number.fract() == 0.0).then_some(number as u64)
}

/// The count in `#[Max     =       10.100, Total count    =         1000]`.
fn total_count(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("Total count")?;
    let count = rest.trim_matches(|c: char| !c.is_ascii_digit());
    whole(number(count)?)
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
        read(&mut Lines::new(text.as_bytes()), "f", unit).map_err(Fault::said)
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
        assert!(saved.warnings[0].contains("cut off"));
        assert!(saved.warnings[1].contains("milliseconds"));
        assert!(read_text(&TABLE[..80], None).is_err());
        let torn = TABLE.replace("100          inf", "7 inf");
        assert!(read_text(&torn, None).unwrap_err().starts_with("line 6"));
    }

    /// The percentiles of [`TABLE`], in milliseconds, by whichever writer.
    fn assert_is_the_table(text: &str, unit: Option<Unit>) {
        let saved = read_text(text, unit).unwrap();
        let times = saved.runs[0].times.unwrap();
        assert_eq!(times.count, 100, "{text}");
        assert!((times.p50 - 500.0).abs() < 1.0, "{text}: {times:?}");
        assert!((times.max - 2000.0).abs() < 2.0, "{text}: {times:?}");
        assert_eq!(saved.warnings, Vec::<String>::new(), "{text}");
    }

    #[test]
    fn decimal_commas_are_read_and_commas_between_columns_too() {
        let with_commas = TABLE
            .replace("0.", "0,")
            .replace("1.", "1,")
            .replace("2.", "2,");
        assert_is_the_table(&with_commas, Some(Unit::Ms));
        let head = "Value,Percentile,TotalCount,1/(1-Percentile)\n";
        let csv = format!("{head}0.1,0.0,1,1.0\n0.5,0.5,50,2.0\n2.0,1.0,100,Infinity\n");
        assert_is_the_table(&csv, Some(Unit::Ms));
        assert_is_the_table(&csv.replace(',', ", "), Some(Unit::Ms));
        let unclear = format!("{head}0,1,0,0,1,1,0\n");
        assert!(read_text(&unclear, None).unwrap_err().starts_with("line 2"));
        let thousands = TABLE.replace("2.000", "2,000.0");
        assert!(
            read_text(&thousands, None)
                .unwrap_err()
                .starts_with("line 6")
        );
    }

    #[test]
    fn the_end_of_a_table_may_have_fractions_or_be_missing() {
        assert_is_the_table(&TABLE.replace(" 100]", " 100.000]"), Some(Unit::Ms));
        assert_is_the_table(&TABLE.replace(" 100]", " 100,000]"), Some(Unit::Ms));
        let without = TABLE.split("#[").next().unwrap();
        assert_is_the_table(without, Some(Unit::Ms));
        assert_is_the_table(&without.replace("          inf", ""), Some(Unit::Ms));
    }

    #[test]
    fn a_unit_in_the_head_counts() {
        for head in ["Value(ms)", "Value (MS)", "Value( ms )"] {
            assert_is_the_table(&TABLE.replace("Value", head), None);
            assert_is_the_table(&TABLE.replace("Value", head), Some(Unit::S));
        }
        for micro in ["us", "\u{b5}s", "\u{3bc}s"] {
            let text = TABLE.replace("Value", &format!("Value({micro})"));
            let times = read_text(&text, None).unwrap().runs[0].times.unwrap();
            assert!((times.p50 - 0.5).abs() < 0.001, "{micro}: {times:?}");
        }
    }

    #[test]
    fn a_count_that_is_not_what_its_percentile_says_is_refused() {
        // As a counter of 32 bits that has wrapped leaves it.
        let wrapped = TABLE.replace(" 50 ", "  3 ");
        let said = read_text(&wrapped, None).unwrap_err();
        assert!(said.starts_with("line 5: its count is 3"), "{said}");
    }
}
