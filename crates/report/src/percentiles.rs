//! Percentile tables (`.hgrm`), as HdrHistogram's `outputPercentileDistribution` prints them and
//! wrk2 among its own output.
//!
//! A table has a row for each percentile, with the count of all values up to there. Values between
//! two rows are taken for the greater one: a percentile without a row of its own is at most that.

mod row;

use std::io::BufRead;

use crate::histogram::{Sum, Times};
use crate::lines::{Fault, Lines};
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;
use row::{Row, row, total_count};

/// Rows of the longest file that is read: a table of five digits that shows each value has no more.
const ROWS_MAX: usize = 1 << 20;
/// Tables of one file.
const TABLES_MAX: usize = 64;
/// The longest heading that is kept, in characters.
const HEADING_LEN_MAX: usize = 60;
/// What a counter of 32 bits has lost, or a multiple of it.
const WRAP: i64 = 1 << 32;
/// By how much a percentile that is written with few digits may be another.
const PERCENTILE_DIGITS: f64 = 5e-7;
/// The percentiles that are shown of each run.
const SHOWN: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9")];

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

/// One table, as it is read.
#[derive(Default)]
struct Table {
    /// What is written above it.
    heading: String,
    unit: Option<Unit>,
    rows: Vec<Row>,
    /// How many values its end says there are.
    stated: Option<u64>,
}

impl Table {
    fn new(head: &str, heading: &str) -> Self {
        Self {
            heading: heading.to_owned(),
            unit: unit_of_head(head),
            ..Self::default()
        }
    }

    /// Whether what is no row may follow: the table has an end.
    fn has_ended(&self) -> bool {
        let is_last = |row: &Row| row.quantile >= 1.0;
        self.stated.is_some() || self.rows.last().is_some_and(is_last)
    }
}

/// Reads the tables of `lines`, which are those of the file `name`. A unit that a table states wins
/// over `unit`.
///
/// # Errors
/// The first line of a table that is no row, or contradicts another; a table without rows that does
/// not say that it is empty.
pub(crate) fn read(
    lines: &mut Lines<impl BufRead>,
    name: &str,
    unit: Option<Unit>,
) -> Result<Saved, Fault> {
    let mut warnings = Vec::new();
    let mut tables = tables(lines)?;
    let is_one = tables.len() == 1;
    if let Some(cut) = tables.pop_if(|last| !last.rows.is_empty() && !last.has_ended()) {
        // What is missing are its greatest values: no percentile of the rest is one of the whole.
        let line = cut.rows.last().map_or(0, |row| row.line);
        if is_one {
            return Err(Fault::at(line, "the table has no end: it is cut off"));
        }
        warnings.push(format!(
            "{name}: the table that ends in line {line} is cut off and left out"
        ));
    }
    let has_no_unit = tables.iter().any(|it| it.unit.is_none());
    if has_no_unit && unit.is_none() {
        warnings.push(format!(
            "{name}: states no unit, milliseconds are assumed as wrk2 writes them; --unit sets it"
        ));
    }
    let mut runs = Vec::with_capacity(tables.len());
    for (number, table) in (1..).zip(tables) {
        let heading = match &*table.heading {
            "" => String::new(),
            heading => format!(" [{heading}]"),
        };
        let name = match is_one {
            true => name.to_owned(),
            false => format!("{name} #{number}{heading}"),
        };
        runs.push(run(&table, name, unit)?);
    }
    Ok(Saved {
        runs,
        warnings,
        has_no_unit,
    })
}

fn tables(lines: &mut Lines<impl BufRead>) -> Result<Vec<Table>, Fault> {
    let mut tables: Vec<Table> = Vec::new();
    let mut heading = String::new();
    let mut is_in_table = false;
    let mut count = 0;
    while let Some(line) = lines.read()? {
        let text = line.text.trim();
        if is_head(text) {
            if tables.len() == TABLES_MAX {
                let said = format!("more than {TABLES_MAX} tables in one file");
                return Err(Fault::at(line.number, said));
            }
            tables.push(Table::new(text, &heading));
            is_in_table = true;
            continue;
        }
        let Some(table) = tables.last_mut().filter(|_| is_in_table) else {
            if is_heading(text) {
                heading = text.chars().take(HEADING_LEN_MAX).collect();
            }
            continue;
        };
        if text.is_empty() {
            continue;
        }
        if text.starts_with('#') {
            table.stated = table.stated.or_else(|| total_count(text));
            continue;
        }
        match row(text, line.number).filter(|_| table.stated.is_none()) {
            Some(_) if count == ROWS_MAX => {
                let said = format!("tables of more than {ROWS_MAX} rows");
                return Err(Fault::at(line.number, said));
            }
            Some(row) => {
                table.rows.push(row);
                count += 1;
            }
            None if table.has_ended() => {
                // What follows the table is not of it.
                is_in_table = false;
                heading.clear();
                if is_heading(text) {
                    heading = text.chars().take(HEADING_LEN_MAX).collect();
                }
            }
            None if line.is_whole => {
                let said = "it is not a row of a percentile table";
                return Err(Fault::at(line.number, said));
            }
            None => break,
        }
    }
    Ok(tables)
}

