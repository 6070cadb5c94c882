//! Which room of the heart may know which. A room is a module of the crate's root, with all below.

use std::collections::BTreeSet;

use crate::circles::circles;
use crate::finding::Finding;
use crate::modules::{Arrow, Modules, Target};
use crate::tables::Row;

/// The root itself: it declares the rooms and publishes what is theirs.
const ROOT: &str = "lib";

/// What each room names, against `table`.
pub fn check(modules: &Modules, table: &[Row]) -> Vec<Finding> {
    let rooms: BTreeSet<&str> = modules.names.iter().map(|it| room(it)).collect();
    let named: BTreeSet<&str> = table.iter().map(|row| row.name.as_str()).collect();
    let mut findings = Vec::new();
    for row in table
        .iter()
        .filter(|row| !rooms.contains(row.name.as_str()))
    {
        findings.push(Finding {
            rule: "rooms",
            path: "ARCHITECTURE.md".into(),
            line: row.line,
            what: format!("there is no room `{}`", row.name),
        });
    }
    for room in rooms.difference(&named).filter(|&&it| it != ROOT) {
        findings.push(Finding {
            rule: "rooms",
            path: format!("src/{room}.rs"),
            line: 1,
            what: format!("`{room}` has no row in the table of rooms"),
        });
    }
    for arrow in &modules.arrows {
        let (from, to) = ends(arrow);
        let row = table.iter().find(|row| row.name == from);
        if from != to && row.is_some_and(|row| !row.may.contains(to)) {
            findings.push(Finding {
                rule: "rooms",
                path: arrow.path.clone(),
                line: arrow.line,
                what: format!("`{from}` may not know `{to}`"),
            });
        }
    }
    findings
}

/// Circles among the rooms as they are.
pub fn check_circles(modules: &Modules) -> Vec<Finding> {
    let edges = modules.arrows.iter().map(ends);
    circles(edges.filter(|(from, to)| from != to && *from != ROOT))
        .into_iter()
        .map(|circle| Finding {
            rule: "rooms",
            path: format!("src/{}.rs", circle[0]),
            line: 1,
            what: format!("circle of rooms: {}", circle.join(" → ")),
        })
        .collect()
}

/// Circles that the table itself would allow.
pub fn check_table_circles(table: &[Row]) -> Vec<Finding> {
    let edges = table.iter().flat_map(|row| {
        let may = row.may.iter();
        may.map(|to| (row.name.as_str(), to.as_str()))
    });
    circles(edges)
        .into_iter()
        .map(|circle| Finding {
            rule: "rooms",
            path: "ARCHITECTURE.md".into(),
            line: table[0].line,
            what: format!("the table allows a circle: {}", circle.join(" → ")),
        })
        .collect()
}

fn ends(arrow: &Arrow) -> (&str, &str) {
    let to = match &arrow.to {
        Target::Module(to) => room(to),
        Target::Crate(to) => to,
    };
    (room(&arrow.from), to)
}

fn room(module: &str) -> &str {
    match module.split("::").next() {
        None | Some("") => ROOT,
        Some(first) => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::File;
    use crate::{modules, tables};

    fn planted(a: &str, b: &str) -> Modules {
        let files = [
            ("src/lib.rs", "use a::A;"),
            ("src/a/x.rs", a),
            ("src/b.rs", b),
        ];
        let files: Vec<File> = files
            .iter()
            .map(|(path, text)| File::planted(path, text))
            .collect();
        modules::read(&files, "src/lib.rs")
    }

    fn table(rows: &str) -> Vec<Row> {
        let text = format!("| room | may know |\n|---|---|\n{rows}");
        tables::read(&File::planted("a.md", &text), "room")
    }

    fn shown(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn an_arrow_that_the_table_does_not_have_is_found() {
        let modules = planted(
            "use crate::b;\nuse reflector_udp::addr;",
            "use crate::a::x;",
        );
        assert_eq!(
            shown(&check(&modules, &table("| `a` | `b` |\n| `b` | `a` |\n"))),
            ["src/a/x.rs:2: `a` may not know `udp` [rooms]"]
        );
        assert_eq!(
            shown(&check(
                &modules,
                &table("| `a` | `b`, `udp` |\n| `b` | – |\n")
            )),
            ["src/b.rs:1: `b` may not know `a` [rooms]"]
        );
    }

    #[test]
    fn table_and_heart_name_the_same_rooms() {
        assert_eq!(
            shown(&check(
                &planted("", ""),
                &table("| `a` | – |\n| `c` | – |\n")
            )),
            [
                "ARCHITECTURE.md:4: there is no room `c` [rooms]",
                "src/b.rs:1: `b` has no row in the table of rooms [rooms]",
            ]
        );
    }

    #[test]
    fn circles_are_found_in_the_rooms_and_in_the_table() {
        let modules = planted("use crate::b;", "use crate::a::x;");
        let rows = table("| `a` | `b` |\n| `b` | `a` |\n");
        assert_eq!(
            shown(&check_circles(&modules)),
            ["src/a.rs:1: circle of rooms: a → b → a [rooms]"]
        );
        assert_eq!(
            shown(&check_table_circles(&rows)),
            ["ARCHITECTURE.md:3: the table allows a circle: a → b → a [rooms]"]
        );
    }
}
