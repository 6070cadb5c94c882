//! `reflector watch`: one datagram after another while something else restarts, and when there were
//! no answers. The sender, the sockets and the classification are those of `load`.

mod continuity;
mod options;
mod report;
mod told;
mod watched;
mod watcher;

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::counted::Counted;
use crate::options::{Options, Rate, Sizes};
use crate::plan::{Offer, Plan};
use crate::signals;
use crate::socket;
use crate::stats::Stats;
use crate::totals::Totals;
use crate::wire::HEADER_LEN;
use continuity::GapReport;
pub use options::WatchOptions;
use reflector_measure::clock::{self, Span};
use reflector_measure::echo_info::BLOCK_LEN;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::handover::Counters as _;
use reflector_measure::json::write_line;
use reflector_measure::output::written;
use reflector_measure::text;
use report::{Ready, Summary, change_line, gap_line};
pub use watched::Watched;
use watcher::{Event, Watcher};

/// How often the line at a terminal changes.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// Back to the first column, and clear the line.
const CLEAR: &str = "\r\x1b[K";

/// Who is told how a watch goes.
pub type Observe<'a> = &'a mut dyn FnMut(&Watched);

/// Watches the target, and says how to end. Tells `observe` how it goes, once before it begins and
/// at the end of each interval, or second where none is set.
///
/// # Errors
/// A target that cannot be found or reached, a port that is taken, a report that cannot be written.
pub fn watch(options: &WatchOptions, observe: Option<Observe<'_>>) -> Result<Exit, Error> {
    let plan = plan(options)?;
    for warning in plan.warnings.iter().chain(&socket::warnings(&plan)?) {
        tracing::warn!("{warning}");
    }
    let stop = signals::stop_flag()?;
    let mut watcher = Watcher::open(&plan)?;
    let stdout = io::stdout();
    let is_live = io::stderr().is_terminal() && !options.json && options.interval.is_none();
    let mut reporter = Reporter {
        width: text::width(&stdout),
        is_json: options.json,
        is_live,
        is_drawn: false,
        max_gap: options.max_gap.unwrap_or(Duration::ZERO),
        out: stdout.lock(),
        failed: None,
    };
    reporter.ready(&Ready {
        target: plan.target_name.clone(),
        address: plan.target,
        source_port: watcher.port(),
        every_ms: options.every.as_secs_f64() * 1e3,
        timeout_ms: plan.timeout.as_secs_f64() * 1e3,
    });
    let summary = follow(options, &plan, &mut watcher, &stop, &mut reporter, observe);
    reporter.summary(&summary);
    reporter.failed.map_or(Ok(summary.exit()), Err)
}

/// Runs the watch to its end.
fn follow(
    options: &WatchOptions,
    plan: &Plan,
    watcher: &mut Watcher,
    stop: &AtomicBool,
    reporter: &mut Reporter<impl Write>,
    mut observe: Option<Observe<'_>>,
) -> Summary {
    let mut total = Stats::new();
    if let Some(observe) = &mut observe {
        observe(&watched(watcher, &total));
    }
    let start = clock::monotonic();
    let every = options.interval.unwrap_or(LIVE_EVERY);
    let (mut since, mut due) = (start, start + every);
    let mut is_stopped = false;
    while watcher.step(&mut |event| reporter.event(&event)) {
        let now = clock::monotonic();
        if !is_stopped && (stop.load(Ordering::Relaxed) || reporter.failed.is_some()) {
            is_stopped = true;
            watcher.stop();
        }
        if now < due {
            continue;
        }
        total.add(&watcher.stats);
        if reporter.is_live || observe.is_some() {
            let watched = watched(watcher, &total);
            if let Some(observe) = &mut observe {
                observe(&watched);
            }
            reporter.live(&watched, now.duration_since(start));
        }
        if options.interval.is_some() {
            reporter.interval(&interval(plan, &watcher.stats, since, now));
        }
        watcher.stats.reset();
        since = now;
        // Those that were missed are not made up for.
        due = (due + every).max(now);
    }
    watcher.end(&mut |event| reporter.event(&event));
    total.add(&watcher.stats);
    let mut totals = Totals::new(plan, &plan.offer, &total, watcher.seconds());
    totals.span = Span::between(start, clock::monotonic());
    let continuity = &watcher.continuity;
    let told = watcher.told.summary(continuity.unanswered);
    let mut summary = Summary::new(options, plan, totals, continuity, told);
    summary.skipped = watcher.skipped;
    summary.interrupted = is_stopped;
    summary
}

