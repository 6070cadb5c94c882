//! Sends what is due: trains from buffers that are written once but for their headers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

use crate::flow::Flow;
use crate::mix::Mix;
use crate::plan::Plan;
use crate::schedule::Schedule;
use crate::stats::Stats;
use crate::wire::{Probe, fill_pattern};
use reflector_measure::clock::Timeline;
use reflector_measure::echo_info;
use reflector_udp::PAYLOAD_V4_MAX;
use reflector_udp::addr::PeerAddr;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::{Outbox, Piece};

/// Messages handed over in one call. More would make the last of them wait for the first.
const BATCH: usize = 32;
/// Datagrams of a train at most: what UDP_GRO joins, and what every kernel with UDP_SEGMENT takes.
const TRAIN_MAX: u32 = 64;
/// Bytes of a buffer, and from one to the next: room for any payload, aligned to pages.
const BUFFER_LEN: u32 = 65_536;

/// Payload lengths and what is ready to be sent of each.
struct Class {
    /// Bytes of a datagram.
    len: u16,
    /// Datagrams of a train.
    train_max: u32,
    /// Buffers with the pattern in them.
    stock: Vec<Lease>,
}

/// A datagram or train that was due and is not sent yet.
#[derive(Clone, Copy, Debug)]
struct Message {
    class: usize,
    /// Sequence number of its first datagram.
    first: u64,
    count: u32,
    /// When it was due, in nanoseconds of the timeline.
    scheduled_ns: u64,
}

/// How sending went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing is due.
    Idle,
    /// Something was sent, or refused for good.
    Moved,
    /// The flow's window has no room until an answer comes.
    WindowFull,
    /// The send buffer has no room.
    Blocked,
}

/// The sending half of a worker.
pub(crate) struct Sender {
    target: PeerAddr,
    session: u32,
    /// Which run asks at the end of its probes how they are seen, if it does.
    asking_run: Option<u64>,
    classes: Vec<Class>,
    mix: Mix,
    window: Option<u64>,
    outbox: Outbox,
    /// What was taken from the schedule and is not sent; of one flow.
    pending: VecDeque<Message>,
    /// Whether what is sent now counts.
    pub(crate) is_counting: bool,
    /// Correction of the kernel's stamps: by how much the clock was set since the start.
    pub(crate) step_ns: i64,
    /// When something was sent last, in nanoseconds of the timeline.
    pub(crate) last_sent_ns: u64,
    /// When the last burst began that counts: its actual and its scheduled time.
    last_burst_ns: Option<(u64, u64)>,
}

impl Sender {
    /// A sender for `plan`, with every buffer that it will ever need.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory for the buffers.
    pub(crate) fn new(plan: &Plan, session: u32, seed: u64) -> io::Result<Self> {
        let count = plan.sizes.len() * BATCH;
        let mut leases = Lease::carve(count as u16, BUFFER_LEN, BUFFER_LEN as usize)?;
        let mut classes = Vec::with_capacity(plan.sizes.len());
        for (index, &(len, _)) in plan.sizes.iter().enumerate().rev() {
            // From the end, so that a buffer's number tells its class.
            let stock = leases.split_off(index * BATCH);
            classes.push(Class::new(len, plan, stock));
        }
        classes.reverse();
        Ok(Self {
            target: PeerAddr::new(plan.target),
            session,
            asking_run: plan.asking_run,
            classes,
            mix: Mix::new(plan.sizes.iter().map(|&(_, weight)| weight), seed),
            window: plan.window.map(u64::from),
            outbox: Outbox::new(BATCH, BATCH, BATCH),
            pending: VecDeque::with_capacity(BATCH),
            is_counting: false,
            step_ns: 0,
            last_sent_ns: 0,
            last_burst_ns: None,
        })
    }

