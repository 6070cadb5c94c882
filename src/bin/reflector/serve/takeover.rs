//! Upgrades without a lost datagram: the next process takes the very sockets of this one over.
//!
//! The two meet at a Unix socket. The new one asks, gets descriptors of all sockets, and once it
//! receives from them it says so; only then the old one goes, without shutting them. The socket
//! that they meet at is handed over as well. If the new one dies before it has said that it
//! receives, its descriptors are gone with it, and the old one goes on as if nothing had happened.

mod wire;

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use reflector::server::{Handle, Inherited};
use reflector_measure::error::Error;
use reflector_udp::sockopt::peer_uid;
use rustix::fs::{Mode, fchmod};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    socket_with,
};
use rustix::process::geteuid;

use wire::{Connection, DESCRIPTORS_MAX, Message};

/// How long each side waits for what the other says at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the old one waits until the new one receives, which has ten seconds to start.
const ARMING_MAX: Duration = Duration::from_secs(30);
/// Connections that may wait to be accepted.
const WAITING_MAX: i32 = 8;

/// The old process, as seen from the new one.
pub struct Predecessor {
    connection: Connection,
    /// Where takeovers are asked for.
    listener: OwnedFd,
}

/// Asks for the sockets of the reflector that listens at `path`; `None` where there is none.
///
/// # Errors
/// There is something else at `path`, or another user's; the old one refuses, or says nothing.
pub fn ask(path: &Path) -> Result<Option<(Predecessor, Vec<Inherited>)>, Error> {
    let cannot = |e: io::Error| {
        let said = match e.kind() {
            io::ErrorKind::UnexpectedEof => "it has gone".to_owned(),
            io::ErrorKind::WouldBlock => "it says nothing".to_owned(),
            _ => e.to_string(),
        };
        Error::new(cannot_take_over(path), said)
    };
    let Some(socket) = connected(path).map_err(cannot)? else {
        return Ok(None);
    };
    let (own, other) = (geteuid().as_raw(), peer_uid(&socket).map_err(cannot)?);
    if own != 0 && other != own && other != 0 {
        return Err(Error::new(
            cannot_take_over(path),
            format!("it is of the user {other}, and this is {own}"),
        ));
    }
    let connection = Connection::new(socket, PATIENCE).map_err(cannot)?;
    let network = network();
    let asked = connection.send(&Message::Ask { network }, &[]);
    let (mut listener, mut inherited) = (None, Vec::new());
    loop {
        // What it said before it went comes first.
        let (message, fds) = connection.receive().map_err(cannot)?;
        let mut fds = fds.into_iter();
        match message {
            Message::Sockets { of, sockets } => {
                listener = listener.or_else(|| fds.next());
                let labelled = sockets.into_iter().zip(fds);
                inherited.extend(labelled.map(|(label, fd)| Inherited { label, fd }));
                if inherited.len() >= of {
                    break;
                }
            }
            Message::Refused { reason } => {
                return Err(Error::new(cannot_take_over(path), reason));
            }
            other => return Err(Error::new(cannot_take_over(path), unexpected(&other))),
        }
    }
    asked.map_err(cannot)?;
    let listener = listener.ok_or_else(|| Error::new(cannot_take_over(path), "it sent nothing"))?;
    tracing::info!("taking over {} sockets", inherited.len());
    let predecessor = Predecessor {
        connection,
        listener,
    };
    Ok(Some((predecessor, inherited)))
}

fn cannot_take_over(path: &Path) -> String {
    format!("cannot take over from the reflector at {}", path.display())
}

fn unexpected(message: &Message) -> String {
    format!("it says what does not belong here: {message:?}")
}

/// A connection to whoever listens at `path`; `None` where nobody does.
fn connected(path: &Path) -> io::Result<Option<OwnedFd>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::other("the file is no socket"));
        }
        Ok(_) => {}
    }
    let socket = new_socket()?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        // Left by one that was killed, or removed just now.
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(None),
        result => Ok(result.map(|()| Some(socket))?),
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    Ok(socket_with(AddressFamily::UNIX, kind, flags, None)?)
}

/// The network namespace of this thread, by its number, if /proc tells.
fn network() -> Option<String> {
    let target = fs::read_link("/proc/thread-self/ns/net").ok()?;
    Some(target.to_string_lossy().into_owned())
}

impl Predecessor {
    /// Says that this process receives, whereupon the old one goes.
    ///
    /// # Errors
    /// It stays, having waited for too long: this process has to go.
    pub fn relieve(&self) -> Result<(), Error> {
        // One that has gone may have said something before.
        let said = self.connection.send(&Message::Armed, &[]);
        let answer = said.and_then(|()| self.connection.receive());
        match answer.or_else(|_| self.connection.receive()) {
            Ok((Message::Refused { reason }, _)) => Err(Error::new("cannot take over", reason)),
            Ok((Message::Yours, _)) => Ok(()),
            Ok((other, _)) => Err(Error::new("cannot take over", unexpected(&other))),
            // It does not go without a word while it lives, so its peers are ours.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                tracing::warn!("the reflector that was to be relieved has ended before");
                Ok(())
            }
            Err(error) => Err(Error::system("cannot take over", &error)),
        }
    }

    /// Waits until the old process has ended.
    pub fn wait_for_end(&self) {
        let _ = self.connection.wait_for(None);
        let _ = self.connection.receive();
    }
}

/// Where the next process may ask for the sockets.
pub struct Meeting {
    path: PathBuf,
    listener: Arc<OwnedFd>,
    /// The file, by device and number.
    file: Option<(u64, u64)>,
    /// Whether another process listens there as well.
    is_shared: Arc<AtomicBool>,
}

