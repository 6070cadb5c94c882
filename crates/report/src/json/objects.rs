//! The objects of a file, one of a line, as far as they are of interest.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::run::{Counters, Kind, Settings, Variation};
use reflector_measure::json::SCHEMA;
use reflector_measure::quantiles::Quantiles;

/// Schemas that are read. The keys that are of interest here are the same in all of them.
const SCHEMAS_READ: RangeInclusive<u64> = 1..=SCHEMA as u64;

/// Bytes of a line that is read: many times those of the longest summary.
pub(super) const LINE_LEN_MAX: usize = 1 << 20;
/// Bytes of a target that is kept, and sizes.
const TEXT_LEN_MAX: usize = 300;
const SIZES_MAX: usize = 64;

/// What tells the objects apart.
#[derive(Deserialize)]
struct Head {
    schema: Option<u64>,
    r#type: Option<String>,
}

/// How the objects of our reports begin.
const BEGIN: &str = "{\"schema\":";

/// An object as others wrap it: Docker's `json-file` log, and `journalctl -o json`.
#[derive(Deserialize)]
struct Wrapped {
    #[serde(alias = "MESSAGE")]
    log: Option<String>,
}

/// The report in a line, whatever stands around it: the time and the name that a container engine,
/// `kubectl logs --timestamps` or the journal puts before it, or an object that it is a string of.
/// `None` of a line of a log.
pub(crate) fn report_in(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    if text.starts_with(BEGIN) {
        return Some(Cow::Borrowed(text));
    }
    if text.starts_with('{') {
        return match serde_json::from_str::<Wrapped>(text).ok()?.log {
            Some(log) => report_in(&log).map(|it| Cow::Owned(it.into_owned())),
            None if serde_json::from_str::<Head>(text).ok()?.schema.is_some() => {
                Some(Cow::Borrowed(text))
            }
            None => None,
        };
    }
    let begin = text.find(BEGIN)?;
    // A log that quotes a report is a log.
    let is_bare = !text[..begin].ends_with(['"', '\'', '`', '\\']);
    is_bare.then(|| Cow::Borrowed(&text[begin..]))
}

/// Whether `text` is a whole value of JSON.
pub(super) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// One object, as far as it is of interest.
pub(crate) enum Object {
    Ready(Box<Ready>),
    Interval(Box<Totals>),
    Summary(Box<Totals>),
    Step,
    FoundRate(FoundRate),
}

/// What was asked for, as the generator says before it starts; of the reflector's nothing is read.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(crate) struct Ready {
    target: Option<String>,
    offered_pps: Option<f64>,
    window: Option<u32>,
    sizes: Vec<u16>,
    weights: Vec<u32>,
    flows: Option<usize>,
    burst: Option<u32>,
    poisson: bool,
    gso: Option<bool>,
}

#[derive(Deserialize)]
pub(crate) struct FoundRate {
    pub(crate) start_unix_seconds: Option<f64>,
    pub(crate) end_unix_seconds: Option<f64>,
    pub(crate) rate_pps: Option<f64>,
    pub(crate) max_loss_percent: f64,
    pub(crate) limited_by: Option<String>,
}

impl Ready {
    /// The settings that a run has to share with another to be like it; none of a reflector's.
    pub(crate) fn settings(self) -> Option<Settings> {
        let target = self.target.filter(|it| it.len() <= TEXT_LEN_MAX)?;
        let sizes = self.sizes.iter().zip(&self.weights).take(SIZES_MAX);
        let size = |(size, weight): (&u16, &u32)| match self.sizes.len() {
            1 => size.to_string(),
            _ => format!("{size}:{weight}"),
        };
        let rate = self
            .offered_pps
            .map_or("max".to_owned(), |it| it.to_string());
        let text = |number: Option<u32>| number.map_or("none".to_owned(), |it| it.to_string());
        Some(Settings::new([
            ("target", target),
            ("rate", rate),
            ("size", Vec::from_iter(sizes.map(size)).join(",")),
            ("flows", self.flows.unwrap_or_default().to_string()),
            ("burst", text(self.burst)),
            ("window", text(self.window)),
            ("poisson", self.poisson.to_string()),
            ("gso", self.gso.unwrap_or(true).to_string()),
        ]))
    }
}