    /// Whether something that was due waits for room in the send buffer.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Sends on `flow` what is due, up to a batch. `start_ns` is the schedule's zero.
    pub(crate) fn send(
        &mut self,
        flow: &mut Flow,
        schedule: &mut Schedule,
        timeline: &Timeline,
        start_ns: u64,
        stats: &mut Stats,
    ) -> Progress {
        if self.pending.is_empty() {
            let now_ns = timeline.now_ns();
            let progress = self.gather(flow, schedule, now_ns, start_ns, stats);
            if progress != Progress::Moved {
                return progress;
            }
        }
        self.transmit(flow, timeline, stats)
    }

    /// Takes a batch of what is due from the schedule.
    fn gather(
        &mut self,
        flow: &mut Flow,
        schedule: &mut Schedule,
        now_ns: u64,
        start_ns: u64,
        stats: &mut Stats,
    ) -> Progress {
        while self.pending.len() < BATCH {
            let due = schedule.due(now_ns.saturating_sub(start_ns));
            let due = due.filter(|due| schedule.is_counted(due.scheduled_ns) == self.is_counting);
            let Some(due) = due else {
                break;
            };
            let room = self.window.map_or(u64::MAX, |window| {
                window.saturating_sub(flow.track.outstanding())
            });
            if room == 0 {
                if self.pending.is_empty() {
                    return Progress::WindowFull;
                }
                break;
            }
            let class = self.mix.draw();
            let train_max = self.classes[class].train_max;
            let count = due
                .count
                .min(train_max)
                .min(u32::try_from(room).unwrap_or(u32::MAX));
            schedule.take(due.scheduled_ns, count);
            self.pending.push_back(Message {
                class,
                first: flow.track.next(),
                count,
                scheduled_ns: start_ns + due.scheduled_ns,
            });
            // Its memory is made from the rate and the timeout, so this is 0 but for surprises.
            stats.counters.given_up += flow.track.send(count, now_ns);
        }
        if self.pending.is_empty() {
            Progress::Idle
        } else {
            Progress::Moved
        }
    }

    /// Sends what is pending, all of it unless the send buffer is full.
    fn transmit(&mut self, flow: &mut Flow, timeline: &Timeline, stats: &mut Stats) -> Progress {
        while !self.pending.is_empty() {
            let is_stamped = flow.is_stamp_due();
            let sent_ns = timeline.now_ns();
            let count = self.load(flow.id, sent_ns, is_stamped);
            let result = self.outbox.send(flow.as_fd(), 0..count);
            self.unload();
            match result {
                Ok(sent) => {
                    self.account(sent, sent_ns, stats);
                    if is_stamped {
                        flow.expect_stamp(sent_ns);
                    }
                    if flow.is_stamp_open() {
                        // Most devices are given it at once, so it is there.
                        flow.take_errors(self.step_ns, stats);
                    }
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    if errno == libc::EAGAIN {
                        stats.counters.send_waits += 1;
                        return Progress::Blocked;
                    }
                    // An ICMP error about an earlier datagram makes one later call fail.
                    if errno != libc::EINTR && flow.take_errors(self.step_ns, stats) == 0 {
                        self.refuse(errno, flow, stats);
                    }
                }
            }
        }
        Progress::Moved
    }

    /// Puts the first pending messages, as many as fit, into the outbox, sent at `sent_ns`; the
    /// first of them is to be stamped where `is_stamped`.
    fn load(&mut self, flow: u32, sent_ns: u64, is_stamped: bool) -> usize {
        let count = self.pending.len().min(BATCH);
        for (index, message) in self.pending.iter().take(count).enumerate() {
            let class = &mut self.classes[message.class];
            let len = u32::from(class.len);
            let mut lease = class
                .stock
                .pop()
                .expect("a buffer for each message of a batch");
            lease.set_window(0..message.count * len);
            let mut probe = Probe {
                session: self.session,
                flow,
                sequence: message.first,
                scheduled_ns: message.scheduled_ns,
                sent_ns,
            };
            for datagram in lease.chunks_exact_mut(len as usize) {
                probe.emit(datagram);
                if let Some(run) = self.asking_run {
                    echo_info::ask(datagram, run, probe.sequence);
                }
                probe.sequence += 1;
            }
            let piece = Piece {
                lease: self.outbox.adopt(lease),
                start: 0,
                len: message.count * len,
            };
            let (name, control) = self.outbox.push([piece].into_iter());
            *name = self.target;
            if is_stamped && index == 0 {
                control.push_stamp();
            }
            if message.count > 1 {
                control.push_segment_len(class.len);
            }
        }
        self.outbox.seal();
        count
    }

