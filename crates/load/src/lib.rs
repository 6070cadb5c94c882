//! `reflector load`: sends probes to any UDP echo service and tells what comes back, when, and from
//! where.
//!
//! Goals: a stall of the target shows in the latency of everything that was due meanwhile (open
//! loop, times from the schedule); a lost datagram stalls nothing and takes at least its timeout;
//! every answer is told by where it came from; the generator measures itself, and says when it, and
//! not the target, was the limit. One core keeps one core of reflector busy.
//!
//! Not here: halved round trips, guesses where a datagram was lost that nobody reported, and any
//! code of the reflector: what measures shares nothing with what is measured.
//!
//! A `plan` is run (`run`) by workers. A `worker` sends through its `sender` what its `schedule`
//! says is due, and has what comes back classified (`classify`) and accounted for in the `track` of
//! its `flow` and in the `stats`. The `summary` draws the conclusions, the `report` writes them, to
//! people as a `page`, and `progress` is shown meanwhile. `find_rate` does it again and again.
//!
//! [`watch`] has a loop of its own around the same flow, sender and classification: it sends
//! seldom, sleeps in between, and tells when there were no answers.

#![forbid(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod addresses;
pub mod options;
mod plan;
mod run;

mod control;
mod device;
mod ended;
mod socket;
mod start_line;
mod worker;

mod mix;
mod schedule;
mod sender;

mod classify;
mod flow;
mod response;
mod track;
pub mod wire;

pub mod counted;
mod gaps;
mod host_loss;
mod kept;
mod missing;
mod stats;

mod find_rate;
mod summary;
mod totals;
mod verdicts;

mod watch;

mod page;
mod progress;
mod ready;
mod report;
mod signals;

pub use watch::{Observe, WatchOptions, Watched, watch};

use std::io::{self, IsTerminal};
use std::sync::atomic::AtomicBool;

use counted::Counted;
use find_rate::{Found, Goal, Step, Trial};
use options::{Options, Rate};
use plan::{Offer, Plan};
use progress::{Mode, Progress};
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::hdr_log::{Earlier, HdrLog, ROUND_TRIPS};
use reflector_measure::text;
use report::{Form, Reporter};
use run::{Interval, measure};
use summary::Summary;

/// Times that a target is asked for a first answer before a search. A neighbour is looked for three
/// times, a second each.
const WAKING_TRIES: usize = 4;

/// Does what `options` ask for, and says how to end. Tells `observe` what has been counted, once
/// before it begins and at the end of each interval, or second where none is set.
///
/// # Errors
/// Options that contradict each other, a target that cannot be found or reached, sockets that this
/// user or host cannot have, a report or log that cannot be written. Each says what to try.
pub fn run(options: &Options, observe: &mut dyn FnMut(&Counted)) -> Result<Exit, Error> {
    let plan = Plan::new(options)?;
    for warning in plan.warnings.iter().chain(&socket::warnings(&plan)?) {
        tracing::warn!("{warning}");
    }
    let stop = signals::stop_flag()?;
    let (stdout, stderr) = (io::stdout(), io::stderr());
    let form = if plan.json {
        Form::Json
    } else {
        Form::Page(text::width(&stdout))
    };
    let mode = Mode::new(&plan, stderr.is_terminal());
    let width = text::width(&stderr);
    let mut reporter = Reporter::new(stdout.lock(), form);
    let mut progress = Progress::new(stderr, mode, width);
    let create = |path| HdrLog::create(path, ROUND_TRIPS, Earlier::IsReplaced);
    let log = plan.hdr.as_deref().map(create).transpose()?;
    if let Some(remark) = log.as_ref().and_then(HdrLog::remark) {
        tracing::warn!("{remark}");
    }
    reporter.ready(&plan)?;
    let mut counted = Counted::new();
    observe(&counted);
    let mut watch = |interval: &Interval<'_>| {
        counted.add(interval.stats);
        observe(&counted);
    };
    match plan.find_rate {
        Some(max_loss) => find(
            &plan,
            max_loss,
            &stop,
            &mut reporter,
            &mut progress,
            &mut watch,
        ),
        None => load(&plan, log, &stop, &mut reporter, &mut progress, &mut watch),
    }
}

/// What sees each interval, before it is reported.
type Watch<'a> = dyn FnMut(&Interval<'_>) + 'a;

fn load(
    plan: &Plan,
    mut log: Option<HdrLog>,
    stop: &AtomicBool,
    reporter: &mut Reporter<impl io::Write>,
    progress: &mut Progress<impl io::Write>,
    watch: &mut Watch<'_>,
) -> Result<Exit, Error> {
    let measured = measure(plan, &plan.offer, stop, &mut |interval: &Interval<'_>| {
        if let Some(log) = &mut log {
            let times_ns = interval.stats.rtt_with_losses_ns(plan.timeout_ns());
            log.write(&times_ns, interval.span.start_unix_seconds, interval.length)?;
        }
        watch(interval);
        progress.interval(plan, &plan.offer, interval);
        reporter.interval(plan, &plan.offer, interval)
    });
    progress.clear();
    let outcome = measured?;
    let summary = Summary::new(plan, &plan.offer, &outcome);
    reporter.summary(plan, &summary, &outcome)?;
    Ok(summary.exit())
}

fn find(
    plan: &Plan,
    max_loss: f64,
    stop: &AtomicBool,
    reporter: &mut Reporter<impl io::Write>,
    progress: &mut Progress<impl io::Write>,
    watch: &mut Watch<'_>,
) -> Result<Exit, Error> {
    let goal = Goal {
        ceiling: plan.offer.rate,
        max_loss,
        seconds: plan.offer.duration.map_or(1.0, |it| it.as_secs_f64()),
    };
    wake(plan, stop)?;
    let mut is_first = true;
    let found: Found = find_rate::search(&goal, |rate| {
        let offer = Offer { rate, ..plan.offer };
        let measured = measure(plan, &offer, stop, &mut |interval: &Interval<'_>| {
            watch(interval);
            progress.interval(plan, &offer, interval);
            reporter.interval(plan, &offer, interval)
        });
        progress.clear();
        let outcome = measured?;
        let summary = Summary::new(plan, &offer, &outcome);
        if outcome.is_interrupted {
            return Ok(Trial::Stopped);
        }
        match summary.exit() {
            exit @ (Exit::WrongSource | Exit::Unanswered | Exit::Failed) => {
                Ok(Trial::Hopeless(exit, summary.notes))
            }
            _ => {
                let step = Step::new(&summary, max_loss);
                reporter.step(&step, std::mem::take(&mut is_first))?;
                Ok(Trial::Measured(step))
            }
        }
    })?;
    reporter.found(&found)?;
    Ok(found.exit)
}

/// Asks until the target has answered once, so that no step pays for what only a first datagram
/// waits for, such as a neighbour that has to be found (ARP, ND). A warm-up does the same.
fn wake(plan: &Plan, stop: &AtomicBool) -> Result<(), Error> {
    let offer = Offer {
        rate: Rate::Pps(1000.0),
        duration: None,
        count: Some(1),
    };
    if !plan.warmup.is_zero() {
        return Ok(());
    }
    for _ in 0..WAKING_TRIES {
        let outcome = measure(plan, &offer, stop, &mut |_| Ok(()))?;
        let counters = &outcome.stats.counters;
        let is_told = counters.wrong_source.total() > 0 || !counters.icmp.is_empty();
        if counters.received > 0 || is_told || outcome.is_interrupted {
            break;
        }
    }
    Ok(())
}
