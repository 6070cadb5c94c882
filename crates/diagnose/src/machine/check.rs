//! What a check found.

use serde::Serialize;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was checked, in a word or two.
    pub(crate) name: &'static str,
    /// Whether it hinders nothing.
    pub(crate) is_ok: bool,
    /// What was found.
    pub(crate) found: String,
    /// What to do about it, where it hinders.
    pub(crate) remedy: Option<String>,
    /// That as a command, where it is a long one.
    pub(crate) command: Option<String>,
}

impl Check {
    /// It hinders nothing.
    pub(crate) fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            is_ok: true,
            found: found.into(),
            remedy: None,
            command: None,
        }
    }

    /// It hinders.
    pub(crate) fn warn(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            name,
            is_ok: false,
            found: found.into(),
            remedy: Some(remedy.into()),
            command: None,
        }
    }

    /// The same with the remedy as a command.
    pub(crate) fn by(mut self, command: String) -> Self {
        self.command = Some(command);
        self
    }
}