    /// Takes the buffers back: what sendmmsg(2) was given it has copied.
    fn unload(&mut self) {
        self.outbox.clear();
        while let Some(lease) = self.outbox.release() {
            let class = usize::from(lease.id()) / BATCH;
            self.classes[class].stock.push(lease);
        }
    }

    /// Accounts for the first `sent` pending messages.
    fn account(&mut self, sent: usize, sent_ns: u64, stats: &mut Stats) {
        self.last_sent_ns = sent_ns;
        for message in self.pending.drain(..sent) {
            let count = u64::from(message.count);
            stats.counters.sent += count;
            stats.counters.trains_sent += u64::from(count > 1);
            let lag_ns = sent_ns.saturating_sub(message.scheduled_ns);
            stats.send_lag_ns.saturating_record_n(lag_ns, count);
            let longest_ns = &mut stats.counters.send_lag_max_ns;
            *longest_ns = (*longest_ns).max(Some(lag_ns));
            if !self.is_counting {
                continue;
            }
            let scheduled_ns = message.scheduled_ns;
            match self.last_burst_ns {
                // The parts of a burst are due at the same time.
                Some((_, last_ns)) if last_ns == scheduled_ns => continue,
                Some((last_sent_ns, last_ns)) => stats.gaps.record(
                    sent_ns.saturating_sub(last_sent_ns),
                    scheduled_ns.saturating_sub(last_ns),
                ),
                None => {}
            }
            self.last_burst_ns = Some((sent_ns, scheduled_ns));
        }
    }

    /// Deals with the first pending message, which the kernel refused with `errno`.
    fn refuse(&mut self, errno: i32, flow: &mut Flow, stats: &mut Stats) {
        let Some(message) = self.pending.pop_front() else {
            return;
        };
        let is_train_error = [libc::EMSGSIZE, libc::EINVAL, libc::EIO].contains(&errno);
        if message.count > 1 && is_train_error {
            // Longer than the path's MTU, or no trains on this path: singles from now on.
            stats.counters.trains_refused += 1;
            self.classes[message.class].train_max = 1;
            for sequence in (message.first..message.first + u64::from(message.count)).rev() {
                self.pending.push_front(Message {
                    first: sequence,
                    count: 1,
                    ..message
                });
            }
            return;
        }
        flow.track.take_back(message.first, message.count);
        let count = u64::from(message.count);
        *stats.counters.send_errors.entry(errno).or_default() += count;
        if errno == libc::ENOBUFS {
            stats.counters.queue_refused += count;
            stats.counters.queue_refusals += 1;
        }
    }

    /// Gives up what is pending: the time is over. Returns how many datagrams it is.
    pub(crate) fn abandon(&mut self, flow: &mut Flow) -> u64 {
        let mut count = 0;
        for message in self.pending.drain(..) {
            flow.track.take_back(message.first, message.count);
            count += u64::from(message.count);
        }
        count
    }
}

impl Class {
    fn new(len: u16, plan: &Plan, mut stock: Vec<Lease>) -> Self {
        let train_max = if plan.gso {
            plan.burst
                .min(TRAIN_MAX)
                .min(PAYLOAD_V4_MAX / u32::from(len))
                .max(1)
        } else {
            1
        };
        for lease in &mut stock {
            lease.set_window(0..train_max * u32::from(len));
            lease
                .chunks_exact_mut(usize::from(len))
                .for_each(fill_pattern);
        }
        Self {
            len,
            train_max,
            stock,
        }
    }
}
