//! Every contender under the same load, in turn, round after round.
//!
//! ```text
//! cargo bench --bench reflect                     all scenarios, seven rounds
//! cargo bench --bench reflect -- --smoke          every scenario once, for a moment
//! cargo bench --bench reflect -- --only trains --rounds 9 --json FILE
//! ```
//!
//! Two network namespaces joined by a veth pair; the server on the last CPU, the generator on the
//! first. Rounds are interleaved (A B C A B C …) and figures are ratios of medians against the
//! plain recvmmsg/sendmmsg loop of the same run: the machines this runs on are shared and noisy,
//! and an absolute figure from them means little. Needs root.

mod generator;
mod plain;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Parser;
use generator::Load;
use reflector::lab::topology::{Namespace, net};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PORT: u16 = 9007;
const YARDSTICK: &str = "recvmmsg/sendmmsg";

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Run every scenario once, for a moment
    #[arg(long)]
    smoke: bool,
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds for each contender in each round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Only contenders whose name contains this, besides the yardstick
    #[arg(long)]
    contender: Option<String>,
    /// Further reflectors to compare, as options of the program, such as "--buffers 256"
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    also: Vec<String>,
    /// Write every single figure as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Be a plain server instead (the bench starts itself so)
    #[arg(long, hide = true)]
    serve: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy)]
enum Measure {
    /// Datagrams per second, and the server's CPU time for each.
    Rate(Load),
    /// Round-trip time of one datagram at a time.
    RoundTrip { spinning: bool },
}

struct Scenario {
    name: &'static str,
    measure: Measure,
}

/// Who is measured.
#[derive(Clone)]
struct Contender {
    name: String,
    /// A plain server of this program, or options of the reflector.
    options: Result<&'static str, Vec<String>>,
}

/// One measurement of one contender.
struct Sample {
    /// Datagrams per second, or round trips per second.
    rate: f64,
    /// The server's CPU time per datagram.
    cpu_ns: f64,
    lost: u64,
    rtt_us: Option<[f64; 3]>,
    resident_kib: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.serve.as_deref() {
        Some("recvfrom/sendto") => plain::recvfrom_sendto(PORT),
        Some(_) => plain::recvmmsg_sendmmsg(PORT),
        None => run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn scenarios() -> Vec<Scenario> {
    let rate = |name, payload_len, train_len, flows, window| Scenario {
        name,
        measure: Measure::Rate(Load {
            payload_len,
            train_len,
            flows,
            window,
        }),
    };
    vec![
        rate("trains of 32 x 64 B, 8 flows", 64, 32, 8, 256),
        rate("trains of 64 x 64 B, 8 flows", 64, 64, 8, 2048),
        rate("trains of 44 x 1400 B, 8 flows", 1400, 44, 8, 264),
        rate("singles of 64 B, 64 peers in turn", 64, 1, 64, 1),
        rate("singles of 64 B, 1000 peers in turn", 64, 1, 1000, 1),
        Scenario {
            name: "round trip, client spinning",
            measure: Measure::RoundTrip { spinning: true },
        },
        Scenario {
            name: "round trip, client blocking",
            measure: Measure::RoundTrip { spinning: false },
        },
    ]
}

fn contenders(args: &Args) -> Vec<Contender> {
    let plain = |name: &'static str| Contender {
        name: name.to_owned(),
        options: Ok(name),
    };
    let reflector = |options: &str| Contender {
        name: format!("reflector {options}"),
        options: Err(options.split_whitespace().map(str::to_owned).collect()),
    };
    let mut all = vec![
        plain(YARDSTICK),
        plain("recvfrom/sendto"),
        reflector("--engine uring"),
        reflector("--engine mmsg"),
        reflector("--engine uring --gro off"),
        reflector("--engine mmsg --gro off"),
        reflector("--engine uring --gro off --gso off"),
        reflector("--engine mmsg --gro off --gso off"),
        reflector("--engine uring --latency off"),
        reflector("--engine uring --spin"),
    ];
    if let Some(part) = &args.contender {
        all.retain(|it| it.name == YARDSTICK || it.name.contains(part));
    }
    all.extend(args.also.iter().map(|options| reflector(options)));
    all
}

fn run(args: &Args) -> io::Result<()> {
    let (rounds, seconds) = if args.smoke {
        (1, 0.1)
    } else {
        (args.rounds, args.seconds)
    };
    let duration = Duration::from_secs_f64(seconds);
    let (server, client) = (Namespace::new()?, Namespace::new()?);
    server.add_veth("eth0", &client, "eth0")?;
    server.add_address("eth0", net("10.77.0.1/24"))?;
    client.add_address("eth0", net("10.77.0.2/24"))?;
    server.set_up("eth0")?;
    client.set_up("eth0")?;
    client.wait_ready("eth0")?;
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(&first) = cpus.first() {
        core_affinity::set_for_current(first);
    }
    let server_cpu = cpus.last().map_or(0, |cpu| cpu.id);
    let mut figures = Vec::new();
    let wanted = |it: &Scenario| args.only.as_ref().is_none_or(|only| it.name.contains(only));
    for scenario in scenarios().into_iter().filter(wanted) {
        let contenders = contenders(args);
        let mut samples: BTreeMap<usize, Vec<Sample>> = BTreeMap::new();
        for _ in 0..rounds {
            for (index, contender) in contenders.iter().enumerate() {
                let sample = measure(
                    &server,
                    &client,
                    server_cpu,
                    contender,
                    scenario.measure,
                    duration,
                )?;
                samples.entry(index).or_default().push(sample);
            }
        }
        print_table(&scenario, &contenders, &samples);
        figures.push(as_json(&scenario, &contenders, &samples));
    }
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)?)?;
    }
    Ok(())
}

