//! The options of reports and log, as typed, and what they come to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reflector::config::Builder;
use reflector_measure::duration;

use super::values::{LatencySource, LogFormat};
use crate::metrics;

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct OutputArgs {
    /// Time between reports; 0 reports only at the end
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    /// Run for this long, then end as on SIGTERM [default: until stopped]
    #[arg(short, long, value_name = "TIME", value_parser = duration::parse)]
    duration: Option<Duration>,
    /// Report as JSON lines instead of columns
    #[arg(short, long)]
    pub json: bool,
    /// Residence times: kernel, wire or off
    ///
    /// The residence time begins with the kernel's receive timestamp. With 'kernel' it ends just
    /// before the reply is handed over; with 'wire' when the kernel hands it to the device, which
    /// is measured of one reply or train in 64 and needs Linux 6.12. 'off' does not measure it.
    #[arg(
        long,
        value_enum,
        value_name = "kernel|wire|off",
        hide_possible_values = true
    )]
    #[arg(default_value_t = LatencySource::Kernel)]
    latency: LatencySource,
    /// Write residence times to FILE, as an HdrHistogram log
    ///
    /// A V2 interval log, in nanoseconds, for 'reflector report' and other tools. It is appended to
    /// what FILE holds. FILE may be emptied meanwhile, and has one writer at a time.
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Answer with metrics for Prometheus at ADDR:PORT, over HTTP
    ///
    /// At /metrics, in the OpenMetrics text format; /livez says whether every worker gives signs of
    /// life, /readyz whether peers may be sent here, which ends at SIGTERM. A port alone is one of
    /// 127.0.0.1.
    #[arg(long, value_name = "ADDR:PORT", value_parser = metrics::address)]
    pub metrics: Option<SocketAddr>,
    /// Format of the log on stderr
    #[arg(
        long,
        value_enum,
        value_name = "text|json",
        hide_possible_values = true
    )]
    #[arg(default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Log more, such as the memory budget and the set-up of each worker
    #[arg(short, long)]
    pub verbose: bool,
}

impl OutputArgs {
    /// Takes over what the options say.
    pub fn apply(&self, mut builder: Builder) -> Builder {
        if let Some(duration) = self.duration {
            builder = builder.duration(duration);
        }
        builder
            .interval(Some(self.interval))
            .latency(self.latency != LatencySource::Off)
            .wire_latency(self.latency == LatencySource::Wire)
    }
}
