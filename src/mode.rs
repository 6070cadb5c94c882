//! The responders that come with the reflector, by name.

use crate::datagram::{Attributes, Verdict};
use crate::responder::echo::Echo;
use crate::responder::{Needs, Request, Responder};

/// What a listener does with datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// The datagram goes back as it came.
    #[default]
    Echo,
}

impl Mode {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Echo];

    /// Its name, on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
        }
    }

    /// A responder that does it.
    pub fn responder(self) -> BuiltIn {
        match self {
            Self::Echo => BuiltIn::Echo(Echo),
        }
    }
}

/// The responder of a [`Mode`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuiltIn {
    /// Of [`Mode::Echo`].
    Echo(Echo),
}

impl Responder for BuiltIn {
    fn name(&self) -> &'static str {
        match self {
            Self::Echo(echo) => echo.name(),
        }
    }

    fn needs(&self) -> Needs {
        match self {
            Self::Echo(echo) => echo.needs(),
        }
    }

    fn is_echo(&self) -> bool {
        match self {
            Self::Echo(echo) => echo.is_echo(),
        }
    }

    fn attributes(&mut self, request: &Request) -> Attributes {
        match self {
            Self::Echo(echo) => echo.attributes(request),
        }
    }

    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict {
        match self {
            Self::Echo(echo) => echo.respond(request, payload),
        }
    }
}
