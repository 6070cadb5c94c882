//! What was attempted, in front of what the system said.

use std::fmt::Display;
use std::io;

/// A mapping for `map_err` that puts "`attempt`: " before the system's message.
///
/// The [kind](io::Error::kind) stays; the raw errno does not, for `io::Error` holds either an
/// errno or a message.
pub fn attempting(attempt: impl Display) -> impl FnOnce(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("{attempt}: {error}"))
}
