//! Which crate may depend on which.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::circles::circles;
use crate::finding::Finding;
use crate::tables::Row;

/// The root package. What it needs always is the heart's, what is optional is the program's.
const HEART: &str = "reflector";
const PROGRAM: &str = "program";
/// What tests share.
const TESTKIT: &str = "reflector-testkit";

/// A package of the workspace and what it depends on.
#[derive(Clone, Debug)]
pub struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Clone, Debug)]
struct Dependency {
    name: String,
    is_dev: bool,
    is_optional: bool,
}

/// The packages in what `cargo metadata --no-deps` prints.
pub fn packages(metadata: &Value) -> Vec<Package> {
    list(&metadata["packages"])
        .map(|package| Package {
            name: text(&package["name"]),
            dependencies: list(&package["dependencies"])
                .map(|it| Dependency {
                    name: text(&it["name"]),
                    is_dev: it["kind"] == "dev",
                    is_optional: it["optional"] == true,
                })
                .collect(),
        })
        .collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array of cargo's").iter()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string of cargo's").to_owned()
}

/// The crates of this workspace that each one depends on, dev-dependencies aside, against `table`.
pub fn check(packages: &[Package], table: &[Row]) -> Vec<Finding> {
    let own: BTreeSet<&str> = packages.iter().map(|it| short(&it.name)).collect();
    let mut findings = Vec::new();
    for row in table {
        for name in row.may.iter().chain([&row.name]) {
            if name != PROGRAM && !own.contains(name.as_str()) {
                findings.push(row_finding(row, format!("there is no crate `{name}`")));
            }
        }
    }
    for user in own.iter().copied().chain([PROGRAM]) {
        if !table.iter().any(|row| row.name == user) {
            findings.push(finding(user, "has no row in the table of crates".into()));
        }
    }
    for (user, used) in uses(packages).filter(|(_, used)| own.contains(used)) {
        let row = table.iter().find(|row| row.name == user);
        if row.is_some_and(|row| !row.may.contains(used)) {
            let what = format!("depends on `{used}`, which its row does not allow");
            findings.push(finding(&user, what));
        }
    }
    findings
}

/// Crates of others that `owners` gives to some of ours only.
pub fn check_owners(packages: &[Package], owners: &[Row]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for owner in owners {
        let users: BTreeSet<String> = uses(packages)
            .filter(|&(_, used)| used == owner.name)
            .map(|(user, _)| user)
            .collect();
        for user in users.difference(&owner.may) {
            let what = format!("depends on `{}`, which is not its own", owner.name);
            findings.push(finding(user, what));
        }
        for user in owner.may.difference(&users) {
            let what = format!("`{user}` does not depend on `{}`", owner.name);
            findings.push(row_finding(owner, what));
        }
    }
    findings
}

/// Circles among the crates of this workspace, dev-dependencies included. Two are none: a package
/// may name itself there, to have a feature of its own on in its tests, and it may name the
/// testkit, which is above all and which only tests name.
pub fn check_circles(packages: &[Package]) -> Vec<Finding> {
    let own: BTreeSet<&str> = packages.iter().map(|it| it.name.as_str()).collect();
    let edges = packages.iter().flat_map(|package| {
        let dependencies = package.dependencies.iter();
        dependencies
            .filter(|it| !(it.is_dev && it.name == TESTKIT))
            .map(|it| (package.name.as_str(), it.name.as_str()))
    });
    circles(edges.filter(|(user, used)| user != used && own.contains(used)))
        .into_iter()
        .map(|circle| finding(short(circle[0]), format!("circle: {}", circle.join(" → "))))
        .collect()
}

/// Who uses what, by short names; dev-dependencies aside, which are free.
fn uses(packages: &[Package]) -> impl Iterator<Item = (String, &str)> {
    packages.iter().flat_map(|package| {
        let dependencies = package.dependencies.iter().filter(|it| !it.is_dev);
        dependencies.map(|it| {
            let is_program = package.name == HEART && it.is_optional;
            let user = if is_program {
                PROGRAM
            } else {
                short(&package.name)
            };
            (user.to_owned(), short(&it.name))
        })
    })
}

