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
    /// Nobody: requests are dropped as they come in.
    Dropped,
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
            "dropped" => ("requests dropped at ingress", Kind::Dropped),
            "dropped again" => ("requests dropped at ingress again", Kind::Dropped),
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
        match self.kind {
            Kind::Plain(name) => name == YARDSTICK || is_control(name),
            Kind::Dropped => true,
            _ => false,
        }
    }

    /// Whether it answers in the kernel.
    pub fn is_accelerated(&self) -> bool {
        match &self.kind {
            Kind::Reflector(options, _) => options.iter().any(|it| it == "--accelerate"),
            _ => false,
        }
    }

    /// The port at which it answers with metrics; while it is measured, it is asked for them.
    pub fn metrics(&self) -> Option<u16> {
        let Kind::Reflector(options, _) = &self.kind else {
            return None;
        };
        let mut after = options.iter().skip_while(|it| *it != "--metrics");
        let addr = after.nth(1)?;
        addr.rsplit(':').next()?.parse().ok()
    }

    /// Whether it may use all CPUs instead of the server's.
    pub fn is_wide(&self) -> bool {
        match &self.kind {
            Kind::Reflector(options, _) => options.iter().any(|it| it == "--cores"),
            _ => false,
        }
    }

    /// What it needs and this machine has not: a word for it, and the reason.
    pub fn missing(&self) -> Option<(&'static str, String)> {
        if self.is_accelerated() {
            return reflector_accelerate::probe()
                .err()
                .map(|error| ("bpf", error.to_string()));
        }
        let program = match self.kind {
            Kind::Socat => "socat",
            Kind::Sockperf => "sockperf",
            // nft drops.
            Kind::Dropped => "nft",
            Kind::Plain(_) | Kind::Reflector(..) => return None,
        };
        let path = env::var_os("PATH").unwrap_or_default();
        let is_there = env::split_paths(&path)
            .chain(["/usr/sbin".into()])
            .any(|folder| folder.join(program).is_file());
        (!is_there).then(|| (program, format!("{program} is not installed")))
    }
}

fn is_control(name: &str) -> bool {
    WORKING.iter().any(|it| it.0 == name)
}
