//! Text for people: tables with columns as wide as their content, paragraphs as wide as the
//! terminal.

use std::fmt::{self, Display};
use std::os::fd::AsFd;

/// Columns of a line where there is no terminal to ask.
const WIDTH_DEFAULT: usize = 80;
/// Spaces before a table and between its columns.
const GAP: &str = "  ";

/// Columns of the terminal `output`; 80 if it is none.
pub fn width(output: impl AsFd) -> usize {
    let size = terminal_size::terminal_size_of(output);
    size.map_or(WIDTH_DEFAULT, |(width, _)| usize::from(width.0))
}

/// `text` after `label`, in lines of at most `width` columns that begin below each other. Ends
/// with a newline.
pub fn paragraph(label: &str, text: &str, width: usize) -> String {
    paragraph_hung(label, &" ".repeat(label.chars().count()), text, width)
}

/// The same, with `indent` before each line but the first.
fn paragraph_hung(label: &str, indent: &str, text: &str, width: usize) -> String {
    let options = textwrap::Options::new(width)
        .initial_indent(label)
        .subsequent_indent(indent)
        .break_words(false)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::fill(text, options) + "\n"
}

/// Lines of `text` in lines of at most `width` columns, of which those that go on are indented by
/// two more. Escape sequences take no column.
pub fn reflowed(text: &str, width: usize) -> String {
    let reflow = |line: &str| {
        let indent = " ".repeat(line.len() - line.trim_start().len());
        paragraph_hung(&indent, &format!("{indent}  "), line.trim_start(), width)
    };
    text.lines().map(reflow).collect()
}

/// The end of `text`, which tells a long name from others, in at most `width` columns.
pub fn shortened(text: &str, width: usize) -> String {
    let len = text.chars().count();
    if len <= width {
        return text.to_owned();
    }
    let rest: String = text.chars().skip(len - width.saturating_sub(1)).collect();
    format!("…{rest}")
}

/// On which side a column is even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// Rows of cells. It is written, by [`Display`], with two spaces before each line and between
/// columns, and none at the end of a line.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Vec<Align>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows.
    pub fn new(columns: impl IntoIterator<Item = Align>) -> Self {
        Self {
            columns: columns.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. The last cell of a row that has fewer cells than the table has columns reaches
    /// to the end of the line.
    pub fn row(&mut self, cells: &[&dyn Display]) {
        self.push(cells.iter().map(ToString::to_string).collect());
    }

    /// The same, of cells that are text already.
    pub fn push(&mut self, cells: Vec<String>) {
        debug_assert!(cells.len() <= self.columns.len(), "a column for each cell");
        self.rows.push(cells);
    }

    /// Columns of the terminal that its longest line takes.
    pub fn width(&self) -> usize {
        let text = self.to_string();
        let lines = text.lines();
        lines.map(|line| line.chars().count()).max().unwrap_or(0)
    }

    /// The table in lines of at most `width` columns. One that is wider is cut into several below
    /// each other, which all begin with the first column, and a cell that reaches to the end of its
    /// line goes on below itself.
    pub fn fitted(&self, width: usize) -> String {
        let widths = self.widths();
        let mut parts = vec![vec![0]];
        let mut used = 0;
        for (column, len) in widths.iter().enumerate() {
            used += GAP.len() + len;
            let part = parts.last_mut().expect("there is a first one");
            match used > width && part.len() > 1 {
                true => {
                    used = widths[0] + len + 2 * GAP.len();
                    parts.push(vec![0, column]);
                }
                false if column > 0 => part.push(column),
                false => {}
            }
        }
        let parts = parts.iter().map(|part| self.part(part, &widths, width));
        parts.collect::<Vec<_>>().join("\n")
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = vec![0; self.columns.len()];
        for row in &self.rows {
            for (index, cell) in row.iter().enumerate() {
                if !self.reaches_on(row, index) {
                    widths[index] = widths[index].max(cell.chars().count());
                }
            }
        }
        widths
    }

    /// What the rows have in `columns`. A row that has nothing in those of a later part is none.
    fn part(&self, columns: &[usize], widths: &[usize], width: usize) -> String {
        let is_first = columns.get(1).is_none_or(|&column| column == 1);
        let has_cells = |row: &&Vec<String>| is_first || row.len() > columns[1];
        let rows = self.rows.iter().filter(has_cells);
        rows.map(|row| self.line(row, columns, widths, width))
            .collect()
    }

    fn line(&self, row: &[String], columns: &[usize], widths: &[usize], width: usize) -> String {
        let mut line = String::new();
        for &index in columns {
            let Some(cell) = row.get(index) else { break };
            let column = widths[index];
            line += GAP;
            let is_too_long = || line.chars().count() + cell.chars().count() > width;
            if self.reaches_on(row, index) && is_too_long() {
                return paragraph(&line, cell, width);
            }
            line += &match self.columns[index] {
                Align::Right if !self.reaches_on(row, index) => format!("{cell:>column$}"),
                _ => format!("{cell:<column$}"),
            };
        }
        line.truncate(line.trim_end().len());
        line + "\n"
    }

    fn reaches_on(&self, row: &[String], index: usize) -> bool {
        index + 1 == row.len() && row.len() < self.columns.len()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fitted(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::Align::{Left, Right};
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_content() {
        let mut table = Table::new([Left, Right, Right, Left]);
        table.row(&[&"sent", &12_000_000, &"3", &"/s"]);
        table.row(&[&"received", &7, &12_000_000_u64, &"/s"]);
        assert_eq!(
            table.to_string(),
            "  sent      12000000         3  /s\n  received         7  12000000  /s\n"
        );
        assert_eq!(table.width(), 34);
    }

    #[test]
    fn the_last_cell_of_a_short_row_reaches_on() {
        let mut table = Table::new([Left, Right, Right]);
        table.row(&[&"sent", &1, &2]);
        table.row(&[&"late", &"answered after the timeout"]);
        table.row(&[&""]);
        assert_eq!(
            table.to_string(),
            "  sent  1  2\n  late  answered after the timeout\n\n"
        );
    }

    #[test]
    fn what_is_too_wide_is_cut_into_tables_below_each_other() {
        let mut table = Table::new([Left, Right, Right, Right]);
        table.row(&[&"worker", &"received", &"replied", &"batches"]);
        table.row(&[&0, &1234, &1230, &17]);
        table.row(&[&"late", &"answered after the timeout"]);
        assert_eq!(table.fitted(80), table.to_string());
        assert_eq!(
            Vec::from_iter(table.fitted(28).lines()),
            [
                "  worker  received  replied",
                "  0           1234     1230",
                "  late    answered after the",
                "          timeout",
                "",
                "  worker  batches",
                "  0            17",
            ]
        );
    }

    #[test]
    fn what_others_wrote_is_wrapped_line_by_line() {
        assert_eq!(
            reflowed(
                "error: an \u{1b}[1municorn\u{1b}[0m found\n\n  tip: none",
                18
            ),
            "error: an \u{1b}[1municorn\u{1b}[0m\n  found\n\n  tip: none\n"
        );
    }

    #[test]
    fn a_paragraph_hangs_from_its_label() {
        assert_eq!(
            paragraph("note: ", "add --cores, or wait for-ever", 20),
            "note: add --cores,\n      or wait\n      for-ever\n"
        );
    }

    #[test]
    fn of_a_long_name_the_end_remains() {
        assert_eq!(shortened("runs/a.hlog", 11), "runs/a.hlog");
        assert_eq!(shortened("runs/a.hlog", 7), "…a.hlog");
    }
}
