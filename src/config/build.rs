//! Makes sense of what is asked for.

use super::builder::Builder;
use super::cpus::workers;
use super::listeners::listeners;
use super::settings::{COALESCE_MAX, Config, EngineChoice};
use crate::datagram::SEGMENTS_MAX;
use crate::egress;
use crate::engine::probe::{self, Blocker};
use crate::engine::{self, Kind, Waiting};
use crate::socket;
use reflector_measure::error::Error;
use reflector_measure::host::kernel_is_at_least;
use reflector_measure::quota;

/// Receive buffers that a worker may have; the ring has an entry for each.
const BUFFERS_MAX: u16 = 4096;
/// Segments that a train may have before Linux 6.9 (linux/udp.h).
const SEGMENTS_MAX_OLD: usize = 64;

impl Builder {
    /// Makes sense of the settings on this machine. Tries io_uring out unless told not to.
    ///
    /// # Errors
    /// A [usage](Error::is_usage) error where settings contradict each other, and what was demanded
    /// and is not available here.
    pub fn build(self) -> Result<Config, Error> {
        let mut notes = Vec::new();
        let workers = workers(self.cores, self.cpus.as_deref(), &mut notes)?;
        let listen = listeners(&self.listen, self.socket.dual_stack)?;
        if self.coalesce > COALESCE_MAX {
            return Err(Error::usage(
                format!("cannot wait {:?} for more datagrams", self.coalesce),
                format!("--coalesce takes at most {COALESCE_MAX:?}"),
            ));
        }
        if !(1..=BUFFERS_MAX).contains(&self.buffers) {
            return Err(Error::usage(
                format!("cannot receive into {} buffers", self.buffers),
                format!("--buffers takes 1 to {BUFFERS_MAX}"),
            ));
        }
        if self.wire {
            socket::try_stamps().map_err(|e| {
                Error::system("cannot measure residence times up to the device", &e)
                    .try_this("it takes Linux 6.12; --latency kernel measures up to the send")
            })?;
        }
        let waiting = affordable(self.waiting, workers.len(), quota::cpu_quota(), &mut notes);
        let (kind, abilities, engine_blocker) = choose_engine(self.engine)?;
        let buffers = self.rounded_buffers(&mut notes);
        notes.extend(self.deafness());
        Ok(Config {
            socket: socket::Settings {
                is_grouped: workers.len() > 1,
                timestamps: self.latency || self.wire,
                stamps: self.wire,
                hop_limits: self.rules.loop_guard,
                ..self.socket
            },
            engine: engine::Settings {
                kind,
                may_fall_back: self.engine == EngineChoice::Auto,
                buffers,
                waiting,
                busy_receive: abilities.keeps_unused_buffers,
                restricted: self.restrict_rings,
                egress: egress::Settings {
                    gso: self.gso,
                    segments_max: segments_max(),
                    latency: self.latency && !self.wire,
                    wire: self.wire,
                },
            },
            engine_blocker,
            steer_cpu: self.steer_cpu,
            coalesce: self.coalesce,
            paths: self.paths,
            confine: self.confine,
            rules: self.rules,
            drain_delay: self.drain_delay,
            rate_limit: self.rate_limit,
            drain_timeout: self.drain_timeout,
            interval: self.interval.filter(|interval| !interval.is_zero()),
            duration: self.duration,
            listen,
            workers,
            notes,
        })
    }

    /// What may become of a port that is shared by one interface only.
    fn deafness(&self) -> Option<String> {
        let device = self.socket.device.as_ref();
        let device = device.filter(|_| self.socket.share_port)?;
        Some(format!(
            "--share-port with --device: where another server of the port is not bound to \
             {device}, all that arrives by it goes to one of the two, of IPv4 to the one that \
             started last, of IPv6 to the one that started first; the port is shared among those \
             that are all bound to it, or all not"
        ))
    }

    fn rounded_buffers(&self, notes: &mut Vec<String>) -> u16 {
        let buffers = self.buffers.next_power_of_two();
        if buffers != self.buffers {
            notes.push(format!(
                "--buffers {} is rounded up to {buffers}",
                self.buffers
            ));
        }
        buffers
    }
}

