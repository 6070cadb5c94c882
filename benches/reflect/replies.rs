//! What a server's part of a reply costs, wherever it is done.
//!
//! What is answered in the kernel is answered by whoever sends, in its time; so the CPU time of
//! all is counted, the generator's too, and what the requests alone cost is taken off: that is
//! read while they are dropped at ingress of the server's device. The client drops the replies in
//! the same way, so that what dropping costs is in both, and the client's own receiving in
//! neither. Since no reply comes back, load comes in bursts: each peer asks, then all wait until
//! any server must be done. Within a burst a server has its batches full.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use reflector_measure::clock;

use super::Series;
use super::contender::{Contender, Kind, YARDSTICK};
use super::drops::Drops;
use super::generator::{Bursts, Load};
use super::measure::{self, Sample};
use super::network::{LINK, Network, SERVER};
use super::output::{Ratios, or_dash};
use super::server::{PORT, Server, first_number};

/// From one burst to the next: a thousand singles take the slowest server 15 ms.
const PERIOD: Duration = Duration::from_millis(20);

/// Measures `contender` under `load` for `duration`, after a fifth of that to get warm.
///
/// # Errors
/// What starting it says; that it does not answer, or not where it was asked to.
pub fn measure(
    network: &Network,
    cpu: usize,
    contender: &Contender,
    load: &Load,
    duration: Duration,
) -> io::Result<Sample> {
    let target = SocketAddr::from((SERVER, PORT));
    let server = match contender.kind {
        Kind::Dropped => None,
        _ => Some(Server::start(&network.server, cpu, contender)?),
    };
    if server.is_some() {
        network
            .client
            .run(|| measure::wait_until_it_answers(target))?;
    }
    let dropped = match server {
        Some(_) => Drops::new(&network.client, "eth0", "sport")?,
        None => Drops::new(&network.server, LINK, "dport")?,
    };
    network.client.run(|| offer(target, load, duration / 5))?;
    let before = dropped.datagrams(load.payload_len)?;
    let cpu_ns = || -> io::Result<u64> {
        let used = server.as_ref().map(Server::usage).transpose()?;
        Ok(used.unwrap_or_default().cpu_ns + softirqs_ns()?)
    };
    let others_ns = cpu_ns()?;
    let (sent, own_ns) = network.client.run(|| offer(target, load, duration))?;
    let whole_ns = own_ns + cpu_ns()?.saturating_sub(others_ns);
    let answered = dropped.datagrams(load.payload_len)?.saturating_sub(before);
    let per_datagram = |ns: u64| ns as f64 / sent.max(1) as f64;
    let mut sample = Sample {
        rate: answered as f64 / duration.as_secs_f64(),
        loss_percent: 100.0 * sent.saturating_sub(answered) as f64 / sent.max(1) as f64,
        whole_ns: per_datagram(whole_ns),
        cpu_ns: per_datagram(whole_ns - own_ns),
        ..Sample::default()
    };
    if let Some(server) = server {
        let end = server.end()?;
        if contender.is_accelerated() && end.accelerated < answered {
            return Err(io::Error::other(format!(
                "{}: of {answered} replies {} came from the kernel",
                contender.name, end.accelerated
            )));
        }
        sample.workers = end.workers;
    }
    Ok(sample)
}

/// Offers `load`; returns how many datagrams that were, and the CPU time that sending took.
fn offer(target: SocketAddr, load: &Load, duration: Duration) -> io::Result<(u64, u64)> {
    let mut bursts = Bursts::new(target, load)?;
    thread::sleep(PERIOD);
    let started_ns = thread_ns()?;
    let start = clock::monotonic();
    let (mut sent, mut due) = (0, Duration::ZERO);
    while due < duration {
        sent += bursts.send();
        due += PERIOD;
        thread::sleep(due.saturating_sub(clock::monotonic().duration_since(start)));
    }
    Ok((sent, thread_ns()? - started_ns))
}

/// CPU time of this thread until it slept last.
fn thread_ns() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(first_number(&text))
}

/// CPU time of the threads that do what interrupts leave to be done, in nanoseconds.
fn softirqs_ns() -> io::Result<u64> {
    let mut total = 0;
    for process in fs::read_dir("/proc")? {
        let path = process?.path();
        let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
        if name.starts_with("ksoftirqd/") {
            let text = fs::read_to_string(path.join("schedstat"))?;
            total += first_number(&text);
        }
    }
    Ok(total)
}

/// What each reply of `ours` cost beyond its request, in microseconds, round by round; the first of
/// `all` has the requests.
pub fn parts_us<'a>(all: &'a [Series], ours: &'a Series) -> impl Iterator<Item = Option<f64>> + 'a {
    let rounds = all[0].samples.iter().zip(&ours.samples);
    rounds.map(|(request, it)| Some((it.as_ref()?.whole_ns - request.as_ref()?.whole_ns) / 1e3))
}

/// Server's parts of `ours` over those of `theirs`, with `all` of their scenario.
pub fn ratios(all: &[Series], ours: &Series, theirs: &Series) -> Option<Ratios> {
    let both = parts_us(all, ours).zip(parts_us(all, theirs));
    Ratios::of(both.filter_map(|(ours, theirs)| Some(ours? / theirs?)))
}

/// Prints what each contender's part was, against the yardstick's.
pub fn print_table(all: &[Series]) {
    println!(
        "  {:<70}{:>9}{:>24}{:>22}{:>10}{:>9}",
        "", "all ns", "reply us", "1 / reply x", "server ns", "loss %"
    );
    let yardstick = all.iter().find(|it| it.contender.name == YARDSTICK);
    for series in all.iter().filter(|it| it.has_samples()) {
        let is_server = series.contender.kind != Kind::Dropped;
        let against = yardstick.filter(|_| is_server);
        println!(
            "  {:<70}{:>9.0}{:>24}{:>22}{:>10.0}{:>9.4}",
            series.contender.name,
            series.median(|it| it.whole_ns),
            or_dash(Ratios::of(parts_us(all, series).flatten())),
            or_dash(against.and_then(|it| self::ratios(all, it, series))),
            series.median(|it| it.cpu_ns),
            series.median(|it| it.loss_percent),
        );
    }
}
