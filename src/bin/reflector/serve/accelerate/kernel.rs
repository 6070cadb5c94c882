//! The program in the kernel, as the reflector runs it.

use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use reflector_accelerate::devices::{Devices, Follower};
use reflector_accelerate::{Accelerator, Counters, Shared};
use reflector_measure::error::Error;
use reflector_measure::quantiles::Quantiles;

use super::counted::Accelerated;

/// The hop limit of replies (`net.ipv4.ip_default_ttl` and `hop_limit` unless somebody sets them).
const HOPS: u8 = 64;

/// Its devices.
enum State {
    /// Attached to, and what changes is not heard of yet.
    Open(Box<Devices<Shared>>),
    Followed {
        /// Until it is dropped.
        _follower: Follower,
    },
    Left,
}

/// What answers in the kernel, until it is told to [end](Self::end).
pub struct InKernel {
    program: Shared,
    devices: Mutex<State>,
    ports: Vec<u16>,
    /// At the last interval.
    reported: Mutex<Counters>,
}

impl InKernel {
    /// Answers at `devices` in the kernel what was sent to `listeners`, by `rules`. Everything that
    /// needs rights is done here.
    ///
    /// # Errors
    /// Linux before 6.6, missing rights (EPERM), a device that is not there or of a kind that is
    /// left to the sockets.
    pub fn open(
        devices: &[String],
        mut listeners: Vec<SocketAddr>,
        is_dual_stack: bool,
        rules: &reflector::Rules,
    ) -> Result<Self, Error> {
        let ports: Vec<u16> = listeners.iter().map(SocketAddr::port).collect();
        if is_dual_stack {
            let both = listeners
                .iter()
                .filter(|it| it.is_ipv6() && it.ip().is_unspecified());
            let v4 = both.map(|it| SocketAddr::from((Ipv4Addr::UNSPECIFIED, it.port())));
            listeners.extend(v4.collect::<Vec<_>>());
        }
        let program = Shared::new(Accelerator::load(admitted(rules, &ports), listeners)?);
        let opened = Devices::open(devices, program.clone())?;
        tracing::warn!(
            "what is answered in the kernel at {} passes by netfilter, connection tracking and any \
             firewall of this host; tcpdump here does not see replies by peer redirect",
            devices.join(", ")
        );
        Ok(Self {
            program,
            devices: Mutex::new(State::Open(Box::new(opened))),
            ports,
            reported: Mutex::default(),
        })
    }

    /// Goes by `rules` from now on.
    pub fn set_rules(&self, rules: &reflector::Rules) {
        let rules = admitted(rules, &self.ports);
        if let Err(error) = self.program.set_rules(rules) {
            tracing::error!("{error}");
        }
    }

    /// Follows the devices, on a thread of its own.
    ///
    /// # Errors
    /// EAGAIN where there may be no more threads.
    pub fn follow(&self) -> Result<(), Error> {
        let mut state = locked(&self.devices);
        *state = match mem::replace(&mut *state, State::Left) {
            State::Open(devices) => State::Followed {
                _follower: devices.follow()?,
            },
            other => other,
        };
        Ok(())
    }

    /// Lets go of all devices: what comes from now on is the sockets'.
    pub fn end(&self) {
        *locked(&self.devices) = State::Left;
    }

    /// What has been answered since the start.
    pub fn total(&self) -> Accelerated {
        accelerated(&self.counters())
    }

    /// What has been answered since the last call.
    pub fn interval(&self) -> Accelerated {
        let now = self.counters();
        let mut reported = locked(&self.reported);
        let since = now.since(&reported);
        *reported = now;
        accelerated(&since)
    }

    fn counters(&self) -> Counters {
        self.program.counters().unwrap_or_else(|error| {
            tracing::error!("{error}");
            locked(&self.reported).clone()
        })
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn admitted(rules: &reflector::Rules, ports: &[u16]) -> reflector_accelerate::Rules {
    let admitted = rules.admitted(ports.iter().copied());
    reflector_accelerate::Rules {
        prefixes: admitted.prefixes,
        denied_ports: admitted.denied_ports,
        has_loop_guard: admitted.loop_guard,
        hop_limit: HOPS,
        tos: 0,
    }
}

fn accelerated(counters: &Counters) -> Accelerated {
    let mut times = Histogram::new(3).expect("three digits are few");
    for (ns, count) in counters.residence_ns() {
        times.record_n(ns, count).expect("it grows with its values");
    }
    Accelerated {
        datagrams: counters.datagrams,
        bytes: counters.bytes,
        trains: counters.trains,
        residence_us: Quantiles::from_ns(&times),
    }
}