/// `waiting`, unless so many workers could use up a `quota` of so many CPUs by looking.
///
/// Who is stopped for the rest of a period answers nobody meanwhile, which is worse than what each
/// look saves.
fn affordable(
    waiting: Waiting,
    workers: usize,
    quota: Option<f64>,
    notes: &mut Vec<String>,
) -> Waiting {
    match quota.filter(|&quota| quota < workers as f64) {
        Some(quota) if waiting == Waiting::Adaptive => {
            notes.push(format!(
                "the cgroup's quota of {quota:.2} CPUs is less than one for each worker: workers \
                 sleep without a look before it, which could use the quota up (--wait block)"
            ));
            Waiting::Block
        }
        _ => waiting,
    }
}

fn choose_engine(choice: EngineChoice) -> Result<(Kind, probe::Abilities, Option<Blocker>), Error> {
    let without_ring = |blocker| (Kind::Mmsg, probe::Abilities::default(), blocker);
    if choice == EngineChoice::Mmsg {
        // Without any io_uring system call, since some profiles kill for one.
        return Ok(without_ring(None));
    }
    match probe::probe() {
        Ok(abilities) => Ok((Kind::Uring, abilities, None)),
        Err(blocker) if choice == EngineChoice::Auto => Ok(without_ring(Some(blocker))),
        Err(Blocker { what, remedy }) => {
            Err(Error::new("cannot use io_uring", what).try_this(remedy))
        }
    }
}

fn segments_max() -> usize {
    if kernel_is_at_least(6, 9) {
        SEGMENTS_MAX
    } else {
        SEGMENTS_MAX_OLD
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn mmsg() -> Builder {
        Config::builder().engine(EngineChoice::Mmsg)
    }

    #[test]
    fn the_memory_of_a_worker_stays_below_its_limit() {
        let with_gro = mmsg().cores(1).build().unwrap().memory();
        assert!(with_gro.worker <= 6 << 20, "{with_gro:?}");
        assert!(with_gro.base <= 16 << 20);
    }

    #[test]
    fn odd_buffer_counts_are_rounded_up() {
        let config = mmsg().buffers(100).build().unwrap();
        assert_eq!(config.engine.buffers, 128);
        assert!(config.notes[0].contains("rounded up"));
    }

    #[test]
    fn a_port_that_is_shared_by_one_interface_is_warned_of() {
        let notes = |builder: Builder| builder.cores(1).build().unwrap().notes;
        let both = notes(mmsg().device("s0").share_port(true));
        assert!(
            both[0].starts_with("--share-port with --device: "),
            "{both:?}"
        );
        assert!(both[0].contains("not bound to s0"), "{both:?}");
        assert!(notes(mmsg().device("s0")).is_empty());
        assert!(notes(mmsg().share_port(true)).is_empty());
    }

    #[test]
    fn no_buffers_no_workers_and_too_many_are_refused() {
        for builder in [
            mmsg().buffers(0),
            mmsg().buffers(4097),
            mmsg().cores(0),
            mmsg().cpus([]),
        ] {
            assert!(builder.build().unwrap_err().is_usage());
        }
        assert!(mmsg().buffers(4096).build().is_ok());
    }

    #[test]
    fn workers_do_not_look_where_that_could_use_up_their_quota() {
        let mut notes = Vec::new();
        let mut wait = |waiting, quota| affordable(waiting, 2, quota, &mut notes);
        assert_eq!(wait(Waiting::Adaptive, None), Waiting::Adaptive);
        assert_eq!(wait(Waiting::Adaptive, Some(2.0)), Waiting::Adaptive);
        assert_eq!(wait(Waiting::Spin, Some(0.5)), Waiting::Spin);
        assert_eq!(wait(Waiting::Block, Some(0.5)), Waiting::Block);
        assert_eq!(wait(Waiting::Adaptive, Some(1.5)), Waiting::Block);
        assert_eq!(notes.len(), 1, "{notes:?}");
        assert!(notes[0].starts_with("the cgroup's quota of 1.50 CPUs"));
    }

    #[test]
    fn a_wait_beyond_ten_seconds_is_refused() {
        let error = mmsg()
            .coalesce(Duration::from_secs(11))
            .build()
            .unwrap_err();
        assert!(error.is_usage());
    }
}
