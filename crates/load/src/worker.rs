//! One core of the generator: send what is due, classify what came, wait for whichever is next.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::classify::Classifier;
use crate::control::Control;
use crate::ended::Ended;
use crate::flow::Flow;
use crate::plan::Plan;
use crate::response::response;
use crate::schedule::Schedule;
use crate::sender::{Progress, Sender};
use crate::stats::Stats;
use reflector_measure::clock::Timeline;
use reflector_measure::handover::Counters as _;
use reflector_udp::RECEIVE_MAX;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::Inbox;

/// Buffers received in one call: few, so that what becomes due meanwhile does not wait long.
const INBOX: usize = 32;
/// What is due sooner than this is waited for without sleeping: waking up takes about as long.
const SPIN_NS: u64 = 50_000;
/// Flows up to which all are asked for datagrams in turn, instead of asking which have some.
const FLOWS_ASKED_MAX: usize = 2;
/// Sockets told ready at once.
const READY_MAX: usize = 64;
/// How long to wait until a full send buffer is tried again.
const BLOCKED_NS: u64 = 100_000;
/// The longest sleep: a stop is noticed at the latest after it.
const SLEEP_NS_MAX: u64 = 100_000_000;
/// Steps of the timeout after which flows are asked what has expired.
const EXPIRY_STEPS: u64 = 64;
/// Which ready descriptor is the wake, and no flow.
const WAKE: u64 = u64::MAX;

/// Everything that a worker is made from.
pub(crate) struct Parts<'a> {
    /// What is measured.
    pub(crate) plan: &'a Plan,
    /// Its flows, at least one.
    pub(crate) flows: Vec<Flow>,
    /// When it sends.
    pub(crate) schedule: Schedule,
    /// Random number of the run.
    pub(crate) session: u32,
    /// Seed of the sizes.
    pub(crate) seed: u64,
    /// The clock of its probes.
    pub(crate) timeline: Timeline,
    /// What it is told and asked.
    pub(crate) control: Arc<Control>,
}

/// A worker that has all it needs.
pub(crate) struct Worker {
    flows: Vec<Flow>,
    schedule: Schedule,
    sender: Sender,
    classifier: Classifier,
    timeline: Timeline,
    timeout_ns: u64,
    control: Arc<Control>,
    inbox: Inbox,
    /// Buffers that have been classified and are not given back yet.
    used: Vec<Lease>,
    epoll: OwnedFd,
    ready: Vec<epoll::Event>,
    stats: Stats,
    /// Whose turn it is to send.
    turn: usize,
    /// When the schedule begins, in nanoseconds of the timeline.
    start_ns: u64,
    /// When the first answer came, in nanoseconds of the timeline.
    first_answer_ns: Option<u64>,
    expiry_ns: u64,
    /// When something was sent or received last.
    moved_ns: u64,
    unsent: u64,
}

impl Worker {
    /// Makes what a worker needs on the thread, and so on the core, that it will run on.
    ///
    /// # Errors
    /// `EMFILE` or `ENFILE` without a descriptor for epoll(7), `ENOSPC` beyond
    /// `fs.epoll.max_user_watches`, `ENOMEM`.
    pub(crate) fn new(parts: Parts<'_>) -> io::Result<Self> {
        let Parts {
            plan,
            flows,
            schedule,
            session,
            seed,
            timeline,
            control,
        } = parts;
        // Sleeps end when they are to, not up to 50 µs later (prctl(2), PR_SET_TIMERSLACK).
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let wake = EventData::new_u64(WAKE);
        epoll::add(&epoll, control.wake.as_fd(), wake, EventFlags::IN)?;
        for (index, flow) in flows.iter().enumerate() {
            let data = EventData::new_u64(index as u64);
            epoll::add(&epoll, flow, data, EventFlags::IN)?;
        }
        let leases = Lease::carve(INBOX as u16, RECEIVE_MAX, RECEIVE_MAX as usize + 1)?;
        Ok(Self {
            sender: Sender::new(plan, session, seed)?,
            classifier: Classifier::new(plan.target, session, plan.timeout_ns()),
            timeout_ns: plan.timeout_ns(),
            flows,
            schedule,
            timeline,
            control,
            inbox: Inbox::new(leases, INBOX),
            used: Vec::with_capacity(INBOX),
            epoll,
            ready: Vec::with_capacity(READY_MAX),
            stats: Stats::new(),
            turn: 0,
            start_ns: 0,
            first_answer_ns: None,
            expiry_ns: 0,
            moved_ns: 0,
            unsent: 0,
        })
    }

