//! Other tools' JSON documents that carry histograms as base64 (V2), such as TRex's `hdrh`.

use serde_json::Value;

use crate::histogram::{self, Sum};
use crate::lines::Fault;
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;

/// Reads the document `text`, which is that of the file `name`.
///
/// # Errors
/// It is no JSON, it carries no histogram, or one that cannot be decoded.
pub(crate) fn read(text: &str, name: &str, unit: Option<Unit>) -> Result<Saved, Fault> {
    let document: Value = serde_json::from_str(text)
        .map_err(|e| Fault::new(format!("it is not a JSON document ({e})")))?;
    let mut runs = Vec::new();
    collect(&document, "", name, unit.unwrap_or(Unit::Ns), &mut runs)?;
    if runs.is_empty() {
        return Err(Fault::new(
            "it is JSON, but not a report of reflector, and has no HdrHistogram in it",
        ));
    }
    let warnings = match unit {
        Some(_) => Vec::new(),
        None => vec![format!(
            "{name}: states no unit, nanoseconds are assumed; --unit sets it (TRex writes us)"
        )],
    };
    Ok(Saved { runs, warnings })
}

/// Goes through `value`, which is found at `path`.
fn collect(
    value: &Value,
    path: &str,
    name: &str,
    unit: Unit,
    runs: &mut Vec<Run>,
) -> Result<(), Fault> {
    let below = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    };
    match value {
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(key, value)| collect(value, &below(key), name, unit, runs)),
        Value::Array(values) => (0..)
            .zip(values)
            .try_for_each(|(index, value): (usize, _)| {
                collect(value, &below(&index.to_string()), name, unit, runs)
            }),
        Value::String(text) if histogram::is_encoded(text) => {
            let wrong = |said| Fault::new(format!("{path}: {said}"));
            let mut times = Sum::new();
            let decoded = histogram::decode(text).map_err(wrong)?;
            times.add(&decoded).map_err(wrong)?;
            let kind = Kind::Other(path.to_owned());
            let name = format!("{name} [{path}]");
            runs.push(Run::of_times(name, kind, 0.0, times.into_ns(unit)));
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_no_histogram_says_so() {
        let said = |text| read(text, "f", None).unwrap_err().said();
        assert!(said("{\"a\":[1,\"b\"]}").contains("no HdrHistogram"));
        assert!(said("{").contains("not a JSON document"));
        assert!(said("{\"latency\":[{\"hdrh\":\"HISTx\"}]}").starts_with("latency.0.hdrh: "));
    }
}
