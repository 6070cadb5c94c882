//! JSON lines: one object a line, each with its type and the schema's version.

use std::io::{self, Write};

use serde::Serialize;

/// Version of the JSON objects: counts up when a key changes its meaning or goes.
pub const SCHEMA: u32 = 2;

#[derive(Serialize)]
struct Line<'a, T> {
    schema: u32,
    r#type: &'a str,
    #[serde(flatten)]
    report: &'a T,
}

/// Writes `report`, a struct or a map, as one line of the given type, and flushes: whoever reads
/// along sees each line when it is written.
///
/// # Errors
/// What `out` says, such as `EPIPE` of a pipe that nobody reads any more.
pub fn write_line(out: &mut impl Write, r#type: &str, report: &impl Serialize) -> io::Result<()> {
    let line = Line {
        schema: SCHEMA,
        r#type,
        report,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_its_schema_and_type_first() {
        #[derive(Serialize)]
        struct Report {
            sent: u64,
        }
        let mut out = Vec::new();
        write_line(&mut out, "interval", &Report { sent: 3 }).unwrap();
        let expected = format!("{{\"schema\":{SCHEMA},\"type\":\"interval\",\"sent\":3}}\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