/// How it goes, after `total` was counted.
fn watched(watcher: &Watcher, total: &Stats) -> Watched {
    let continuity = &watcher.continuity;
    let longest_ns = continuity.longest.map_or(0, |it| it.length_ns());
    let silent_ns = continuity
        .silent_since_ns()
        .map_or(0, |since_ns| watcher.now_ns().saturating_sub(since_ns));
    let mut counted = Counted::new();
    counted.add(total);
    Watched {
        counted,
        unanswered: continuity.unanswered,
        gaps: continuity.gaps,
        gaps_length: Duration::from_nanos(continuity.gaps_ns),
        longest_gap: Duration::from_nanos(longest_ns),
        silent: Duration::from_nanos(silent_ns),
    }
}

fn interval(plan: &Plan, stats: &Stats, since: Instant, now: Instant) -> Totals {
    let seconds = now.duration_since(since).as_secs_f64();
    Totals {
        span: Span::between(since, now),
        ..Totals::new(plan, &plan.offer, stats, seconds)
    }
}

/// The same as a load of one flow, whose probes ask how they are seen.
fn plan(options: &WatchOptions) -> Result<Plan, Error> {
    let mut of_load = Options::new(options.target.clone());
    of_load.rate = Some(Rate::Pps(1.0 / options.every.as_secs_f64()));
    of_load.size = Sizes(vec![((HEADER_LEN + BLOCK_LEN) as u16, 1)]);
    of_load.flows = 1;
    of_load.gso = false;
    of_load.bind = options.bind.clone();
    of_load.avoided_ports = options.avoided_ports.clone();
    of_load.timeout = options.timeout;
    of_load.duration = options.duration;
    of_load.json = options.json;
    let mut plan = Plan::new(&of_load)?;
    plan.offer = Offer {
        duration: options.duration,
        count: options.count,
        ..plan.offer
    };
    if let Some(port) = options.source_port {
        plan.bind.set_port(port);
        plan.avoided_ports.clear();
    }
    plan.asking_run = Some(fastrand::u64(..));
    Ok(plan)
}

/// Writes what happens. The first error of writing ends the watch.
struct Reporter<W> {
    out: W,
    width: usize,
    is_json: bool,
    is_live: bool,
    /// Whether a line on stderr is to be cleared.
    is_drawn: bool,
    /// Only gaps that are longer are told when they end.
    max_gap: Duration,
    failed: Option<Error>,
}

impl<W: Write> Reporter<W> {
    fn ready(&mut self, ready: &Ready) {
        let result = match self.is_json {
            true => write_line(&mut self.out, "ready", ready),
            false => self.text(&ready.sentence(self.width)),
        };
        self.written(result);
    }

    fn event(&mut self, event: &Event) {
        self.clear();
        let result = match (event, self.is_json) {
            (Event::Gap(gap), _) if u128::from(gap.length_ns()) <= self.max_gap.as_nanos() => {
                Ok(())
            }
            (Event::Gap(gap), true) => write_line(&mut self.out, "gap", &GapReport::from(*gap)),
            (Event::Gap(gap), false) => self.text(&gap_line(gap)),
            (Event::Change(change), true) => write_line(&mut self.out, "change", change),
            (Event::Change(change), false) => self.text(&change_line(change)),
        };
        self.written(result);
    }

    fn interval(&mut self, totals: &Totals) {
        let result = match self.is_json {
            true => write_line(&mut self.out, "interval", totals),
            false => self.text(&format!(
                "sent {}  answered {}  p50 {:.1} us\n",
                totals.sent, totals.received, totals.rtt_uncorrected_us.p50
            )),
        };
        self.written(result);
    }

    fn summary(&mut self, summary: &Summary) {
        self.clear();
        let result = match self.is_json {
            true => write_line(&mut self.out, "summary", summary),
            false => self.text(&summary.page(self.width)),
        };
        self.written(result);
    }

    /// Shows on a terminal how far it is.
    fn live(&mut self, watched: &Watched, passed: Duration) {
        if !self.is_live {
            return;
        }
        let mut line = format!(
            "{:>4} s  sent {}  unanswered {}  gaps {}  longest {:.1} ms",
            passed.as_secs(),
            watched.counted.sent,
            watched.unanswered,
            watched.gaps,
            watched.longest_gap.as_secs_f64() * 1e3,
        );
        if watched.silent >= LIVE_EVERY {
            line += &format!("  silent for {} s", watched.silent.as_secs());
        }
        // A line that is longer than the terminal could not be cleared.
        let mut stderr = io::stderr();
        let room = text::width(&stderr).saturating_sub(1);
        let line: String = line.chars().take(room).collect();
        // What cannot be written is not missed.
        let _ = write!(stderr, "{CLEAR}{line}").and_then(|()| stderr.flush());
        self.is_drawn = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let mut stderr = io::stderr();
            let _ = write!(stderr, "{CLEAR}").and_then(|()| stderr.flush());
        }
    }

    fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }

    fn written(&mut self, result: io::Result<()>) {
        if let Err(error) = written(result) {
            self.failed.get_or_insert(error);
        }
    }
}