    /// Runs the schedule from `start_ns` of the timeline on, and waits for what is open then.
    ///
    /// # Errors
    /// `ENOMEM` of ppoll(2). What goes wrong with a datagram is counted.
    pub(crate) fn run(mut self, start_ns: u64) -> io::Result<Ended> {
        self.start_ns = start_ns;
        let now_ns = self.timeline.now_ns();
        thread::sleep(Duration::from_nanos(start_ns.saturating_sub(now_ns)));
        loop {
            let now_ns = self.timeline.now_ns();
            self.listen_to_control(now_ns);
            let sent = self.send(now_ns);
            let received = self.receive_ready()?;
            if now_ns >= self.expiry_ns {
                self.expire(now_ns);
            }
            if sent == Progress::Moved || received > 0 {
                self.moved_ns = now_ns;
            } else if self.is_over(now_ns) {
                return Ok(self.end());
            } else {
                self.wait(sent)?;
            }
        }
    }

    fn schedule_now(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.start_ns)
    }

    fn listen_to_control(&mut self, now_ns: u64) {
        let control = &self.control;
        if control.is_stopped() {
            self.schedule.stop(now_ns.saturating_sub(self.start_ns));
        }
        if control.handover.is_requested() {
            if !self.sender.is_counting {
                self.stats.reset();
            }
            control.handover.publish(&mut self.stats);
        }
    }

    fn send(&mut self, now_ns: u64) -> Progress {
        let at_ns = self.schedule_now(now_ns);
        let Self {
            flows,
            sender,
            schedule,
            timeline,
            stats,
            ..
        } = self;
        if at_ns > schedule.abandoned_ns() {
            self.unsent += sender.abandon(&mut flows[self.turn]);
            return Progress::Idle;
        }
        let starts = || {
            schedule
                .next_ns(at_ns)
                .is_none_or(|it| schedule.is_counted(it))
        };
        if !sender.is_counting && !sender.is_blocked() && starts() {
            sender.is_counting = true;
            flows.iter_mut().for_each(Flow::start_counting);
            stats.reset();
        }
        let mut progress = Progress::Idle;
        for _ in 0..flows.len() {
            let flow = &mut flows[self.turn];
            progress = sender.send(flow, schedule, timeline, self.start_ns, stats);
            if progress != Progress::Idle && !sender.is_blocked() {
                self.turn = (self.turn + 1) % flows.len();
            }
            if progress != Progress::WindowFull {
                return progress;
            }
        }
        stats.counters.window_waits += 1;
        progress
    }

    /// Receives from every flow that has something, a batch each. Returns how many buffers.
    fn receive_ready(&mut self) -> io::Result<usize> {
        let count = self.flows.len();
        if count <= FLOWS_ASKED_MAX {
            return Ok((0..count).map(|index| self.receive(index)).sum());
        }
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        self.ready.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.ready),
            Some(&now),
        ) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(0),
            Err(error) => return Err(error.into()),
        }
        let mut received = 0;
        for event in 0..self.ready.len() {
            match self.ready[event].data.u64() {
                WAKE => self.control.wake.clear(),
                index => received += self.receive(index as usize),
            }
        }
        Ok(received)
    }

    /// Receives a batch from one flow and classifies it. Returns how many buffers it was.
    fn receive(&mut self, index: usize) -> usize {
        let flow = &mut self.flows[index];
        let count = match self.inbox.receive(flow.as_fd()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Ready without a datagram: the error queue has something.
                if flow.is_stamp_open() || self.is_told_of_error(index) {
                    self.flows[index].take_errors(self.sender.step_ns, &mut self.stats);
                }
                return 0;
            }
            Err(_) => {
                flow.take_errors(self.sender.step_ns, &mut self.stats);
                return 0;
            }
        };
        let was_answered = self.first_answer_ns.is_some();
        for _ in 0..count {
            let (lease, incoming) = self.inbox.take();
            let step_ns = self.sender.step_ns;
            let response = response(flow.id, &lease, &incoming, step_ns, &self.timeline);
            self.classifier
                .classify(&response, &mut flow.track, &mut self.stats);
            if self.first_answer_ns.is_none() && flow.track.is_answered() {
                self.first_answer_ns = Some(response.received_ns);
            }
            self.used.push(lease);
        }
        if !was_answered && self.first_answer_ns.is_some() {
            self.flows.iter_mut().for_each(|it| it.track.end_cold());
        }
        while let Some(lease) = self.used.pop() {
            self.inbox.recycle(lease);
        }
        count
    }

    /// Whether a flow was told ready for an error.
    fn is_told_of_error(&self, index: usize) -> bool {
        self.ready.iter().any(|event| {
            // Copied out first: the kernel's struct is packed.
            let (data, flags) = (event.data, event.flags);
            data.u64() == index as u64 && flags.contains(EventFlags::ERR)
        })
    }

    /// Gives up what is older than the timeout, and looks whether the clock was set.
    fn expire(&mut self, now_ns: u64) {
        self.expiry_ns = now_ns + (self.timeout_ns / EXPIRY_STEPS).max(SPIN_NS);
        for flow in &mut self.flows {
            self.stats.counters.given_up += flow.track.expire(now_ns);
            flow.give_up_stamps(now_ns);
        }
        self.sender.step_ns = self.timeline.step_ns();
    }

    fn is_over(&self, now_ns: u64) -> bool {
        let at_ns = self.schedule_now(now_ns);
        let is_sent =
            self.schedule.next_ns(at_ns).is_none() || at_ns > self.schedule.abandoned_ns();
        is_sent
            && !self.sender.is_blocked()
            && self.flows.iter().all(|flow| flow.track.outstanding() == 0)
    }

    /// Waits until something is due, something comes, or something expires.
    fn wait(&self, sent: Progress) -> io::Result<()> {
        let now_ns = self.timeline.now_ns();
        let due_ns = match sent {
            Progress::Blocked => Some(now_ns + BLOCKED_NS),
            // Answers come soon, or not at all.
            Progress::WindowFull if now_ns - self.moved_ns < SPIN_NS => Some(now_ns),
            Progress::WindowFull => None,
            Progress::Idle | Progress::Moved => {
                let next_ns = self.schedule.next_ns(self.schedule_now(now_ns));
                next_ns.map(|next_ns| self.start_ns + next_ns)
            }
        };
        let until_ns = due_ns.unwrap_or(u64::MAX).min(self.expiry_ns);
        let sleep_ns = until_ns.saturating_sub(now_ns).min(SLEEP_NS_MAX);
        if sleep_ns <= SPIN_NS {
            std::hint::spin_loop();
            return Ok(());
        }
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: (sleep_ns - SPIN_NS) as _,
        };
        // Not epoll_pwait2(2), which old kernels and old seccomp profiles lack: an epoll descriptor
        // can be polled, and ppoll(2) has always known nanoseconds.
        match poll(
            &mut [PollFd::new(&self.epoll, PollFlags::IN)],
            Some(&timeout),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.flows.len() <= FLOWS_ASKED_MAX {
            self.control.wake.clear();
        }
        Ok(())
    }

    fn end(mut self) -> Ended {
        let counters = &mut self.stats.counters;
        for flow in &mut self.flows {
            counters.given_up += flow.track.expire_all();
            counters.receive_drops += u64::from(flow.drops());
        }
        for flow in &mut self.flows {
            flow.take_errors(self.sender.step_ns, &mut self.stats);
        }
        self.control.handover.publish(&mut self.stats);
        let schedule = &self.schedule;
        let last_ns = self.schedule_now(self.sender.last_sent_ns);
        let end_ns = schedule
            .end_ns()
            .map_or(last_ns, |end_ns| end_ns.max(last_ns));
        let span_ns = end_ns.saturating_sub(schedule.warmup_ns());
        let unsent = self.unsent + schedule.backlog(schedule.limit_ns());
        let first_answer_ns = self.first_answer_ns.map(|ns| self.schedule_now(ns));
        Ended::new(span_ns, unsent, first_answer_ns, &self.flows)
    }
}
