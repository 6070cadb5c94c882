//! The loop: one datagram at each time that is due, and before it what has come since the last.
//!
//! Nothing is waited for but the next time: answers are read when it comes, and their own times are
//! the kernel's. So a datagram costs one sleep, one receive and one send. What was due while this
//! process did not run is left out, and counted.

use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use crate::classify::{Classifier, Right};
use crate::flow::Flow;
use crate::plan::Plan;
use crate::response::response;
use crate::schedule::{Schedule, Shape};
use crate::sender::Sender;
use crate::stats::Stats;
use crate::watch::continuity::{Continuity, Gap};
use crate::watch::told::{Change, Told};
use reflector_measure::clock::Timeline;
use reflector_measure::echo_info;
use reflector_measure::error::Error;
use reflector_udp::RECEIVE_MAX;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::Inbox;

/// Buffers received in one call.
const INBOX: usize = 16;
/// Calls in a row, at most: whoever floods the socket does not keep it from sending.
const CALLS_MAX: usize = 64;
/// The longest sleep: a stop is noticed at the latest after it.
const SLEEP_MAX: Duration = Duration::from_millis(50);
/// Parts of the timeout after which the flow is asked what has expired.
const EXPIRY_STEPS: u64 = 64;

/// Something that is told when it happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A gap is over.
    Gap(Gap),
    /// The server tells something else than before.
    Change(Change),
}

/// Everything that a watch needs.
pub(crate) struct Watcher {
    flow: Flow,
    schedule: Schedule,
    sender: Sender,
    classifier: Classifier,
    inbox: Inbox,
    /// Buffers that have been classified and are not given back yet.
    used: Vec<Lease>,
    timeline: Timeline,
    timeout_ns: u64,
    asking_run: Option<u64>,
    start_ns: u64,
    expiry_ns: u64,
    /// When nothing was due any more.
    over_ns: Option<u64>,
    /// What was counted since it was taken last.
    pub(crate) stats: Stats,
    /// When there were answers.
    pub(crate) continuity: Continuity,
    /// What the server tells.
    pub(crate) told: Told,
    /// Datagrams that were not sent since this process did not run when they were due.
    pub(crate) skipped: u64,
    events: Vec<Event>,
}

impl Watcher {
    /// Opens the socket; the first datagram is due now.
    ///
    /// # Errors
    /// EADDRINUSE where the port is taken, ENOMEM.
    pub(crate) fn open(plan: &Plan) -> Result<Self, Error> {
        let mut flow = Flow::open_all(plan)?.remove(0);
        flow.start_counting();
        let memory = |e: io::Error| Error::system("cannot make buffers", &e);
        let session = fastrand::u32(..);
        let mut sender = Sender::new(plan, session, plan.seed).map_err(memory)?;
        sender.is_counting = true;
        let leases = Lease::carve(INBOX as u16, RECEIVE_MAX, RECEIVE_MAX as usize + 1);
        // Sleeps end when they are to, not up to 50 µs later (prctl(2), PR_SET_TIMERSLACK).
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let timeline = Timeline::start();
        let classifier = Classifier::new(plan.target, session, plan.timeout_ns());
        Ok(Self {
            flow,
            schedule: Schedule::new(shape(plan)),
            sender,
            classifier: classifier.asking(plan.asking_run),
            inbox: Inbox::new(leases.map_err(memory)?, INBOX),
            used: Vec::with_capacity(INBOX),
            timeline,
            timeout_ns: plan.timeout_ns(),
            asking_run: plan.asking_run,
            start_ns: timeline.now_ns(),
            expiry_ns: 0,
            over_ns: None,
            stats: Stats::new(),
            continuity: Continuity::default(),
            told: Told::default(),
            skipped: 0,
            events: Vec::new(),
        })
    }

    /// The port that it asks from.
    pub(crate) fn port(&self) -> u16 {
        self.flow.port
    }

    /// Now, nanoseconds of `CLOCK_REALTIME`.
    pub(crate) fn now_ns(&self) -> u64 {
        self.timeline.now_ns()
    }

    /// How long it has sent.
    pub(crate) fn seconds(&self) -> f64 {
        let until_ns = self.over_ns.unwrap_or_else(|| self.now_ns());
        until_ns.saturating_sub(self.start_ns) as f64 / 1e9
    }

    /// Ends the schedule; what is open is still waited for.
    pub(crate) fn stop(&mut self) {
        self.schedule
            .stop(self.now_ns().saturating_sub(self.start_ns));
    }