impl Meeting {
    /// Listens at `path`, or where the old process did. A file that was left there is replaced.
    ///
    /// # Errors
    /// `EACCES`, `ENOENT` of the folder, `ENAMETOOLONG` beyond 107 bytes.
    pub fn open(path: &Path, predecessor: Option<&Predecessor>) -> Result<Self, Error> {
        let cannot = |e: io::Error| {
            let what = format!("cannot listen for a takeover at {}", path.display());
            Error::system(what, &e)
        };
        let listener = match predecessor {
            Some(old) => old.listener.try_clone().map_err(cannot)?,
            None => listening(path).map_err(cannot)?,
        };
        Ok(Self {
            path: path.to_owned(),
            listener: Arc::new(listener),
            file: number(path),
            is_shared: Arc::new(AtomicBool::new(predecessor.is_some())),
        })
    }

    /// Answers those who ask for the sockets of `server`, on a thread of its own, until one of them
    /// has taken over.
    ///
    /// # Errors
    /// `EAGAIN` where there may be no more threads.
    pub fn start(&self, server: Handle) -> Result<(), Error> {
        let (listener, is_shared) = (Arc::clone(&self.listener), Arc::clone(&self.is_shared));
        is_shared.store(false, Ordering::Relaxed);
        let answer = move || {
            loop {
                let accepted = accept_with(&*listener, SocketFlags::CLOEXEC);
                let answered = match accepted {
                    Ok(socket) => answer(socket, &listener, &server, &is_shared),
                    Err(Errno::INTR | Errno::CONNABORTED) => continue,
                    Err(error) => {
                        tracing::warn!("no takeover is possible any more: {error}");
                        return;
                    }
                };
                match answered {
                    Ok(connection) => {
                        server.leave_sockets();
                        // The other one learns of the end of this process by this.
                        std::mem::forget(connection);
                        return;
                    }
                    Err(error) => {
                        is_shared.store(false, Ordering::Relaxed);
                        server.take_back();
                        tracing::warn!("not taken over: {error}");
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("takeover".to_owned());
        let cannot = |e: io::Error| Error::system("cannot wait for a takeover", &e);
        thread.spawn(answer).map(drop).map_err(cannot)
    }
}

impl Drop for Meeting {
    /// Removes the file, unless it is another's.
    fn drop(&mut self) {
        let is_shared = self.is_shared.load(Ordering::Relaxed);
        if !is_shared && self.file.is_some() && number(&self.path) == self.file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A socket that listens at `path`, for nobody but this user.
fn listening(path: &Path) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    let addr = SocketAddrUnix::new(path)?;
    // The file gets the mode of the socket, so it never has another.
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    if connected(path)?.is_some() {
        return Err(Errno::ADDRINUSE.into());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    bind(&socket, &addr)?;
    listen(&socket, WAITING_MAX)?;
    Ok(socket)
}

fn number(path: &Path) -> Option<(u64, u64)> {
    let file = fs::symlink_metadata(path).ok()?;
    Some((file.dev(), file.ino()))
}

/// Hands the sockets of `server` to whoever is at the other end, if it may have them; returns when
/// it receives from them.
fn answer(
    socket: OwnedFd,
    listener: &OwnedFd,
    server: &Handle,
    is_shared: &AtomicBool,
) -> io::Result<Connection> {
    let (own, other) = (geteuid().as_raw(), peer_uid(&socket)?);
    if other != own && other != 0 {
        let said = format!("the user {other} asked, and this is {own}");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, said));
    }
    let connection = Connection::new(socket, PATIENCE)?;
    let relieved = hand_over(&connection, listener, server, is_shared);
    if let Err(error) = &relieved {
        let reason = error.to_string();
        // It may have gone.
        let _ = connection.send(&Message::Refused { reason }, &[]);
    }
    relieved.map(|()| connection)
}

fn hand_over(
    connection: &Connection,
    listener: &OwnedFd,
    server: &Handle,
    is_shared: &AtomicBool,
) -> io::Result<()> {
    let refuse = |said: &str| Err(io::Error::other(said));
    match connection.receive()? {
        (Message::Ask { network: other }, _) => {
            let own = network();
            if own.is_some() && other.is_some() && own != other {
                return refuse("the other one is in another network namespace");
            }
        }
        (other, _) => return refuse(&unexpected(&other)),
    }
    let handed_out = server.hand_out().recv_timeout(PATIENCE);
    let Ok(inherited) = handed_out else {
        return refuse("this one is ending");
    };
    let inherited = inherited?;
    is_shared.store(true, Ordering::Relaxed);
    let of = inherited.len();
    let mut first = Some(listener.as_fd());
    // One place is for what is listened on.
    for some in inherited.chunks(DESCRIPTORS_MAX - 1) {
        let sockets = some.iter().map(|it| it.label).collect();
        let fds = some.iter().map(|it| it.fd.as_fd());
        let fds = Vec::from_iter(first.take().into_iter().chain(fds));
        connection.send(&Message::Sockets { of, sockets }, &fds)?;
    }
    // So that nothing but the other one keeps them open when this process has gone.
    drop(inherited);
    connection.wait_for(Some(ARMING_MAX))?;
    match connection.receive() {
        Ok((Message::Armed, _)) => connection.send(&Message::Yours, &[]),
        Ok((other, _)) => refuse(&unexpected(&other)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            refuse("the new one has ended before it was ready")
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            refuse("the new one was not ready in time")
        }
        Err(error) => Err(error),
    }
}
