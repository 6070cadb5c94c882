//! Failures of set-up: what was attempted, what the system said, what to try.
//!
//! A datagram never makes an error; it is dropped for a reason
//! or refused by the kernel with an error number,
//! and both are counted.

use std::fmt;
use std::io;

/// Something that could not be set up, in one sentence and a hint.
#[derive(Debug)]
pub struct Error {
    attempted: String,
    said: String,
    remedy: Option<String>,
    is_usage: bool,
}

impl Error {
    /// The system refused what was `attempted` ("cannot bind 0.0.0.0:53").
    pub fn system(attempted: impl Into<String>, said: &io::Error) -> Self {
        let error = Self::new(attempted, said.to_string());
        match said.raw_os_error() {
            // Whatever it was that needed one more.
            Some(libc::EMFILE) => error.try_this("`ulimit -n` raises the limit, LimitNOFILE= too"),
            // Of a thread (pthread_create(3)).
            Some(libc::EAGAIN) => error.try_this(
                "`ulimit -u` raises the limit on threads, TasksMax= and pids.max of the cgroup too",
            ),
            _ => error,
        }
    }

    /// What was `attempted` failed for a reason of our own finding.
    pub fn new(attempted: impl Into<String>, said: impl Into<String>) -> Self {
        let (attempted, said) = (attempted.into(), said.into());
        Self {
            attempted,
            said,
            remedy: None,
            is_usage: false,
        }
    }

    /// The settings contradict each other or themselves.
    pub fn usage(attempted: impl Into<String>, said: impl Into<String>) -> Self {
        Self {
            is_usage: true,
            ..Self::new(attempted, said)
        }
    }

    /// Adds what to try.
    #[must_use]
    pub fn try_this(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Whether it is the caller's settings that are wrong, not the system.
    pub fn is_usage(&self) -> bool {
        self.is_usage
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.attempted, self.said)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
