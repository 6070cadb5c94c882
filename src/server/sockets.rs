//! Every socket of every worker, opened before any worker starts.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use socket2::SockRef;

use crate::config::{Config, Listener};
use crate::engine::{Detours, Kind, LANES, RouteMtus, Routes};
use crate::responder::Needs;
use crate::socket::{self, Settings, Socket, SocketPair};
use crate::stats::report::Ready;
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
    device: Option<String>,
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
        let receivers = self.by_worker.iter().flat_map(|pairs| pairs.iter());
        let names: BTreeSet<_> = receivers.filter_map(|it| it.receiver.interface()).collect();
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
        for pair in self.by_worker.iter().flat_map(|pairs| pairs.iter()) {
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
}

/// Opens the sockets of all workers, in worker order. `needs` tells what the responder of each
/// listener needs of the kernel; there is one entry for each.
///
/// # Errors
/// The first socket that could not be opened, bound or steered. Nothing stays open then.
pub fn open(config: &Config, needs: &[Needs]) -> Result<Sockets, Error> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut settings = Vec::new();
    let mut first = Vec::new();
    for (wanted, needs) in config.listen.iter().zip(needs) {
        if wanted.is_optional && !socket::has_ipv6() {
            tracing::warn!("this host has no IPv6: serving IPv4 only");
            continue;
        }
        let own = with_needs(&config.socket, needs);
        let socket = Socket::open(wanted.addr, true, &own)?;
        // The others bind the port that the kernel chose for the first.
        listeners.push(Listener {
            addr: socket.endpoint().addr,
            ..*wanted
        });
        settings.push(own);
        first.push(socket);
    }
    let mut receivers = vec![first];
    for _ in 1..config.workers.len() {
        let open = |(listener, own): (&Listener, _)| Socket::open(listener.addr, false, own);
        let sockets = listeners.iter().zip(&settings).map(open);
        receivers.push(sockets.collect::<Result<_, _>>()?);
    }
    if config.steer_cpu {
        steer(config, &receivers)?;
    }
    let pairs = |receivers: Vec<Socket>| -> Arc<[SocketPair]> {
        let pair = |receiver: Socket| SocketPair {
            sender: sender(&receiver, config.engine.kind),
            receiver,
        };
        receivers.into_iter().map(pair).collect()
    };
    let detours = detours(config, &receivers[0]);
    Ok(Sockets {
        listeners,
        by_worker: receivers.into_iter().map(pairs).collect(),
        detours: Arc::new(detours),
        device: config.socket.device.clone(),
    })
}

/// Sockets for what `receivers` have no room for. Where they cannot be opened, such replies are
/// lost.
fn detours(config: &Config, receivers: &[Socket]) -> Detours {
    let open = |receiver: &Socket, is_wanted: bool, to_ipv6: bool| {
        let lanes = if is_wanted { LANES } else { 0 };
        let opened: io::Result<Vec<_>> = (0..lanes)
            .map(|lane| receiver.open_detour(to_ipv6, lane))
            .collect();
        opened.unwrap_or_else(|error| {
            let addr = receiver.endpoint().addr;
            tracing::debug!("no way round for replies of {addr}: {error}");
            Vec::new()
        })
    };
    let of_listener = |receiver: &Socket| {
        let [v4, v6] = receiver.families();
        [open(receiver, v4, false), open(receiver, v6, true)]
    };
    let paths = config.paths.and_then(|open| match open() {
        Ok(paths) => Some(paths),
        Err(error) => {
            tracing::debug!("cannot ask the kernel for the way to a peer: {error}");
            None
        }
    });
    Detours::new(receivers.iter().map(of_listener).collect(), paths)
}

/// What the worker with the sockets `pairs` needs to respect `mtus`.
pub fn routes(mtus: &RouteMtus, pairs: &[SocketPair]) -> Routes {
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

fn with_needs(settings: &Settings, needs: &Needs) -> Settings {
    Settings {
        timestamps: settings.timestamps || needs.receive_stamps,
        hop_limits: settings.hop_limits || needs.hop_limit,
        tos: settings.tos || needs.tos,
        ..settings.clone()
    }
}

/// A socket of their own for the replies of `receiver`, where that saves anything: with recvmmsg(2)
/// nobody waits at the socket itself. Where it cannot be opened, replies leave by the socket
/// itself, only a little later.
fn sender(receiver: &Socket, kind: Kind) -> Option<Socket> {
    if kind != Kind::Uring {
        return None;
    }
    receiver.open_sender().unwrap_or_else(|error: io::Error| {
        tracing::debug!("no socket of their own for replies: {error}");
        None
    })
}

fn steer(config: &Config, receivers: &[Vec<Socket>]) -> Result<(), Error> {
    for (worker, sockets) in receivers.iter().enumerate() {
        let Some(core) = config.workers[worker] else {
            return Err(
                Error::usage("cannot steer by CPU", "the workers are not pinned to any")
                    .try_this("--cpus pins them"),
            );
        };
        for socket in sockets {
            socket.steer_to(core.id).map_err(|e| {
                Error::system(
                    format!("cannot steer worker {worker} (SO_INCOMING_CPU)"),
                    &e,
                )
            })?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EngineChoice;

    #[test]
    fn detours_go_with_their_device_and_with_no_scope() {
        for device in [None, Some("lo")] {
            let mut builder = Config::builder().engine(EngineChoice::Mmsg).cores(1);
            if let Some(device) = device {
                builder = builder.device(device);
            }
            let listen = "127.0.0.1:0".parse().unwrap();
            let config = builder.listen(listen).build().unwrap();
            let Ok(sockets) = open(&config, &[Needs::NONE]) else {
                continue; // Without CAP_NET_RAW before Linux 5.7.
            };
            assert_eq!(sockets.detours.sockets().count(), usize::from(LANES));
            // As when the interface of a scope comes back that bears this name.
            sockets.rebind("lo").unwrap();
            for socket in sockets.detours.sockets() {
                let bound = SockRef::from(&socket).device().unwrap();
                let bound = bound.map(|it| String::from_utf8(it).unwrap());
                assert_eq!(bound.as_deref(), device);
            }
        }
    }

    #[test]
    fn steering_by_cpu_without_pinned_workers_is_refused() {
        let builder = Config::builder().engine(EngineChoice::Mmsg).steer_cpu(true);
        let mut config = builder
            .listen("127.0.0.1:0".parse().unwrap())
            .build()
            .unwrap();
        // What a cgroup's quota below the number of CPUs leads to.
        config.workers = vec![None, None];
        let error = open(&config, &[Needs::NONE]).err().unwrap();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            "cannot steer by CPU: the workers are not pinned to any; --cpus pins them"
        );
    }
}
