//! Who is measured.

use std::env;
use std::path::{Path, PathBuf};

use super::plain::WORKING;

/// The plain loop that ratios refer to.
pub const YARDSTICK: &str = "recvmmsg/sendmmsg";

/// How a contender is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A plain server of this program.
    Plain(&'static str),
    /// The reflector, with these options; of this build, or another one.
    Reflector(Vec<String>, Option<PathBuf>),
    /// `socat`: a process for each peer, copying datagrams.
    Socat,
    /// `sockperf`'s server, which only its own client understands.
    Sockperf,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Contender {
    /// What the table calls it.
    pub name: String,
    /// How it is started.
    pub kind: Kind,
}

impl Contender {
    /// A server that is not the reflector.
    pub fn other(name: &'static str) -> Self {
        let (name, kind) = match name {
            "socat" => ("socat, a process per peer", Kind::Socat),
            "sockperf" => ("sockperf, by its own client", Kind::Sockperf),
            "less work" => (WORKING[0].0, Kind::Plain(WORKING[0].0)),
            "more work" => (WORKING[1].0, Kind::Plain(WORKING[1].0)),
            "again" => ("recvmmsg/sendmmsg again", Kind::Plain(YARDSTICK)),
            name => (name, Kind::Plain(name)),
        };
        Self {
            name: name.to_owned(),
            kind,
        }
    }

    /// The reflector with `options`.
    pub fn reflector(options: &str) -> Self {
        Self {
            name: format!("reflector {options}"),
            kind: Kind::Reflector(
                options.split_whitespace().map(str::to_owned).collect(),
                None,
            ),
        }
    }

    /// The same by another build, if it is a reflector.
    pub fn of_build(&self, build: &Path) -> Option<Self> {
        match &self.kind {
            Kind::Reflector(options, _) => Some(Self {
                name: format!("base: {}", self.name),
                kind: Kind::Reflector(options.clone(), Some(build.to_owned())),
            }),
            _ => None,
        }
    }

    /// Whether it is what the others are compared with, that once more, or one of the control's.
    pub fn is_yardstick(&self) -> bool {
        matches!(self.kind, Kind::Plain(name) if name == YARDSTICK || is_control(name))
    }

    /// Whether it may use all CPUs instead of the server's.
    pub fn is_wide(&self) -> bool {
        match &self.kind {
            Kind::Reflector(options, _) => options.iter().any(|it| it == "--cores"),
            _ => false,
        }
    }

    /// The program that it needs and this machine has not.
    pub fn missing(&self) -> Option<&'static str> {
        let program = match self.kind {
            Kind::Socat => "socat",
            Kind::Sockperf => "sockperf",
            Kind::Plain(_) | Kind::Reflector(..) => return None,
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let is_there = env::split_paths(&path).any(|folder| folder.join(program).is_file());
        (!is_there).then_some(program)
    }
}

fn is_control(name: &str) -> bool {
    WORKING.iter().any(|it| it.0 == name)
}
