//! Other tools' JSON documents that carry histograms as base64 (V2), such as TRex's `hdrh`.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::encoded::{Decoder, is_encoded};
use crate::histogram::{SUMS_LEN_MAX, Sum};
use crate::lines::Fault;
use crate::run::{Kind, Run, Saved};
use crate::unit::Unit;

/// Histograms of one document: each is in memory.
const HISTOGRAMS_MAX: usize = 64;
/// Bytes of the keys that lead to a histogram: they are its name, in several places.
const PATH_LEN_MAX: usize = 300;

/// Reads the documents of `text`, which is that of the file `name`. Nothing of them is kept but
/// their histograms.
///
/// # Errors
/// It is no JSON, it carries no histogram, too many, or one that cannot be decoded.
pub(crate) fn read(text: &str, name: &str, unit: Option<Unit>) -> Result<Saved, Fault> {
    let mut found = Found {
        name,
        unit: unit.unwrap_or(Unit::Ns),
        path: Vec::new(),
        runs: Vec::new(),
        len: 0,
        decoder: Decoder::new(),
        wrong: None,
    };
    let mut documents = serde_json::Deserializer::from_str(text);
    let visited = loop {
        let visited = found.deserialize_below(&mut documents);
        // One may be behind the other.
        if visited.is_err() || documents.end().is_ok() {
            break visited;
        }
    };
    if let Some(wrong) = found.wrong {
        return Err(Fault::new(wrong));
    }
    visited.map_err(|e| Fault::new(format!("it is not a JSON document ({e})")))?;
    if found.runs.is_empty() {
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
    Ok(Saved {
        runs: found.runs,
        warnings,
        has_no_unit: true,
    })
}

/// What has been found so far in the file `name`.
struct Found<'a> {
    name: &'a str,
    unit: Unit,
    /// Keys and indexes that lead to where the reader is.
    path: Vec<String>,
    runs: Vec<Run>,
    /// Bytes that they take.
    len: usize,
    decoder: Decoder,
    /// What is wrong with a histogram, which ends the reading.
    wrong: Option<String>,
}

impl Found<'_> {
    fn deserialize_below<'de, D: Deserializer<'de>>(&mut self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(Below(self))
    }

    /// Takes the histogram that `text` is, if it is one.
    fn take(&mut self, text: &str) -> Result<(), String> {
        if !is_encoded(text) {
            return Ok(());
        }
        if self.runs.len() == HISTOGRAMS_MAX {
            return Err(format!("it has more than {HISTOGRAMS_MAX} histograms"));
        }
        let path = self.path.join(".");
        if path.len() > PATH_LEN_MAX {
            let said = "it has a histogram below keys of more than";
            return Err(format!("{said} {PATH_LEN_MAX} bytes; shorten them"));
        }
        let wrong = |said| format!("{path}: {said}");
        let mut times = Sum::new();
        let decoded = self.decoder.decode(text).map_err(wrong)?;
        times.add(&decoded).map_err(wrong)?;
        self.len += times.len_bytes();
        if self.len > SUMS_LEN_MAX {
            return Err("its histograms have more digits than there is room for".to_owned());
        }
        let name = format!("{} [{path}]", self.name);
        let times_ns = times.into_ns(self.unit);
        self.runs
            .push(Run::of_times(name, Kind::Other(path), 0.0, times_ns));
        Ok(())
    }
}

/// A value at the end of the path: goes through what is below it.
struct Below<'a, 'b>(&'a mut Found<'b>);

impl<'de> DeserializeSeed<'de> for Below<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        self.0.deserialize_below(value)
    }
}

impl<'de> Visitor<'de> for Below<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<(), M::Error> {
        while let Some(key) = fields.next_key()? {
            self.0.path.push(key);
            fields.next_value_seed(Below(self.0))?;
            self.0.path.pop();
        }
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut values: S) -> Result<(), S::Error> {
        for index in 0_usize.. {
            self.0.path.push(index.to_string());
            let is_there = values.next_element_seed(Below(self.0))?;
            self.0.path.pop();
            if is_there.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        self.0.take(text).map_err(|said| {
            self.0.wrong = Some(said);
            E::custom("a histogram")
        })
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_one_behind_the_other_are_all_read() {
        // A thousand, once, by PyPI's hdrhistogram.
        let histogram = "HISTFAAAACN4nJNpmSzMwMDAzAABTFCaEURcm7yEwf4DROAzOxMAYagFhQ==";
        let one = format!("{{\"hdrh\":\"{histogram}\"}}");
        let saved = read(&format!("{one}\n{one} "), "f", None).unwrap();
        let names: Vec<_> = saved.runs.iter().map(|run| &*run.name).collect();
        assert_eq!(names, ["f [hdrh]", "f [hdrh]"]);
        assert_eq!(saved.runs[1].times.unwrap().max, 1.003);
        assert!(read(&format!("{one} {{"), "f", None).is_err());
    }

    #[test]
    fn what_carries_no_histogram_says_so() {
        let said = |text| read(text, "f", None).unwrap_err().said();
        assert!(said("{\"a\":[1,\"b\"]}").contains("no HdrHistogram"));
        assert!(said("{\"of\":\"HISTORY\"}").contains("no HdrHistogram"));
        assert!(said("{").contains("not a JSON document"));
        let long = format!("{{\"{}\":\"HISTFAAAAx\"}}", "k".repeat(301));
        assert!(said(&long).contains("more than 300 bytes"));
        assert!(said("{\"latency\":[{\"hdrh\":\"HISTFAAAx\"}]}").starts_with("latency.0.hdrh: "));
    }
}
