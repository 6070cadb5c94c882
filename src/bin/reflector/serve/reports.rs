//! Where the reports of a running reflector go.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::accelerate::{Accelerated, InKernel};
use super::outlet::Outlet;
use super::reporter::{Format, Reporter};
use reflector::report::{Interval, Ready, Report, Summary};
use reflector::server::Handle;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::hdr_log::{Earlier, HdrLog, RESIDENCE_TIMES};
use reflector_measure::text;

/// How long the last reports may take to be written, when all else has ended.
const ENDING_MAX: Duration = Duration::from_secs(1);
/// How long the server may take to say how it goes.
const SNAPSHOT_MAX: Duration = Duration::from_secs(1);

/// Where the reports of a server go: stdout, and the histogram log. Each is written by a thread of
/// its own, so that one that is stuck keeps neither the service nor the other.
pub struct Reports {
    stdout: Outlet<Arc<Owned>>,
    log: Option<Outlet<Arc<Owned>>>,
    /// Whether a report could not be written, or the log has ended early.
    is_cut: Arc<AtomicBool>,
    in_kernel: Option<Arc<InKernel>>,
}

/// Creates the histogram log at `path`.
///
/// # Errors
/// `ENOENT`, `EACCES`, `EISDIR` or `EROFS`, with the path.
pub fn open_log(path: &Path) -> Result<HdrLog, Error> {
    let log = HdrLog::create(path, RESIDENCE_TIMES, Earlier::Stays)?;
    if let Some(remark) = log.remark() {
        tracing::info!("{remark}");
    }
    Ok(log)
}

/// A report that outlives what it was made of.
enum Owned {
    Ready(Ready),
    Interval(Interval, Option<Accelerated>),
    Summary(Summary, Option<Accelerated>),
    Snapshot(Summary, Option<Accelerated>),
}

impl Owned {
    fn new(report: Report<'_>, in_kernel: Option<&InKernel>) -> Option<Self> {
        Some(match report {
            Report::Ready(ready) => Self::Ready(ready.clone()),
            Report::Interval(interval) => {
                Self::Interval(interval.clone(), in_kernel.map(InKernel::interval))
            }
            Report::Summary(summary) => {
                Self::Summary(summary.clone(), in_kernel.map(InKernel::total))
            }
            _ => return None,
        })
    }

    fn write<W: Write>(&self, reporter: &mut Reporter<W>) -> io::Result<()> {
        match self {
            Self::Ready(ready) => reporter.write(Report::Ready(ready), None),
            Self::Interval(interval, accelerated) => {
                reporter.write(Report::Interval(interval), accelerated.as_ref())
            }
            Self::Summary(summary, accelerated) => {
                reporter.write(Report::Summary(summary), accelerated.as_ref())
            }
            Self::Snapshot(summary, accelerated) => {
                reporter.write_snapshot(summary, accelerated.as_ref())
            }
        }
    }
}

impl Reports {
    /// Reports in `format`, and into `log` if there is one; what is answered `in_kernel` along with
    /// the rest.
    ///
    /// # Errors
    /// `EAGAIN` where there may be no more threads.
    pub fn start(
        format: Format,
        log: Option<HdrLog>,
        in_kernel: Option<Arc<InKernel>>,
    ) -> Result<Self, Error> {
        let is_cut = Arc::new(AtomicBool::new(false));
        let cannot = |e: io::Error| Error::system("cannot start to report", &e);
        let reporter = Reporter::new(io::stdout(), format, text::width(io::stdout()));
        let stdout = Outlet::open("reports", write_reports(reporter, Arc::clone(&is_cut)));
        let log = log.map(|log| Outlet::open("histogram-log", write_log(log, Arc::clone(&is_cut))));
        Ok(Self {
            stdout: stdout.map_err(cannot)?,
            log: log.transpose().map_err(cannot)?,
            is_cut,
            in_kernel,
        })
    }

    /// Passes one report on to be written. Neither a report nor a log that cannot be written ends
    /// the service: the exit code tells, except where the reader has gone.
    pub fn report(&self, report: Report<'_>) {
        let Some(report) = Owned::new(report, self.in_kernel.as_deref()).map(Arc::new) else {
            return;
        };
        let log = self.log.iter().map(|outlet| ("the histogram log", outlet));
        for (name, outlet) in log.chain([("stdout", &self.stdout)]) {
            if outlet.push(Arc::clone(&report)).is_err() {
                tracing::error!("nobody takes what is written to {name}: reports are lost");
            }
        }
    }

    /// What prints how it goes, when asked to.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots {
            stdout: self.stdout.clone(),
            in_kernel: self.in_kernel.clone(),
        }
    }

    /// How the program ends after all has been served: the last reports are written, if that can
    /// be done within a second.
    pub fn end(self) -> Exit {
        let mut is_complete = true;
        let log = self.log.map(|outlet| ("the histogram log", outlet));
        for (name, outlet) in log.into_iter().chain([("stdout", self.stdout)]) {
            if !outlet.close(ENDING_MAX) {
                tracing::error!("reports are missing in {name}: it did not take them in time");
                is_complete = false;
            }
        }
        if self.is_cut.load(Ordering::Relaxed) || !is_complete {
            Exit::Failed
        } else {
            Exit::Done
        }
    }
}

/// Prints how the server is doing, among its reports.
pub struct Snapshots {
    stdout: Outlet<Arc<Owned>>,
    in_kernel: Option<Arc<InKernel>>,
}

impl Snapshots {
    /// Asks `server`, and prints what it says.
    pub fn print(&self, server: &Handle) {
        // One that starts or ends says nothing, and its next report comes soon.
        let Ok(snapshot) = server.snapshot().recv_timeout(SNAPSHOT_MAX) else {
            return;
        };
        let accelerated = self.in_kernel.as_deref().map(InKernel::total);
        let snapshot = Owned::Snapshot(snapshot.summary, accelerated);
        if self.stdout.push(Arc::new(snapshot)).is_err() {
            tracing::error!("nobody takes what is written to stdout: reports are lost");
        }
    }
}

/// What writes reports with `reporter`.
fn write_reports<W: Write>(
    mut reporter: Reporter<W>,
    is_cut: Arc<AtomicBool>,
) -> impl FnMut(Arc<Owned>) {
    move |report| match report.write(&mut reporter) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            tracing::debug!("nobody reads the reports: {error}");
        }
        // Said once.
        Err(error) if !is_cut.swap(true, Ordering::Relaxed) => {
            let error = Error::system("cannot write the report", &error);
            tracing::error!("{error}; the service goes on");
        }
        _ => {}
    }
}

/// What writes the intervals among the reports to `log`.
fn write_log(log: HdrLog, is_cut: Arc<AtomicBool>) -> impl FnMut(Arc<Owned>) {
    let mut log = Some(log);
    move |report| {
        if let (Some(open), Owned::Interval(interval, _)) = (&mut log, &*report)
            && let Err(error) = open.write(
                interval.residence_ns(),
                interval.totals.span.start_unix_seconds,
                interval.length,
            )
        {
            tracing::error!("{error}; the log ends here, the service goes on");
            log = None;
            is_cut.store(true, Ordering::Relaxed);
        }
    }
}
