//! Lines of the log that repeat: of each kind ten are written in ten seconds, and then how many
//! there were besides.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use reflector_measure::clock;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines of a kind that are written in one [`SPAN`].
const LINES_MAX: u32 = 10;
/// From the first line of a kind on.
const SPAN: Duration = Duration::from_secs(10);
/// What the lines about those that were left out have for a target, since they are never left out.
const TARGET: &str = "repeated";

/// What has been written; a kind is a place in the program.
static LINES: Mutex<Option<Lines<Identifier>>> = Mutex::new(None);

/// Leaves out lines of the log that repeat, and says how many.
pub struct Limit;

impl<S: Subscriber> Layer<S> for Limit {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Who asks for details gets all of them.
        if *metadata.level() > Level::INFO || metadata.target() == TARGET {
            return true;
        }
        let say = || Said {
            level: *metadata.level(),
            text: message(event),
        };
        let (is_written, over) = with_lines(|lines| {
            let now = clock::monotonic();
            let over = lines.over(now);
            (lines.admit(metadata.callsite(), now, say), over)
        });
        over.iter().for_each(LeftOut::say);
        is_written
    }
}

/// Says what has been left out until now, of each kind whose time is over, or at the end of all.
pub fn tell(is_end: bool) {
    let over = with_lines(|lines| match is_end {
        true => mem::take(lines).into_left_out(),
        false => lines.over(clock::monotonic()),
    });
    over.iter().for_each(LeftOut::say);
}

fn with_lines<T>(act: impl FnOnce(&mut Lines<Identifier>) -> T) -> T {
    let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    act(lines.get_or_insert_default())
}

/// The lines of each kind whose time is not over.
struct Lines<K>(HashMap<K, Kind>);

struct Kind {
    since: Instant,
    written: u32,
    left_out: u64,
    /// The newest of those that were left out.
    last: Option<Said>,
}

/// What a line says.
#[derive(Debug, PartialEq)]
struct Said {
    level: Level,
    text: String,
}

/// Lines of one kind that were not written.
#[derive(Debug, PartialEq)]
struct LeftOut {
    count: u64,
    last: Said,
}

impl<K> Default for Lines<K> {
    fn default() -> Self {
        Self(HashMap::default())
    }
}

impl<K: Eq + Hash> Lines<K> {
    /// Whether a line of `kind` is written `now`.
    fn admit(&mut self, kind: K, now: Instant, say: impl FnOnce() -> Said) -> bool {
        let kind = self.0.entry(kind).or_insert(Kind {
            since: now,
            written: 0,
            left_out: 0,
            last: None,
        });
        let is_written = kind.written < LINES_MAX;
        if is_written {
            kind.written += 1;
        } else {
            kind.left_out += 1;
            kind.last = Some(say());
        }
        is_written
    }

    /// What was left out of the kinds whose time is over `now`, which begin anew.
    fn over(&mut self, now: Instant) -> Vec<LeftOut> {
        let is_over = |kind: &Kind| now.saturating_duration_since(kind.since) >= SPAN;
        let over = self.0.extract_if(|_, kind| is_over(kind));
        over.filter_map(|(_, kind)| kind.into_left_out()).collect()
    }

    fn into_left_out(self) -> Vec<LeftOut> {
        let kinds = self.0.into_values();
        kinds.filter_map(Kind::into_left_out).collect()
    }
}

impl Kind {
    fn into_left_out(self) -> Option<LeftOut> {
        let last = self.last?;
        Some(LeftOut {
            count: self.left_out,
            last,
        })
    }
}

impl LeftOut {
    fn say(&self) {
        let text = self.to_string();
        match self.last.level {
            Level::ERROR => tracing::error!(target: TARGET, "{text}"),
            Level::WARN => tracing::warn!(target: TARGET, "{text}"),
            _ => tracing::info!(target: TARGET, "{text}"),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, text) = (self.count, &self.last.text);
        write!(
            f,
            "… and {count} more of these in {SPAN:?}, the last of which: {text}"
        )
    }
}

/// The message of an event.
fn message(event: &Event<'_>) -> String {
    struct Message(String);

    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            if field.name() == "message" {
                // A string takes what is written.
                let _ = write!(self.0, "{value:?}");
            }
        }
    }

    let mut message = Message(String::new());
    event.record(&mut message);
    message.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the test says at a time, of a kind: whether it is written.
    fn say(lines: &mut Lines<&'static str>, kind: &'static str, now: Instant, text: u32) -> bool {
        lines.admit(kind, now, || Said {
            level: Level::WARN,
            text: text.to_string(),
        })
    }

    #[test]
    fn what_repeats_is_written_ten_times_and_then_counted() {
        let (start, mut lines) = (clock::monotonic(), Lines::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let written = (0..1000).filter(|&text| say(&mut lines, "a", at(1), text));
        assert_eq!(written.collect::<Vec<_>>(), Vec::from_iter(0..LINES_MAX));
        assert!(say(&mut lines, "b", at(1), 0), "each kind by itself");
        assert_eq!(lines.over(at(10)), [], "its time is not over");
        let over = lines.over(at(11));
        assert_eq!(
            over.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["… and 990 more of these in 10s, the last of which: 999"]
        );
        assert_eq!(lines.over(at(12)), [], "that is said once");
        assert!(say(&mut lines, "a", at(12), 0), "it begins anew");
    }

    #[test]
    fn at_the_end_all_is_told_and_nothing_of_what_was_written() {
        let (start, mut lines) = (clock::monotonic(), Lines::default());
        (0..12).for_each(|text| _ = say(&mut lines, "a", start, text));
        (0..10).for_each(|text| _ = say(&mut lines, "b", start, text));
        let left_out: Vec<_> = lines.into_left_out().iter().map(|it| it.count).collect();
        assert_eq!(left_out, [2]);
    }
}
