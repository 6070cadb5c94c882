//! Commands that open their sockets in another network namespace.
//!
//! A network namespace belongs to a thread. So a thread of its own enters it, and runs the command:
//! every socket that it and the threads that it starts ever open is there, also those that are
//! opened anew later. The process, by which ps(1) and ip-netns(8) know it, stays where it is, with
//! its files and names.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::thread;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use reflector_measure::error::Error;
use reflector_measure::file::open_regular;
use reflector_udp::netns;
use rustix::thread::{CapabilitySet, capabilities};

/// Where ip-netns(8) keeps those that have a name.
const NAMED: &str = "/run/netns";

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct Netns {
    /// Open all sockets in this network namespace: a name of 'ip netns', or a path
    ///
    /// NAME is /run/netns/NAME, and what has a slash is a path, such as /proc/1234/ns/net of a
    /// process. The process itself stays where it is. Needs CAP_SYS_ADMIN.
    #[arg(long, value_name = "PATH|NAME", value_parser = place())]
    netns: Option<PathBuf>,
}

fn place() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|text: OsString| match text.as_bytes() {
        b"" | b"." | b".." => Err("expected the name or the path of a network namespace"),
        bytes if bytes.contains(&b'/') => Ok(PathBuf::from(text)),
        _ => Ok(Path::new(NAMED).join(text)),
    })
}

impl Netns {
    /// Runs `command` in the namespace, if one is asked for.
    ///
    /// # Errors
    /// There is no such namespace, or it may not be entered; what `command` returns.
    pub fn within<T: Send>(
        &self,
        command: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        self.within_beside(|| (), command)
    }

    /// As [`within`](Self::within); the thread that waits for the end of `command` does `aside`
    /// meanwhile.
    ///
    /// # Errors
    /// As [`within`](Self::within).
    pub fn within_beside<T: Send>(
        &self,
        aside: impl FnOnce(),
        command: impl FnOnce() -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let Some(path) = &self.netns else {
            return command();
        };
        let namespace = open_regular(path)
            .map_err(|e| cannot_open(path, &e))?
            .into();
        let enter = || netns::set_net(&namespace).map_err(|e| cannot_enter(path, &e));
        thread::scope(|scope| {
            let thread = thread::Builder::new().name("in-netns".to_owned());
            let thread = thread.spawn_scoped(scope, || enter().and_then(|()| command()));
            let thread = thread.map_err(|e| Error::system(attempted(path), &e))?;
            aside();
            thread
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }
}

fn attempted(path: &Path) -> String {
    format!(
        "cannot open sockets in the network namespace {}",
        path.display()
    )
}

fn cannot_open(path: &Path, said: &io::Error) -> Error {
    let error = Error::system(attempted(path), said);
    let is_named = path.parent().map(Path::as_os_str) == Some(OsStr::new(NAMED));
    match said.kind() {
        io::ErrorKind::NotFound if is_named => {
            error.try_this("`ip netns list` names those that there are, `ip netns add` makes one")
        }
        io::ErrorKind::NotFound => error.try_this("a process that has ended has none any more"),
        io::ErrorKind::PermissionDenied if path.starts_with("/proc") => error.try_this(
            "that of another user's process takes CAP_SYS_PTRACE: run as root or as that user",
        ),
        _ => error,
    }
}

fn cannot_enter(path: &Path, said: &io::Error) -> Error {
    let error = Error::new(attempted(path), said.to_string());
    let own = capabilities(None).map(|sets| sets.effective);
    match said.kind() {
        io::ErrorKind::PermissionDenied
            if own.is_ok_and(|own| own.contains(CapabilitySet::SYS_ADMIN)) =>
        {
            error.try_this("it is of another user namespace, in which this process has no rights")
        }
        io::ErrorKind::PermissionDenied => error.try_this(
            "CAP_SYS_ADMIN is missing: run as root, or in a container with --cap-add SYS_ADMIN",
        ),
        io::ErrorKind::InvalidInput => error.try_this("the file is no network namespace"),
        _ => error,
    }
}