    /// Receives, sends what is due, and sleeps until something is due again. Returns whether there
    /// is more to do.
    pub(crate) fn step(&mut self, on_event: &mut impl FnMut(Event)) -> bool {
        // What is answered by now is read, so it is not given up.
        let now_ns = self.now_ns();
        self.receive();
        self.send();
        if now_ns >= self.expiry_ns {
            self.expire(now_ns);
        }
        let horizon_ns = now_ns.saturating_sub(self.timeout_ns);
        let events = &mut self.events;
        self.continuity
            .settle(horizon_ns, &mut |gap| events.push(Event::Gap(gap)));
        self.events.drain(..).for_each(on_event);
        let now_ns = self.now_ns();
        let next_ns = self.schedule.next_ns(now_ns.saturating_sub(self.start_ns));
        if next_ns.is_none() {
            self.over_ns.get_or_insert(now_ns);
            if self.continuity.is_settled() {
                return false;
            }
        }
        let until_ns = next_ns.map_or(self.expiry_ns, |it| self.start_ns + it);
        let left = Duration::from_nanos(until_ns.saturating_sub(now_ns));
        thread::sleep(left.min(SLEEP_MAX));
        true
    }

    /// The end: all that is open is unanswered.
    pub(crate) fn end(&mut self, on_event: &mut impl FnMut(Event)) {
        self.receive();
        let now_ns = self.now_ns();
        self.stats.counters.given_up += self.flow.track.expire_all();
        self.stats.counters.receive_drops += u64::from(self.flow.drops());
        self.flow.take_errors(self.sender.step_ns, &mut self.stats);
        let events = &mut self.events;
        self.continuity
            .end(now_ns, &mut |gap| events.push(Event::Gap(gap)));
        self.events.drain(..).for_each(on_event);
    }

    fn send(&mut self) {
        let at_ns = self.now_ns().saturating_sub(self.start_ns);
        let mut skipped = self.schedule.skip(at_ns);
        self.skipped += skipped;
        let before = self.flow.track.next();
        let (flow, schedule) = (&mut self.flow, &mut self.schedule);
        let timeline = &self.timeline;
        self.sender
            .send(flow, schedule, timeline, self.start_ns, &mut self.stats);
        // One that the kernel refused has no answer either.
        for _ in before..self.flow.track.next() {
            let sent_ns = self.sender.last_sent_ns.max(self.start_ns + at_ns);
            self.continuity.sent(sent_ns, std::mem::take(&mut skipped));
        }
    }

    fn receive(&mut self) {
        for _ in 0..CALLS_MAX {
            match self.inbox.receive(self.flow.as_fd()) {
                Ok(count) => {
                    (0..count).for_each(|_| self.take());
                    while let Some(lease) = self.used.pop() {
                        self.inbox.recycle(lease);
                    }
                    if count < INBOX {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // An ICMP error about an earlier datagram makes one call fail.
                Err(_) => {
                    self.flow.take_errors(self.sender.step_ns, &mut self.stats);
                }
            }
        }
    }

    fn take(&mut self) {
        let (lease, incoming) = self.inbox.take();
        let step_ns = self.sender.step_ns;
        let response = response(self.flow.id, &lease, &incoming, step_ns, &self.timeline);
        let Self {
            classifier,
            flow,
            stats,
            continuity,
            told,
            events,
            asking_run,
            ..
        } = self;
        let each = &mut |right: Right<'_>| {
            let numbers = right.first..right.first + right.count;
            if right.is_first {
                numbers.for_each(|it| continuity.answer(it));
            }
            let info = echo_info::told(right.datagram);
            let is_ours = |it: &echo_info::EchoInfo| Some(it.run) == *asking_run;
            if let Some(info) = info.filter(is_ours) {
                let on_change = &mut |it: &Change| events.push(Event::Change(it.clone()));
                told.answer(&info, right.is_first, response.received_ns, on_change);
            }
        };
        classifier.classify_each(&response, &mut flow.track, stats, each);
        self.used.push(lease);
    }

    /// Gives up what is older than the timeout, and looks whether the clock was set.
    fn expire(&mut self, now_ns: u64) {
        self.expiry_ns = now_ns + self.timeout_ns / EXPIRY_STEPS;
        self.stats.counters.given_up += self.flow.track.expire(now_ns);
        self.flow.give_up_stamps(now_ns);
        self.sender.step_ns = self.timeline.step_ns();
    }
}

fn shape(plan: &Plan) -> Shape {
    Shape {
        rate: plan.offer.rate,
        burst: 1,
        poisson: false,
        seed: plan.seed,
        phase: 0.0,
        warmup_ns: 0,
        duration_ns: plan.offer.duration.map(|it| it.as_nanos() as u64),
        count: plan.offer.count,
    }
}
