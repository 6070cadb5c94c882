//! The responders that come with the reflector, by name.

use crate::datagram::{Attributes, Verdict};
use crate::responder::echo::Echo;
use crate::responder::echo_info::EchoInfo;
use crate::responder::{Needs, Request, Responder};

/// What a listener does with datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// The datagram goes back as it came.
    #[default]
    Echo,
    /// The same, and a peer that asks is told how it is seen.
    EchoInfo,
}

impl Mode {
    /// All of them.
    pub const ALL: &[Self] = &[Self::Echo, Self::EchoInfo];

    /// Its name, on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::EchoInfo => "echo-info",
        }
    }

    /// A responder that does it.
    pub fn responder(self) -> BuiltIn {
        match self {
            Self::Echo => BuiltIn::Echo(Echo),
            Self::EchoInfo => BuiltIn::EchoInfo(EchoInfo::default()),
        }
    }
}

/// The responder of a [`Mode`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum BuiltIn {
    /// Of [`Mode::Echo`].
    Echo(Echo),
    /// Of [`Mode::EchoInfo`].
    EchoInfo(EchoInfo),
}

impl Responder for BuiltIn {
    fn name(&self) -> &'static str {
        match self {
            Self::Echo(echo) => echo.name(),
            Self::EchoInfo(echo) => echo.name(),
        }
    }

    fn needs(&self) -> Needs {
        match self {
            Self::Echo(echo) => echo.needs(),
            Self::EchoInfo(echo) => echo.needs(),
        }
    }

    fn is_echo(&self) -> bool {
        match self {
            Self::Echo(echo) => echo.is_echo(),
            Self::EchoInfo(echo) => echo.is_echo(),
        }
    }

    fn attributes(&mut self, request: &Request) -> Attributes {
        match self {
            Self::Echo(echo) => echo.attributes(request),
            Self::EchoInfo(echo) => echo.attributes(request),
        }
    }

    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict {
        match self {
            Self::Echo(echo) => echo.respond(request, payload),
            Self::EchoInfo(echo) => echo.respond(request, payload),
        }
    }
}
