//! What people and programs read: aligned columns, or JSON lines.
//!
//! `received` and `replied` count datagrams, not buffers. Every JSON object carries its type and
//! the schema's version; every latency carries its unit in the key.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use hdrhistogram::Histogram;
use serde::Serialize;

use reflector_measure::errno;
use reflector_measure::json::SCHEMA;

use super::Stats;
use super::counters::Counters;

/// The reflector is listening: every worker has an armed receive on each of its sockets.
#[derive(Clone, Debug, Serialize)]
pub struct Ready {
    /// Where.
    pub listen: Vec<SocketAddr>,
    /// How many workers.
    pub workers: usize,
    /// Which engine.
    pub engine: &'static str,
    /// Why it is not the preferred one.
    pub engine_reason: Option<String>,
    /// What is answered.
    pub mode: &'static str,
    /// Effective receive buffer of each socket, as the kernel counts it.
    pub receive_buffer_bytes: usize,
    /// Effective send buffer of each socket.
    pub send_buffer_bytes: usize,
}

/// Residence times in microseconds; zero where `count` is.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Residence {
    /// Datagrams measured.
    pub count: u64,
    /// Shortest.
    pub min: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p99_9: f64,
    /// Longest.
    pub max: f64,
}

impl Residence {
    fn new(histogram: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min: us(histogram.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: us(histogram.max()),
        }
    }
}

/// What the kernel lost before it reached us or after it left us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KernelLoss {
    /// Datagrams dropped at our sockets, for want of receive buffer.
    pub kernel_drops: u64,
    /// The host's UDP `SndbufErrors`, ours and others': datagrams that a full device queue lost
    /// after their send had succeeded count here.
    pub sndbuf_errors: u64,
}

/// Counts over some time.
#[derive(Clone, Debug, Serialize)]
pub struct Totals {
    /// How long.
    pub seconds: f64,
    /// Datagrams received.
    pub received: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Received and not yet counted as anything else, at the end of the time.
    pub in_flight: u64,
    /// Payload bytes received.
    pub bytes_received: u64,
    /// Payload bytes of replies.
    pub bytes_replied: u64,
    /// Datagrams without a reply, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Replies that the kernel refused, by error.
    pub send_errors: BTreeMap<String, u64>,
    /// What the kernel lost.
    #[serde(flatten)]
    pub kernel: KernelLoss,
    /// Buffers received with several datagrams.
    pub trains_received: u64,
    /// Replies sent as trains.
    pub trains_sent: u64,
    /// Trains refused by the kernel, sent datagram by datagram.
    pub trains_refused: u64,
    /// Receives that brought something.
    pub batches: u64,
    /// Residence times lost to a clock that was set.
    pub clock_stepped: u64,
    /// How long datagrams stayed.
    pub residence_us: Residence,
}

impl Totals {
    /// The counts in `stats`, taken over `seconds`.
    pub fn new(seconds: f64, stats: &Stats, in_flight: u64, kernel: KernelLoss) -> Self {
        let counters = &stats.counters;
        Self {
            seconds,
            received: counters.received,
            replied: counters.replied,
            in_flight,
            bytes_received: counters.bytes_received,
            bytes_replied: counters.bytes_replied,
            dropped: counters
                .dropped()
                .map(|(reason, count)| (reason.name(), count))
                .collect(),
            send_errors: counters
                .send_errors()
                .map(|(errno, n)| (errno::name(errno), n))
                .collect(),
            kernel,
            trains_received: counters.trains_received,
            trains_sent: counters.trains_sent,
            trains_refused: counters.trains_refused,
            batches: counters.batches,
            clock_stepped: counters.clock_stepped,
            residence_us: Residence::new(stats.latency.residence_ns()),
        }
    }
}

/// One worker's part of the summary.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WorkerShare {
    /// Its number.
    pub worker: usize,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Datagrams received.
    pub received: u64,
    /// Replies that the kernel took.
    pub replied: u64,
    /// Receives that brought something.
    pub batches: u64,
    /// Datagrams that the kernel dropped at its sockets.
    pub kernel_drops: u64,
}

