//! The service manager, as systemd is one: sockets that it opens for us (sd_listen_fds(3)), and
//! what it wants to hear (sd_notify(3)).

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::os::fd::{AsFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use reflector::server::{Handle, Inherited, SocketLabel, SocketRole};
use reflector_measure::error::Error;
use reflector_udp::left;
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType, getsockname};

/// The first descriptor that a service manager leaves.
const FIRST: RawFd = 3;

/// The UDP sockets that the service manager has opened for this process, none where it has not.
///
/// # Errors
/// One of them is no UDP socket, or is not open.
pub fn sockets() -> Result<Vec<Inherited>, Error> {
    let number = |name: &str| env::var(name).ok()?.parse::<u32>().ok();
    // Those of a process that has started us are not ours.
    if number("LISTEN_PID") != Some(process::id()) {
        return Ok(Vec::new());
    }
    let count = number("LISTEN_FDS").unwrap_or(0);
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut numbers: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    let mut sockets = Vec::new();
    for fd in (FIRST..).take(count as usize) {
        let name = names.next().filter(|name| !name.is_empty());
        let name = name.unwrap_or("without a name");
        let what = format!("cannot take the descriptor {fd} ({name}) of the service manager");
        let cannot = |e: io::Error| Error::system(&what, &e);
        let fd = left::take(fd).map_err(cannot)?;
        let Some(listen) = udp_address(&fd).map_err(cannot)? else {
            return Err(Error::new(what, "it is no UDP socket")
                .try_this("ListenDatagram= names UDP sockets, with a port"));
        };
        let next = numbers.entry(listen).or_default();
        let role = SocketRole::Receiver { number: *next };
        *next += 1;
        let label = SocketLabel {
            listen,
            role,
            is_kept: true,
        };
        sockets.push(Inherited { label, fd });
    }
    Ok(sockets)
}

/// How many of `sockets` there are of each address.
pub fn per_address(sockets: &[Inherited]) -> BTreeMap<SocketAddr, usize> {
    let mut counts = BTreeMap::new();
    for Inherited { label, .. } in sockets {
        *counts.entry(label.listen).or_default() += 1;
    }
    counts
}

/// The workers that suit so many sockets of one address, as far as there are CPUs.
pub fn workers(sockets: usize) -> u16 {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    sockets.min(cpus).try_into().unwrap_or(u16::MAX)
}

/// The address of a UDP socket; `None` of anything else.
fn udp_address(fd: &impl AsFd) -> io::Result<Option<SocketAddr>> {
    let is_internet = [AddressFamily::INET, AddressFamily::INET6];
    if socket_type(fd).ok() != Some(SocketType::DGRAM)
        || !socket_domain(fd).is_ok_and(|it| is_internet.contains(&it))
    {
        return Ok(None);
    }
    Ok(getsockname(fd)?.try_into().ok())
}

/// Tells the service manager how it goes. Where there is none, or it cannot be told, nothing
/// depends on it.
#[derive(Clone)]
pub struct Manager(Option<Arc<UnixDatagram>>);

impl Manager {
    /// The one that has started this process, if any.
    pub fn find() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else {
            return Self(None);
        };
        match connected(&name) {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                tracing::warn!("cannot tell the service manager how it goes: {error}");
                Self(None)
            }
        }
    }

    /// Every worker receives; from now on the watchdog is told that they do, if there is one.
    pub fn is_ready(&self, server: &Handle) {
        self.tell("READY=1");
        let Some(every) = self.0.as_ref().and_then(|_| watchdog()) else {
            return;
        };
        let (manager, server) = (self.clone(), server.clone());
        let feed = move || {
            loop {
                // What every worker answers to is a sign of life of each.
                let snapshot = server.snapshot().recv_timeout(every);
                if snapshot.is_ok_and(|it| it.is_complete) {
                    manager.tell("WATCHDOG=1");
                }
                thread::sleep(every);
            }
        };
        let thread = thread::Builder::new().name("watchdog".to_owned());
        if let Err(error) = thread.spawn(feed) {
            tracing::warn!("cannot tell the watchdog that it goes on: {error}");
        }
    }

    /// The end begins.
    pub fn is_stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, what: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(what.as_bytes())) {
            tracing::debug!("cannot tell the service manager {what}: {error}");
        }
    }
}

/// A socket to `name`, which is a path, or begins with `@` where it is of the abstract namespace
/// (unix(7)). What is sent by it waits for nobody.
fn connected(name: &OsStr) -> io::Result<UnixDatagram> {
    let addr = match name.as_bytes() {
        [b'@', abstract_name @ ..] => UnixAddr::from_abstract_name(abstract_name)?,
        _ => UnixAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&addr)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// How often a watchdog has to be told, if there is one (sd_watchdog_enabled(3)): three times as
/// often as it is missed.
fn watchdog() -> Option<Duration> {
    let pid = env::var("WATCHDOG_PID").ok();
    if pid.is_some_and(|pid| pid != process::id().to_string()) {
        return None;
    }
    let us = env::var("WATCHDOG_USEC").ok()?.parse::<u64>().ok()?;
    Some(Duration::from_micros(us) / 3).filter(|every| !every.is_zero())
}