/// Counters of an interval or of a run, by the generator or by the reflector.
#[derive(Deserialize)]
pub(crate) struct Totals {
    pub(crate) seconds: f64,
    pub(crate) received: u64,
    #[serde(default)]
    pub(crate) sent: u64,
    #[serde(default)]
    pub(crate) replied: u64,
    #[serde(default)]
    pub(crate) lost: u64,
    #[serde(default)]
    pub(crate) kernel_drops: u64,
    /// As the sockets count, a train once; `None` where `kernel_drops` counts so.
    pub(crate) trains_dropped: Option<u64>,
    #[serde(default)]
    pub(crate) dropped: BTreeMap<String, u64>,
    #[serde(default)]
    pub(crate) send_errors: BTreeMap<String, u64>,
    wrong_source: Option<WrongSource>,
    pub(crate) rtt_us: Option<Quantiles>,
    pub(crate) residence_us: Option<Quantiles>,
    rtt_mean_us: Option<f64>,
    ipdv_us: Option<f64>,
    pub(crate) target: Option<String>,
    pub(crate) limited_by: Option<String>,
    #[serde(default)]
    pub(crate) interrupted: bool,
    pub(crate) start_unix_seconds: Option<f64>,
    pub(crate) end_unix_seconds: Option<f64>,
}

#[derive(Deserialize)]
struct WrongSource {
    total: u64,
}

impl Totals {
    pub(crate) fn kind(&self) -> Option<Kind> {
        let round_trip = self.rtt_us.map(|_| Kind::RoundTrip);
        round_trip.or(self.residence_us.map(|_| Kind::Residence))
    }

    pub(crate) fn variation(&self) -> Variation {
        Variation {
            mean_us: self.rtt_mean_us,
            ipdv_us: self.ipdv_us,
        }
    }

    pub(crate) fn counters(&self) -> Counters {
        let sum = |counters: &BTreeMap<String, u64>| {
            let all = counters.values().copied();
            all.fold(0, u64::saturating_add)
        };
        Counters {
            sent: self.sent,
            received: self.received,
            replied: self.replied,
            lost: self.lost,
            refused: sum(&self.send_errors),
            dropped: sum(&self.dropped),
            wrong_source: self.wrong_source.as_ref().map_or(0, |it| it.total),
            kernel_drops: self.kernel_drops,
        }
    }
}

/// Understands a line.
///
/// # Errors
/// In words: it is no JSON, or of another schema or type.
pub(crate) fn parse(text: &str) -> Result<Object, String> {
    // serde_json says where in the line; that the line is number 1 of what it was given says
    // nothing.
    let said = |e: serde_json::Error| {
        let column = e.column();
        let said = e.to_string();
        let said = said.split(" at line ").next().unwrap_or_default();
        match column {
            0 => said.to_owned(),
            _ => format!("{said} at column {column}"),
        }
    };
    let head: Head = serde_json::from_str(text).map_err(said)?;
    match head.schema {
        Some(schema) if SCHEMAS_READ.contains(&schema) => {}
        Some(schema) => {
            let (first, last) = (SCHEMAS_READ.start(), SCHEMAS_READ.end());
            return Err(format!(
                "it is of schema {schema}, and this reflector reads {first} to {last}"
            ));
        }
        None => return Err("it has no \"schema\": it is not a report of reflector".to_owned()),
    }
    match head.r#type.as_deref() {
        Some("ready") => serde_json::from_str(text).map(Object::Ready),
        Some("interval") => serde_json::from_str(text).map(Object::Interval),
        Some("summary") => serde_json::from_str(text).map(Object::Summary),
        Some("step") => Ok(Object::Step),
        Some("found_rate") => serde_json::from_str(text).map(Object::FoundRate),
        Some(other) => return Err(format!("unknown type \"{other}\"")),
        None => return Err("it has no \"type\"".to_owned()),
    }
    .map_err(said)
}
