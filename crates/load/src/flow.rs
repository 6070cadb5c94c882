//! One flow: a source port, its socket, and what became of its datagrams.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;

use crate::options::Rate;
use crate::plan::Plan;
use crate::socket;
use crate::stats::Stats;
use crate::track::Track;
use reflector_measure::error::Error;
use reflector_udp::errqueue::{self, Origin, QueuedError};
use reflector_udp::sockopt;

/// Descriptors of this process besides its flows.
const DESCRIPTORS_BESIDES: u64 = 64;

/// Of how many sends of a flow, each a batch, one is stamped as it leaves, since to read a stamp
/// takes system calls.
pub(crate) const STAMP_EVERY: u32 = 64;
/// How long a stamp is waited for, in nanoseconds.
const STAMP_NS_MAX: u64 = 1_000_000_000;

/// Datagrams per second that a flow's memory of answers is made for where the rate is open.
const PPS_ASSUMED: f64 = 16e6;
/// Datagrams that a flow remembers, at least and at most; a bit each.
const REMEMBERED_MIN: f64 = 65_536.0;
const REMEMBERED_MAX: f64 = 1_073_741_824.0;

/// An unconnected socket with a port of its own. Unconnected, since a connected one would not be
/// given what comes from a wrong source.
#[derive(Debug)]
pub(crate) struct Flow {
    socket: Socket,
    /// Its number, which its probes carry.
    pub(crate) id: u32,
    /// The source port that the kernel chose.
    pub(crate) port: u16,
    /// What became of its datagrams.
    pub(crate) track: Track,
    /// The kernel's count of drops at this socket when counting began.
    drops_before: u32,
    /// Which of its messages are stamped as they leave.
    stamps: Stamps,
}

/// A sample of a flow's messages, which the kernel stamps when it hands them to the device.
#[derive(Debug)]
struct Stamps {
    /// Messages until the next one that is to be stamped; `None` where the kernel stamps none.
    left: Option<u32>,
    /// When the one was sent whose stamp is waited for, in nanoseconds of the timeline. There is
    /// one at most, so that a stamp is its own.
    sent_ns: Option<u64>,
}

impl Flow {
    /// Opens all flows of `plan`.
    ///
    /// # Errors
    /// `EMFILE` where the limit of descriptors cannot be raised, `EADDRINUSE` where there are no
    /// more source ports, `EADDRNOTAVAIL` for an address that is none of this host's,
    /// `EAFNOSUPPORT` without IPv6.
    pub(crate) fn open_all(plan: &Plan) -> Result<Vec<Self>, Error> {
        raise_descriptor_limit(plan.flows as u64)?;
        let pps = match plan.offer.rate {
            Rate::Max => PPS_ASSUMED,
            Rate::Pps(pps) => pps,
        };
        // Flows share the rate as evenly as bursts allow; twice that for when they do not.
        let share = 2.0 * pps / plan.flows as f64;
        let remembered = (share * plan.timeout.as_secs_f64() + 2.0 * f64::from(plan.burst))
            .clamp(REMEMBERED_MIN, REMEMBERED_MAX) as u64;
        let mut avoided = Vec::new();
        (0..plan.flows as u32)
            .map(|id| {
                let (socket, port) = socket::open_avoiding(plan, &mut avoided)?;
                Ok(Self {
                    id,
                    port,
                    track: Track::new(remembered, plan.timeout_ns()),
                    drops_before: 0,
                    stamps: Stamps {
                        left: errqueue::enable_stamps(&socket).is_ok().then_some(0),
                        sent_ns: None,
                    },
                    socket,
                })
            })
            .collect()
    }

    /// What is sent from now on counts, and what was sent before does not.
    pub(crate) fn start_counting(&mut self) {
        self.track.start_counting();
        self.drops_before = sockopt::drops(self).unwrap_or(0);
    }

    /// Datagrams that the kernel dropped at this socket since counting began.
    pub(crate) fn drops(&self) -> u32 {
        let drops = sockopt::drops(self).unwrap_or(self.drops_before);
        drops.wrapping_sub(self.drops_before)
    }

