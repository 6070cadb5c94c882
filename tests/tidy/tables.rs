//! The tables of ARCHITECTURE.md that are data.

use std::collections::BTreeSet;

use crate::files::File;

/// A row: a name, and the names in the second cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    pub may: BTreeSet<String>,
    /// Where it stands in the document.
    pub line: usize,
}

/// The rows of the table whose first column is headed `head`. Names stand in backticks.
pub fn read(document: &File, head: &str) -> Vec<Row> {
    let rows: Vec<Row> = document
        .lines()
        .skip_while(|(_, text)| cells(text).next() != Some(head))
        .take_while(|(_, text)| text.starts_with('|'))
        .filter_map(|(line, text)| {
            let mut cells = cells(text);
            let name = names(cells.next()?).next()?.to_owned();
            let may = names(cells.next()?).map(str::to_owned).collect();
            Some(Row { name, may, line })
        })
        .collect();
    assert!(
        !rows.is_empty(),
        "{} has no table of \"{head}\"",
        document.path
    );
    rows
}

fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.strip_prefix('|')
        .unwrap_or_default()
        .split('|')
        .map(str::trim)
}

/// What stands in backticks.
fn names(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn a_table_is_read_from_its_head_to_its_end() {
    let document = File::planted(
        "a.md",
        "| `a` | of another |\n\n| room | may know | why |\n|---|---|---|\n\
         | `a` | `b`, `c` | `d` |\n| `b` | – | |\n\n| `c` | `a` | |\n",
    );
    let rows = read(&document, "room");
    let row = |name: &str, may: &[&str], line| Row {
        name: name.to_owned(),
        may: may.iter().map(|&it| it.to_owned()).collect(),
        line,
    };
    assert_eq!(rows, [row("a", &["b", "c"], 5), row("b", &[], 6)]);
}

#[test]
#[should_panic(expected = "no table")]
fn a_table_that_is_gone_is_no_empty_table() {
    read(&File::planted("a.md", "| crate | x |\n"), "room");
}
