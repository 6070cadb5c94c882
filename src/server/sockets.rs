//! Every socket of every worker, opened before any worker starts.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use socket2::SockRef;

use super::inherited::{Inherited, SocketLabel, SocketRole};
use crate::config::{Config, Listener};
use crate::engine::{Detours, RouteMtus, Routes};
use crate::socket::SocketPair;
use crate::stats::report::Ready;
use crate::worker::control::{Command, Control};
use reflector_measure::error::Error;

/// The sockets of a server.
#[derive(Debug)]
pub struct Sockets {
    /// What is listened on, with the ports that the kernel chose, in the order of the sockets.
    pub listeners: Vec<Listener>,
    /// By worker, in the order of opening: that is their order in each reuseport group.
    pub by_worker: Vec<Arc<[SocketPair]>>,
    /// Where all of them send what those have no room for.
    pub detours: Arc<Detours>,
    /// The interface that the detours are bound to as well, if to one.
    pub device: Option<String>,
    /// Whether nothing is fragmented, whatever a route says.
    pub is_df: bool,
    /// Whether somebody else keeps them, so that they must not be shut.
    pub is_kept: bool,
}

impl Sockets {
    /// What there is to say when all workers receive, in `mode`.
    pub fn ready(&self, config: &Config, mode: String) -> Ready {
        let socket = &self.by_worker[0][0].receiver;
        let blocker = config.engine_blocker.as_ref();
        Ready {
            listen: self.listeners.iter().map(|it| it.addr).collect(),
            workers: self.by_worker.len(),
            engine: config.engine.kind.name(),
            engine_reason: blocker.map(|blocker| blocker.what.clone()),
            mode,
            receive_buffer_bytes: socket.receive_buffer_len(),
            send_buffer_bytes: socket.send_buffer_len(),
        }
    }

    /// The interfaces that they are bound to, each once.
    pub fn interfaces(&self) -> Vec<String> {
        let names: BTreeSet<_> = (self.pairs())
            .filter_map(|it| it.receiver.interface())
            .collect();
        names.into_iter().map(str::to_owned).collect()
    }

    /// Bytes that unread datagrams take in the sockets of `workers`, as the kernel counts them.
    pub fn queued_bytes(&self, workers: &[usize]) -> u64 {
        let pairs = workers.iter().flat_map(|&it| self.by_worker[it].iter());
        pairs.map(|it| u64::from(it.receiver.queued_bytes())).sum()
    }

    /// Binds those anew that are bound to `interface`.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW. An interface that has gone again (`ENODEV`) is waited for.
    pub fn rebind(&self, interface: &str) -> Result<(), Error> {
        for pair in self.pairs() {
            if pair.receiver.interface() != Some(interface) {
                continue;
            }
            match pair.receiver.rebind() {
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
                Err(error) => {
                    let what = format!("cannot bind to the interface {interface} again");
                    return Err(Error::system(what, &error).try_this(
                        "start anew: it was deleted and made again, and without CAP_NET_RAW a \
                         socket is bound to one interface for good",
                    ));
                }
                Ok(()) => {}
            }
        }
        // A scope binds the socket of its address, and no detour.
        let is_device = self.device.as_deref() == Some(interface);
        for socket in self.detours.sockets().filter(|_| is_device) {
            if let Err(error) = SockRef::from(&socket).bind_device(Some(interface.as_bytes())) {
                tracing::debug!("no way round for replies by {interface}: {error}");
            }
        }
        tracing::info!("bound to the interface {interface} again");
        Ok(())
    }

    /// A descriptor of every socket, for another server.
    ///
    /// # Errors
    /// `EMFILE`.
    pub fn hand_out(&self) -> io::Result<Vec<Inherited>> {
        let (workers, count) = (self.by_worker.len(), self.listeners.len());
        let mut all = Vec::new();
        let mut add = |listener: usize, role, socket: BorrowedFd<'_>| {
            let listen = self.listeners[listener].addr;
            let label = SocketLabel {
                listen,
                role,
                is_kept: self.is_kept,
            };
            let fd = socket.try_clone_to_owned()?;
            all.push(Inherited { label, fd });
            io::Result::Ok(())
        };
        for (worker, pairs) in self.by_worker.iter().enumerate() {
            for (index, pair) in pairs.iter().enumerate() {
                let (listener, number) = (index % count, worker + index / count * workers);
                add(
                    listener,
                    SocketRole::Receiver { number },
                    pair.receiver.as_fd(),
                )?;
                if let Some(sender) = &pair.sender {
                    add(listener, SocketRole::Sender { number }, sender.as_fd())?;
                }
            }
        }
        for (listener, families) in self.detours.listeners().iter().enumerate() {
            for (to_ipv6, lanes) in [false, true].into_iter().zip(families) {
                for (lane, socket) in (0..).zip(lanes) {
                    let role = SocketRole::Detour { to_ipv6, lane };
                    add(listener, role, socket.as_fd())?;
                }
            }
        }
        Ok(all)
    }

    /// Tells the workers the MTUs of routes, each with sockets of its own for that.
    pub fn set_mtus(&self, mtus: &RouteMtus, controls: &[Arc<Control>]) {
        if self.is_df {
            return;
        }
        for (control, pairs) in controls.iter().zip(&self.by_worker) {
            control.set_routes(routes(mtus, pairs));
        }
    }

    /// How workers end that have them, while no other server has: what others keep is not shut.
    pub fn end(&self) -> Command {
        match self.is_kept {
            true => Command::LeaveQueue,
            false => Command::Drain,
        }
    }

    /// Refuses what is new from now on; what is queued stays.
    pub fn reject_new(&self) {
        for pair in self.pairs() {
            if let Err(error) = pair.receiver.reject_new() {
                tracing::warn!("cannot refuse new datagrams, so the drain may be long: {error}");
            }
        }
    }

    /// Has the kernel tell the hop limit of each datagram.
    pub fn tell_hop_limits(&self) {
        for pair in self.pairs() {
            if let Err(error) = pair.receiver.tell_hop_limits() {
                tracing::warn!("cannot learn hop limits, so the loop guard is off: {error}");
            }
        }
    }

    fn pairs(&self) -> impl Iterator<Item = &SocketPair> {
        self.by_worker.iter().flat_map(|pairs| pairs.iter())
    }
}

/// What the worker with the sockets `pairs` needs to respect `mtus`.
fn routes(mtus: &RouteMtus, pairs: &[SocketPair]) -> Routes {
    if mtus.is_empty() {
        return Routes::default();
    }
    let fragmenter = |pair: &SocketPair| {
        let opened = pair.receiver.open_fragmenter();
        opened.map(|it| it.map(Arc::new)).unwrap_or_else(|error| {
            let addr = pair.receiver.endpoint().addr;
            tracing::warn!("replies of {addr} do not respect the MTU of a route: {error}");
            None
        })
    };
    Routes {
        mtus: mtus.clone(),
        fragmenters: pairs.iter().map(fragmenter).collect(),
    }
}