/// A server for one sample; ended when dropped. By SIGTERM, since a ring that is killed lets go of
/// the port only some time later.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id() as i32).expect("a child has a process id");
        // It may have ended already.
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.0.wait();
    }
}

fn start(namespace: &Namespace, cpu: usize, contender: &Contender) -> io::Result<Server> {
    let mut command = match &contender.options {
        Ok(plain) => {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--serve", plain]);
            command
        }
        Err(options) => {
            let mut command = Command::new(env!("CARGO_BIN_EXE_reflector"));
            command
                .args(["--interval", "0s", "--cpus", &cpu.to_string()])
                .args(options);
            command
        }
    };
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // A plain server inherits the affinity of the thread that starts it.
    let child = namespace.run(|| {
        core_affinity::set_for_current(core_affinity::CoreId { id: cpu });
        command.spawn()
    })?;
    Ok(Server(child))
}

fn measure(
    server: &Namespace,
    client: &Namespace,
    cpu: usize,
    contender: &Contender,
    measure: Measure,
    duration: Duration,
) -> io::Result<Sample> {
    let running = start(server, cpu, contender)?;
    let pid = running.0.id();
    let target = SocketAddr::from((SERVER, PORT));
    client.run(|| {
        wait_until_it_answers(target)?;
        match measure {
            Measure::Rate(load) => {
                generator::run(target, &load, duration / 5)?;
                let before = cpu_ns(pid)?;
                let outcome = generator::run(target, &load, duration)?;
                Ok(Sample {
                    rate: outcome.answered as f64 / outcome.seconds,
                    cpu_ns: (cpu_ns(pid)? - before) as f64 / outcome.answered.max(1) as f64,
                    lost: outcome.lost,
                    rtt_us: None,
                    resident_kib: resident_kib(pid)?,
                })
            }
            Measure::RoundTrip { spinning } => {
                generator::round_trips(target, spinning, duration / 5)?;
                let before = cpu_ns(pid)?;
                let times = generator::round_trips(target, spinning, duration)?;
                let at = |quantile| times.value_at_quantile(quantile) as f64 / 1000.0;
                Ok(Sample {
                    rate: times.len() as f64 / duration.as_secs_f64(),
                    cpu_ns: (cpu_ns(pid)? - before) as f64 / times.len().max(1) as f64,
                    lost: 0,
                    rtt_us: Some([at(0.5), at(0.99), at(0.999)]),
                    resident_kib: resident_kib(pid)?,
                })
            }
        }
    })
}

fn wait_until_it_answers(target: SocketAddr) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(target)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    for _ in 0..500 {
        // Refused until it listens.
        let _ = socket.send(b"ready?");
        if socket.recv(&mut [0; 16]).is_ok() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{target} does not answer"),
    ))
}

/// CPU time of all threads of a process, in nanoseconds (proc_pid_schedstat).
fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut total = 0;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        total += text
            .split_whitespace()
            .next()
            .and_then(|ns| ns.parse::<u64>().ok())
            .unwrap_or(0);
    }
    Ok(total)
}

fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(0))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print_table(
    scenario: &Scenario,
    contenders: &[Contender],
    samples: &BTreeMap<usize, Vec<Sample>>,
) {
    let rates = |index: usize| samples[&index].iter().map(|it| it.rate).collect::<Vec<_>>();
    let yardstick = median(rates(0));
    println!("\n{}", scenario.name);
    println!(
        "  {:<44} {:>11} {:>7} {:>17} {:>8} {:>8} {:>9} {:>9} {:>9} {:>8}",
        "", "per s", "ratio", "range", "cpu ns", "lost", "p50 us", "p99 us", "p99.9 us", "RSS KiB"
    );
    for (index, contender) in contenders.iter().enumerate() {
        let of = |pick: fn(&Sample) -> f64| median(samples[&index].iter().map(pick).collect());
        let rate = median(rates(index));
        let low = rates(index).into_iter().fold(f64::INFINITY, f64::min) / yardstick;
        let high = rates(index).into_iter().fold(0.0, f64::max) / yardstick;
        let rtt = |at: usize| match samples[&index][0].rtt_us {
            Some(_) => {
                let all = samples[&index]
                    .iter()
                    .filter_map(|it| it.rtt_us)
                    .map(|it| it[at]);
                format!("{:.1}", median(all.collect()))
            }
            None => "-".to_owned(),
        };
        println!(
            "  {:<44} {:>11.0} {:>7.2} {:>17} {:>8.0} {:>8.0} {:>9} {:>9} {:>9} {:>8.0}",
            contender.name,
            rate,
            rate / yardstick,
            format!("{low:.2} .. {high:.2}"),
            of(|it| it.cpu_ns),
            of(|it| it.lost as f64),
            rtt(0),
            rtt(1),
            rtt(2),
            of(|it| it.resident_kib as f64),
        );
    }
}

fn as_json(
    scenario: &Scenario,
    contenders: &[Contender],
    samples: &BTreeMap<usize, Vec<Sample>>,
) -> Value {
    let sample = |it: &Sample| {
        json!({
            "per_second": it.rate, "cpu_ns": it.cpu_ns, "lost": it.lost,
            "rtt_us": it.rtt_us, "resident_kib": it.resident_kib,
        })
    };
    let rounds: BTreeMap<_, Vec<_>> = samples
        .iter()
        .map(|(&index, samples)| {
            (
                contenders[index].name.clone(),
                samples.iter().map(sample).collect(),
            )
        })
        .collect();
    json!({ "scenario": scenario.name, "rounds": rounds })
}