/// Whether a line above a table says what is in it: not the words above every table, nor figures.
fn is_heading(text: &str) -> bool {
    let is_rule = text.chars().all(|it| matches!(it, '-' | '=' | ' '));
    !is_rule
        && !text.starts_with(|it: char| it.is_ascii_digit())
        && !text.starts_with("Detailed Percentile spectrum")
}

/// What wrk2 says of a table in its heading, as `Recorded Latency` in `Latency Distribution
/// (HdrHistogram - Recorded Latency)`: times that were corrected and times that were not are not
/// alike.
fn kind(heading: &str) -> Kind {
    let said = heading.split_once("(HdrHistogram - ").map(|(_, said)| said);
    let end = |said: &str| said.find(['(', ')']).unwrap_or(said.len());
    let said = said.map_or("", |said| said[..end(said)].trim());
    Kind::Other(said.to_owned())
}

fn run(table: &Table, name: String, unit: Option<Unit>) -> Result<Run, Fault> {
    if table.rows.is_empty() && table.stated != Some(0) {
        return Err(Fault::new("it is a percentile table without values"));
    }
    let counts = counts(table)?;
    let times = times(table, &counts, table.unit.or(unit).unwrap_or(Unit::Ms));
    let between = between(&table.rows, &counts);
    let notes = (!between.is_empty()).then(|| {
        format!(
            "{name}: no row of the table for {}: at most what is shown",
            between.join(", ")
        )
    });
    Ok(Run {
        notes: notes.into_iter().collect(),
        ..Run::of_times(name, kind(&table.heading), 0.0, times)
    })
}

/// How many values there are up to each row. What a counter of 32 bits has lost is known again by
/// the part of all that each row has to be.
fn counts(table: &Table) -> Result<Vec<u64>, Fault> {
    let Some(last) = table.rows.last() else {
        return Ok(Vec::new());
    };
    let all = match table
        .stated
        .map(|all| i64::try_from(all).unwrap_or(i64::MAX))
    {
        Some(all) if (all - last.count) % WRAP != 0 || all < last.count => {
            return Err(Fault::new(format!(
                "its rows count {} values, and its end {all}",
                last.count
            )));
        }
        Some(all) => all,
        None => last.count,
    };
    let mut counts = Vec::with_capacity(table.rows.len());
    let mut before = 0;
    for row in &table.rows {
        // Percentiles are written with few digits, and counts are whole.
        let least = (row.quantile * all as f64 * (1.0 - 1e-6) - 1.0) as i64;
        let least = least.max(before);
        let is_wrapped = all > i64::from(i32::MAX) && row.count < least;
        let lost = if is_wrapped {
            (least - row.count).div_euclid(WRAP) + i64::from((least - row.count) % WRAP != 0)
        } else {
            0
        };
        let count = row.count + lost * WRAP;
        let said = if count < before {
            "it is less than the one before".to_owned()
        } else if count < least || count > all {
            format!("its percentile says at least {least} of {all}")
        } else {
            before = count;
            counts.push(count as u64);
            continue;
        };
        return Err(Fault::at(
            row.line,
            format!("its count is {}, {said}", row.count),
        ));
    }
    Ok(counts)
}

fn times(table: &Table, counts: &[u64], unit: Unit) -> Times {
    let mut times = Sum::new();
    let mut counted = 0;
    for (row, &count) in table.rows.iter().zip(counts) {
        let ns = (row.value * unit.ns() as f64).round() as u64;
        times.record(ns, count - counted);
        counted = count;
    }
    times.into_ns(Unit::Ns)
}

/// The percentiles of all that are shown which lie between two rows of different values.
fn between(rows: &[Row], counts: &[u64]) -> Vec<&'static str> {
    let all = counts.last().copied().unwrap_or_default();
    let is_between = |quantile: f64| {
        let rank = (quantile * all as f64).ceil() as u64;
        let Some(at) = counts.iter().position(|&count| count >= rank) else {
            return false;
        };
        let has_row = (rows[at].quantile - quantile).abs() <= PERCENTILE_DIGITS;
        let before = at.checked_sub(1).map(|before| rows[before].value);
        let is_known = before.is_none_or(|value| value == rows[at].value) || counts[at] == rank;
        !has_row && !is_known
    };
    let shown = SHOWN
        .into_iter()
        .filter(|&(quantile, _)| is_between(quantile));
    shown.map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests;