impl WorkerShare {
    /// The share in `counters`.
    pub fn new(worker: usize, cpu: Option<usize>, counters: &Counters, kernel_drops: u64) -> Self {
        let &Counters {
            received,
            replied,
            batches,
            ..
        } = counters;
        Self {
            worker,
            cpu,
            received,
            replied,
            batches,
            kernel_drops,
        }
    }
}

/// Everything since the start, in all and by worker.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// In all.
    #[serde(flatten)]
    pub totals: Totals,
    /// By worker.
    pub per_worker: Vec<WorkerShare>,
}

/// What is reported.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report<'a> {
    /// Listening.
    Ready(&'a Ready),
    /// Counts of an interval.
    Interval(&'a Totals),
    /// Counts since the start.
    Summary(&'a Summary),
}

#[derive(Serialize)]
struct Line<'a> {
    schema: u32,
    #[serde(flatten)]
    report: Report<'a>,
}

/// Writes reports, for people or for programs.
pub struct Reporter<W> {
    out: W,
    json: bool,
    lines_since_header: usize,
}

/// Interval lines between two headers.
const HEADER_EVERY: usize = 20;

impl<W: Write> Reporter<W> {
    /// A reporter that writes JSON lines or columns to `out`.
    pub fn new(out: W, json: bool) -> Self {
        Self {
            out,
            json,
            lines_since_header: 0,
        }
    }

    /// Writes one report. An idle interval is worth no line to a person.
    ///
    /// # Errors
    /// What writing says.
    pub fn write(&mut self, report: Report<'_>) -> io::Result<()> {
        if self.json {
            serde_json::to_writer(
                &mut self.out,
                &Line {
                    schema: SCHEMA,
                    report,
                },
            )?;
            writeln!(self.out)?;
        } else {
            match report {
                Report::Ready(ready) => self.write_ready(ready)?,
                Report::Interval(totals) => self.write_interval(totals)?,
                Report::Summary(summary) => self.write_summary(summary)?,
            }
        }
        self.out.flush()
    }

    fn write_ready(&mut self, ready: &Ready) -> io::Result<()> {
        let listen: Vec<_> = ready.listen.iter().map(SocketAddr::to_string).collect();
        let workers = if ready.workers == 1 {
            "worker"
        } else {
            "workers"
        };
        writeln!(
            self.out,
            "ready: {} on {}, {} {workers}, engine {}",
            ready.mode,
            listen.join(" and "),
            ready.workers,
            ready.engine,
        )
    }

    fn write_interval(&mut self, totals: &Totals) -> io::Result<()> {
        let is_idle = totals.received == 0 && totals.kernel == KernelLoss::default();
        if is_idle {
            return Ok(());
        }
        if self.lines_since_header == 0 {
            writeln!(
                self.out,
                "{:>12} {:>12} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
                "received/s",
                "replied/s",
                "Gbit/s",
                "dropped",
                "errors",
                "lost",
                "p50 us",
                "p99 us",
                "p99.9 us"
            )?;
        }
        self.lines_since_header = (self.lines_since_header + 1) % HEADER_EVERY;
        let per_second = |count: u64| count as f64 / totals.seconds;
        writeln!(
            self.out,
            "{:>12.0} {:>12.0} {:>8.3} {:>9} {:>9} {:>9} {:>9.1} {:>9.1} {:>9.1}",
            per_second(totals.received),
            per_second(totals.replied),
            per_second(totals.bytes_replied * 8) / 1e9,
            totals.dropped.values().sum::<u64>(),
            totals.send_errors.values().sum::<u64>(),
            totals.kernel.kernel_drops,
            totals.residence_us.p50,
            totals.residence_us.p99,
            totals.residence_us.p99_9,
        )
    }

    fn write_summary(&mut self, summary: &Summary) -> io::Result<()> {
        let totals = &summary.totals;
        let per_second = |count: u64| count as f64 / totals.seconds.max(f64::MIN_POSITIVE);
        let out = &mut self.out;
        writeln!(out, "\nsummary of {:.3} s", totals.seconds)?;
        for (name, count, bytes) in [
            ("received", totals.received, totals.bytes_received),
            ("replied", totals.replied, totals.bytes_replied),
        ] {
            let rate = per_second(count);
            writeln!(
                out,
                "  {name:<18}{count:>14}  {rate:>14.0} /s  {bytes:>16} bytes"
            )?;
        }
        for (reason, count) in totals.dropped.iter().filter(|&(_, &count)| count > 0) {
            writeln!(out, "  {:<18}{count:>14}  {reason}", "dropped")?;
        }
        for (errno, count) in &totals.send_errors {
            writeln!(out, "  {:<18}{count:>14}  {errno}", "send errors")?;
        }
        for (name, count) in [
            ("kernel drops", totals.kernel.kernel_drops),
            ("sndbuf errors", totals.kernel.sndbuf_errors),
            ("trains received", totals.trains_received),
            ("trains sent", totals.trains_sent),
            ("trains refused", totals.trains_refused),
            ("clock stepped", totals.clock_stepped),
        ] {
            writeln!(out, "  {name:<18}{count:>14}")?;
        }
        let us = &totals.residence_us;
        if us.count > 0 {
            writeln!(
                out,
                "  residence us      min {:.1}  p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}",
                us.min, us.p50, us.p90, us.p99, us.p99_9, us.max
            )?;
        }
        for share in &summary.per_worker {
            let of_all = 100.0 * share.received as f64 / totals.received.max(1) as f64;
            let cpu = share
                .cpu
                .map_or("not pinned".to_owned(), |cpu| format!("cpu {cpu}"));
            writeln!(
                out,
                "  worker {:<3} {cpu:<10} {:>11} received {of_all:>6.1} %  {:>11} replied  {:>9} \
                 batches  {:>9} kernel drops",
                share.worker, share.received, share.replied, share.batches, share.kernel_drops
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagram::DropReason;

    fn totals() -> Totals {
        let mut stats = Stats::new();
        stats.counters.receive(32, 2048);
        stats.counters.reply(30, 1920);
        stats.counters.drop(DropReason::NotAllowed, 1);
        stats.counters.send_error(libc::ENETUNREACH, 1);
        stats.latency.record(5_000, 30);
        Totals::new(
            2.0,
            &stats,
            stats.counters.in_flight(),
            KernelLoss::default(),
        )
    }

    fn written(report: Report<'_>, json: bool) -> String {
        let mut reporter = Reporter::new(Vec::new(), json);
        reporter.write(report).unwrap();
        String::from_utf8(reporter.out).unwrap()
    }

    #[test]
    fn json_lines_say_type_schema_and_every_reason() {
        let text = written(Report::Interval(&totals()), true);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&value["type"], &value["schema"]),
            (&"interval".into(), &1.into())
        );
        assert_eq!(value["received"], 32);
        assert_eq!(value["dropped"]["not_allowed"], 1);
        assert_eq!(
            value["dropped"].as_object().unwrap().len(),
            DropReason::ALL.len()
        );
        assert_eq!(value["send_errors"]["ENETUNREACH"], 1);
        assert_eq!(value["residence_us"]["count"], 30);
        assert_eq!(value["in_flight"], 0);
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn people_read_columns_that_line_up() {
        let text = written(Report::Interval(&totals()), false);
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap().len(), lines.next().unwrap().len());
    }

    #[test]
    fn an_idle_interval_is_no_line_for_people_and_one_for_programs() {
        let idle = Totals::new(1.0, &Stats::new(), 0, KernelLoss::default());
        assert_eq!(written(Report::Interval(&idle), false), "");
        assert_eq!(written(Report::Interval(&idle), true).lines().count(), 1);
    }
}