    /// Whether its next message is to be stamped.
    #[inline]
    pub(crate) fn is_stamp_due(&mut self) -> bool {
        match &mut self.stamps.left {
            Some(0) => self.stamps.sent_ns.is_none(),
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// Whether a stamp is waited for.
    #[inline]
    pub(crate) fn is_stamp_open(&self) -> bool {
        self.stamps.sent_ns.is_some()
    }

    /// A message was handed over at `sent_ns` that asks to be stamped.
    pub(crate) fn expect_stamp(&mut self, sent_ns: u64) {
        self.stamps.sent_ns = Some(sent_ns);
        self.stamps.left = Some(STAMP_EVERY - 1);
    }

    /// Gives up a stamp that has not come by `now_ns`, and those that would follow: not every
    /// device stamps, and a late one would be taken for another's.
    pub(crate) fn give_up_stamps(&mut self, now_ns: u64) {
        let sent_ns = self.stamps.sent_ns;
        if sent_ns.is_some_and(|sent_ns| now_ns.saturating_sub(sent_ns) > STAMP_NS_MAX) {
            self.stamps.left = None;
        }
    }

    /// Empties the error queue: counts what ICMP said, and records a stamp, which the clock's
    /// `step_ns` corrects. Returns how many errors it was.
    pub(crate) fn take_errors(&mut self, step_ns: i64, stats: &mut Stats) -> u64 {
        let mut taken = 0;
        while let Ok(Some(error)) = errqueue::next(self) {
            if let Some(stamp_ns) = error.stamp_ns {
                let stamp_ns = stamp_ns.wrapping_add_signed(-step_ns);
                if let (Some(sent_ns), Some(_)) = (self.stamps.sent_ns.take(), self.stamps.left) {
                    let after_ns = stamp_ns.saturating_sub(sent_ns);
                    stats.stamp_to_wire_ns.saturating_record(after_ns);
                }
            } else if let Some(name) = icmp_name(&error) {
                *stats.counters.icmp.entry(name).or_default() += 1;
                taken += 1;
            }
        }
        taken
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Makes room for a descriptor for each flow, as far as this user may.
fn raise_descriptor_limit(flows: u64) -> Result<(), Error> {
    let needed = flows + DESCRIPTORS_BESIDES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(needed),
        maximum: maximum.map(|maximum| maximum.max(needed)),
    };
    let raised = match maximum {
        Some(maximum) if maximum < needed => setrlimit(Resource::Nofile, raised),
        _ => setrlimit(Resource::Nofile, Rlimit { maximum, ..raised }),
    };
    raised.map_err(|e| {
        Error::system(format!("cannot open {flows} sockets"), &e.into()).try_this(format!(
            "lower --flows, or run `ulimit -n {needed}` as root"
        ))
    })
}

/// What an ICMP error says (RFC 792, RFC 1812, RFC 4443); `None` if it is none.
fn icmp_name(error: &QueuedError) -> Option<&'static str> {
    Some(match (error.origin, error.icmp_type, error.icmp_code) {
        (Origin::Icmp, 3, 0) | (Origin::Icmp6, 1, 0) => "net_unreachable",
        (Origin::Icmp, 3, 1) | (Origin::Icmp6, 1, 3) => "host_unreachable",
        (Origin::Icmp, 3, 2) => "protocol_unreachable",
        (Origin::Icmp, 3, 3) | (Origin::Icmp6, 1, 4) => "port_unreachable",
        (Origin::Icmp, 3, 4) | (Origin::Icmp6, 2, _) => "too_big",
        (Origin::Icmp, 3, 9 | 10 | 13) | (Origin::Icmp6, 1, 1) => "prohibited",
        (Origin::Icmp, 3, _) | (Origin::Icmp6, 1, _) => "other_unreachable",
        (Origin::Icmp, 11, 1) | (Origin::Icmp6, 3, 1) => "reassembly_time_exceeded",
        (Origin::Icmp, 11, _) | (Origin::Icmp6, 3, _) => "hop_limit_exceeded",
        (Origin::Icmp, 12, _) | (Origin::Icmp6, 4, _) => "parameter_problem",
        (Origin::Icmp | Origin::Icmp6, ..) => "other_icmp",
        (Origin::Local | Origin::Other(_), ..) => return None,
    })
}