/// A crate's name without the `reflector-` of its publication.
fn short(name: &str) -> &str {
    name.strip_prefix("reflector-").unwrap_or(name)
}

fn finding(user: &str, what: String) -> Finding {
    let path = match user {
        HEART | PROGRAM => "Cargo.toml".to_owned(),
        _ if user == short(TESTKIT) => "tests/support/Cargo.toml".to_owned(),
        _ => format!("crates/{user}/Cargo.toml"),
    };
    Finding {
        rule: "crates",
        path,
        line: 1,
        what: format!("`{user}` {what}"),
    }
}

fn row_finding(row: &Row, what: String) -> Finding {
    Finding {
        rule: "crates",
        path: "ARCHITECTURE.md".into(),
        line: row.line,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::File;
    use crate::tables;
    use serde_json::json;

    /// Of ["user", "used", kind, optional].
    fn planted(dependencies: Value) -> Vec<Package> {
        let users = list(&dependencies).map(|it| it[0].as_str().expect("a name"));
        let packages: Vec<Value> = ["reflector", "reflector-udp", "reflector-lab"]
            .into_iter()
            .chain(users)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|name| {
                let mine: Vec<Value> = list(&dependencies)
                    .filter(|it| it[0] == name)
                    .map(|it| json!({"name": it[1], "kind": it[2], "optional": it[3]}))
                    .collect();
                json!({"name": name, "dependencies": mine})
            })
            .collect();
        super::packages(&json!({ "packages": packages }))
    }

    fn table(rows: &str) -> Vec<Row> {
        let text = format!("| crate | may know |\n|---|---|\n{rows}");
        tables::read(&File::planted("a.md", &text), "crate")
    }

    fn whats(findings: &[Finding]) -> Vec<&str> {
        findings.iter().map(|it| it.what.as_str()).collect()
    }

    const ROWS: &str = "| `reflector` | `udp` |\n| `program` | `lab`, `udp` |\n\
                        | `udp` | – |\n| `lab` | `udp` |\n";

    #[test]
    fn an_arrow_that_the_table_does_not_have_is_found() {
        let packages = planted(json!([
            ["reflector", "reflector-udp", null, false],
            ["reflector", "reflector-lab", null, true],
            ["reflector-udp", "reflector-lab", "dev", false],
            ["reflector-udp", "libc", null, false],
        ]));
        assert_eq!(check(&packages, &table(ROWS)), []);

        let packages = planted(json!([
            ["reflector", "reflector-lab", null, false],
            ["reflector-udp", "reflector-lab", "build", false],
        ]));
        assert_eq!(
            whats(&check(&packages, &table(ROWS))),
            [
                "`reflector` depends on `lab`, which its row does not allow",
                "`udp` depends on `lab`, which its row does not allow",
            ]
        );
    }

    #[test]
    fn table_and_workspace_name_the_same_crates() {
        let rows = table("| `lab` | `gone` |\n| `program` | `lab` |\n| `reflector` | – |\n");
        assert_eq!(
            whats(&check(&planted(json!([])), &rows)),
            [
                "there is no crate `gone`",
                "`udp` has no row in the table of crates",
            ]
        );
    }

    #[test]
    fn a_crate_of_others_stays_with_its_owners() {
        let packages = planted(json!([
            ["reflector", "clap", null, true],
            ["reflector-lab", "clap", null, false],
        ]));
        let owners = table("| `clap` | `program`, `udp` |\n");
        assert_eq!(
            whats(&check_owners(&packages, &owners)),
            [
                "`lab` depends on `clap`, which is not its own",
                "`udp` does not depend on `clap`",
            ]
        );
    }

    #[test]
    fn a_circle_by_way_of_a_dev_dependency_is_found() {
        let packages = planted(json!([
            ["reflector-lab", "reflector-udp", null, false],
            ["reflector-udp", "reflector-lab", "dev", false],
            ["reflector", "reflector", "dev", false],
            ["reflector", "reflector-testkit", "dev", false],
            ["reflector-testkit", "reflector", null, false],
        ]));
        assert_eq!(
            whats(&check_circles(&packages)),
            ["`lab` circle: reflector-lab → reflector-udp → reflector-lab"]
        );
    }
}
