//! Every socket of every worker is opened, or taken from another server, before any worker starts.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::inherited::{Group, Inherited, Pool};
use super::sockets::Sockets;
use crate::config::{Config, Listener};
use crate::engine::{Detours, Kind, LANES, Paths};
use crate::responder::Needs;
use crate::socket::{self, Settings, Socket, SocketPair};
use reflector_measure::error::Error;

/// Opens the sockets of all workers, or takes those of `inherited` that are asked for. `needs`
/// tells what the responder of each listener needs of the kernel; there is one entry for each.
///
/// There are as many rows of sockets, one of each listener, as there are workers, or as most of an
/// inherited group: a member of one that was closed would take what is queued there with it, so
/// where there are fewer workers, they have several rows each.
///
/// # Errors
/// The first socket that could not be opened, taken, bound or steered. Nothing stays open then.
pub fn open(config: &Config, needs: &[Needs], inherited: Vec<Inherited>) -> Result<Sockets, Error> {
    let is_kept = inherited.iter().any(|it| it.label.is_kept);
    let mut pool = Pool::new(inherited);
    let mut wanted = Vec::new();
    for (listener, needs) in config.listen.iter().zip(needs) {
        let taken = pool.take(listener.addr);
        if taken.is_none() && listener.is_optional && !socket::has_ipv6() {
            tracing::warn!("this host has no IPv6: serving IPv4 only");
            continue;
        }
        let addr = taken.as_ref().map_or(listener.addr, |(addr, _)| *addr);
        let group = taken.map(|(_, group)| group).unwrap_or_default();
        wanted.push((Listener { addr, ..*listener }, needs, group));
    }
    for addr in pool.left() {
        tracing::warn!("nobody listens on {addr} any more: --listen does not name it");
    }
    let workers = config.workers.len();
    let inherited = wanted.iter().map(|(_, _, group)| group.receivers.len());
    let rows = inherited.chain([workers]).max().unwrap_or(workers);
    let (mut listeners, mut columns, mut detours) = (Vec::new(), Vec::new(), Vec::new());
    for (listener, needs, group) in wanted {
        let own = Settings {
            is_grouped: rows > 1,
            ..with_needs(&config.socket, needs)
        };
        let Group {
            receivers,
            detours: inherited,
        } = group;
        let column = column(listener.addr, rows, &own, receivers, config.engine.kind)?;
        let receiver = &column[0].receiver;
        detours.push(detours_of(receiver, inherited));
        // The others are bound to the port that the kernel chose for the first.
        listeners.push(Listener {
            addr: receiver.endpoint().addr,
            ..listener
        });
        columns.push(column.into_iter());
    }
    let mut by_worker = Vec::from_iter((0..workers).map(|_| Vec::new()));
    for row in 0..rows {
        let row_sockets = columns.iter_mut().filter_map(Iterator::next);
        by_worker[row % workers].extend(row_sockets);
    }
    if config.steer_cpu {
        steer(config, &by_worker)?;
    }
    Ok(Sockets {
        listeners,
        by_worker: by_worker.into_iter().map(Arc::from).collect(),
        detours: Arc::new(Detours::new(detours, paths(config))),
        device: config.socket.device.clone(),
        is_df: config.socket.df,
        is_kept,
    })
}

/// The sockets that listen on `addr`, one for each of `rows`: those of `inherited`, and further
/// ones.
fn column(
    addr: SocketAddr,
    rows: usize,
    own: &Settings,
    inherited: Vec<(OwnedFd, Option<OwnedFd>)>,
    kind: Kind,
) -> Result<Vec<SocketPair>, Error> {
    let mut column: Vec<SocketPair> = Vec::new();
    for (receiver, inherited) in inherited {
        let receiver = Socket::adopt(receiver, addr, own)?;
        let is_used = |_: &OwnedFd| kind == Kind::Uring;
        let inherited = inherited.filter(is_used);
        let inherited = inherited.and_then(|sender| receiver.adopt_sender(sender));
        column.push(SocketPair {
            sender: inherited.or_else(|| sender(&receiver, kind)),
            receiver,
        });
    }
    let inherited = column.len();
    while column.len() < rows {
        let first = column.first();
        let addr = first.map_or(addr, |it| it.receiver.endpoint().addr);
        let receiver = Socket::open(addr, column.is_empty(), own).map_err(|error| {
            if inherited == 0 {
                return error;
            }
            Error::new(
                "cannot open more sockets beside those that were handed over",
                error.to_string(),
            )
            .try_this(format!(
                "--cores {inherited} needs no more; whoever opened them may be another user, or \
                 has not shared the port"
            ))
        })?;
        column.push(SocketPair {
            sender: sender(&receiver, kind),
            receiver,
        });
    }
    Ok(column)
}

/// Sockets for what those that listen as `receiver` does have no room for: those that were
/// `inherited`, or new ones. Where they cannot be opened, such replies are lost.
fn detours_of(receiver: &Socket, inherited: [Vec<OwnedFd>; 2]) -> [Vec<OwnedFd>; 2] {
    let open = |inherited: Vec<OwnedFd>, is_wanted: bool, to_ipv6: bool| {
        let lanes = if is_wanted { LANES } else { 0 };
        if inherited.len() == usize::from(lanes) {
            return inherited;
        }
        let opened: io::Result<Vec<_>> = (0..lanes)
            .map(|lane| receiver.open_detour(to_ipv6, lane))
            .collect();
        opened.unwrap_or_else(|error| {
            let addr = receiver.endpoint().addr;
            tracing::debug!("no way round for replies of {addr}: {error}");
            Vec::new()
        })
    };
    let ([v4, v6], [of_v4, of_v6]) = (receiver.families(), inherited);
    [open(of_v4, v4, false), open(of_v6, v6, true)]
}

/// Who is asked for the way to a peer.
fn paths(config: &Config) -> Option<Box<dyn Paths>> {
    config.paths.and_then(|open| match open() {
        Ok(paths) => Some(paths),
        Err(error) => {
            tracing::debug!("cannot ask the kernel for the way to a peer: {error}");
            None
        }
    })
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

fn steer(config: &Config, by_worker: &[Vec<SocketPair>]) -> Result<(), Error> {
    for (worker, pairs) in by_worker.iter().enumerate() {
        let Some(core) = config.workers[worker] else {
            return Err(
                Error::usage("cannot steer by CPU", "the workers are not pinned to any")
                    .try_this("--cpus pins them"),
            );
        };
        for pair in pairs {
            pair.receiver.steer_to(core.id).map_err(|e| {
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
    use socket2::SockRef;

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
            let Ok(sockets) = open(&config, &[Needs::NONE], Vec::new()) else {
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
        let error = open(&config, &[Needs::NONE], Vec::new()).err().unwrap();
        assert!(error.is_usage());
        assert_eq!(
            error.to_string(),
            "cannot steer by CPU: the workers are not pinned to any; --cpus pins them"
        );
    }
}
