//! Every contender under the same load, in turn, round after round.
//!
//! ```text
//! cargo bench --bench reflect                     all scenarios, seven rounds
//! cargo bench --bench reflect -- --smoke          every scenario once, for a moment
//! cargo bench --bench reflect -- --topology bridge
//! cargo bench --bench reflect -- --only trains --rounds 9 --json FILE
//! ```
//!
//! Two network namespaces joined by a veth pair, or by a bridge as a container's would be; the
//! server on the last CPU, the generator on the first. Rounds are interleaved (A B C A B C …) and
//! figures are medians of ratios within a round, against the plain recvmmsg/sendmmsg loop, which
//! runs twice in each round so that the noise shows: the machines this runs on are shared, and an
//! absolute figure from them means little. Where virtual CPUs move about, samples are told apart by
//! how far from each other the two were (`distance`). Some scenarios have a control whose true
//! answer is known (`control`). Needs root.

mod bars;
mod beside;
mod contender;
mod control;
mod distance;
mod drops;
mod generator;
mod measure;
mod network;
mod output;
mod plain;
mod replies;
mod scenario;
mod scraper;
mod server;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use beside::HalfCpu;
use clap::Parser;
use contender::{Contender, Kind};
use distance::Placement;
use measure::Sample;
use network::{Network, Topology};
use reflector_netlab::topology::skip;
use reflector_udp::netns::{self, Ability};
use scenario::{Measure, Neighbour, Scenario};

/// Options of the bench.
#[derive(Debug, Parser)]
struct Args {
    /// Run every scenario once, for a moment, and fail where one goes without an answer
    #[arg(long)]
    smoke: bool,
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds for each contender in each round
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// How client and server are joined
    #[arg(long, value_enum, default_value = "veth")]
    topology: Topology,
    /// Only scenarios whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Only contenders whose name contains this, besides the yardstick
    #[arg(long, allow_hyphen_values = true)]
    contender: Option<String>,
    /// Further reflectors to compare in every scenario, as options of the program, such as
    /// "--buffers 256"
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    also: Vec<String>,
    /// Another build of the program, run beside this one in all its parts: what has a change done?
    #[arg(long, value_name = "PROGRAM")]
    base: Option<PathBuf>,
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

/// What was measured of one contender in one scenario, round by round; nothing where it is left
/// out.
#[derive(Clone)]
struct Series {
    contender: Contender,
    samples: Vec<Option<Sample>>,
}

/// What was measured in one scenario.
#[derive(Clone)]
struct Measured {
    scenario: Scenario,
    series: Vec<Series>,
}

impl Measured {
    /// The part of it that was measured while the CPUs were placed so.
    fn during(&self, placement: Placement) -> Self {
        let mut part = self.clone();
        for sample in part.series.iter_mut().flat_map(|it| &mut it.samples) {
            sample.take_if(|it| {
                self.is_void(it) || Placement::during(it.cpu_distance_ns) != Some(placement)
            });
        }
        part
    }

    /// Whether `sample` tells nothing: what was lost has cost less than a reply, or than a request.
    fn is_void(&self, sample: &Sample) -> bool {
        matches!(self.scenario.measure, Measure::Reply(_)) && sample.loss_percent > 0.0
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.serve.as_deref() {
        Some(name) => plain::serve(name, server::PORT),
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

fn run(args: &Args) -> io::Result<()> {
    if args.smoke && *netns::ability() != Ability::Direct {
        skip("reflect", "netns", "it makes network namespaces as root");
        return Ok(());
    }
    let (rounds, seconds) = if args.smoke {
        (1, 0.2)
    } else {
        (args.rounds, args.seconds)
    };
    let duration = Duration::from_secs_f64(seconds);
    let network = Network::new(args.topology)?;
    let cpus = core_affinity::get_core_ids().unwrap_or_default();
    let [client_cpu, .., server_cpu] = cpus[..] else {
        return Err(io::Error::other(
            "one CPU is too few for a generator and a server",
        ));
    };
    core_affinity::set_for_current(client_cpu);
    println!(
        "{rounds} rounds of {seconds} s, client and server joined by {}, {} CPUs",
        args.topology,
        cpus.len()
    );
    let mut all = Vec::new();
    for scenario in scenario::all() {
        if args
            .only
            .as_ref()
            .is_some_and(|only| !scenario.name.contains(only.as_str()))
        {
            continue;
        }
        if scenario.neighbour == Neighbour::Quota && !HalfCpu::is_available() {
            println!("SKIPPED: {}: no cgroups of version 1", scenario.name);
            continue;
        }
        let mut series: Vec<_> = contenders(args, &scenario)
            .map(|contender| Series {
                contender,
                samples: Vec::with_capacity(rounds),
            })
            .collect();
        let is_reply = matches!(scenario.measure, Measure::Reply(_));
        if is_reply && !matches!(&series[..], [it, ..] if it.contender.kind == Kind::Dropped) {
            // Requests alone could not be told from replies.
            continue;
        }
        let count = series.len();
        for round in 0..rounds {
            // Each round begins with another one, or what disturbs every other sample would always
            // disturb the same.
            for index in (0..count).map(|index| (index + round) % count) {
                let Series { contender, samples } = &mut series[index];
                let before = distance::round_trip_ns([client_cpu, server_cpu]);
                let sample =
                    measure::measure(&network, server_cpu.id, contender, &scenario, duration)?;
                let after = distance::round_trip_ns([client_cpu, server_cpu]);
                samples.push(Some(Sample {
                    cpu_distance_ns: [before, after],
                    ..sample
                }));
            }
        }
        let measured = Measured { scenario, series };
        for placement in Placement::ALL {
            output::print_table(&measured, placement);
        }
        output::print_void(&measured);
        if args.smoke {
            require_answers(&measured)?;
        }
        all.push(measured);
    }
    for placement in Placement::ALL {
        bars::print(&all, args.topology, placement);
        control::print(&all, placement);
    }
    if let Some(path) = &args.json {
        let document = output::as_json(args.topology, rounds, seconds, &all);
        std::fs::write(path, serde_json::to_string_pretty(&document)?)?;
    }
    Ok(())
}

/// Who runs in `scenario`; a tool that is not installed is said and left out.
fn contenders(args: &Args, scenario: &Scenario) -> impl Iterator<Item = Contender> {
    let is_wanted = |it: &Contender| {
        it.is_yardstick()
            || args
                .contender
                .as_ref()
                .is_none_or(|part| it.name.contains(part.as_str()))
    };
    let mut all: Vec<_> = scenario
        .contenders()
        .into_iter()
        .filter(is_wanted)
        .collect();
    all.extend(
        args.also
            .iter()
            .map(|options| Contender::reflector(options)),
    );
    if let Some(base) = &args.base {
        all = all
            .into_iter()
            .flat_map(|it| [it.of_build(base), Some(it)])
            .flatten()
            .collect();
    }
    all.into_iter().filter(|it| {
        let missing = it.missing();
        match &missing {
            // What .ci/run installs has to be there.
            Some((need @ ("bpf" | "nft"), reason)) => skip(&it.name, need, reason),
            Some((_, reason)) => println!("SKIPPED: {}: {reason}", it.name),
            None => {}
        }
        missing.is_none()
    })
}

fn require_answers(measured: &Measured) -> io::Result<()> {
    for Series { contender, samples } in &measured.series {
        if samples.iter().flatten().any(|it| it.rate <= 0.0) {
            return Err(io::Error::other(format!(
                "{}: {} answered nothing",
                measured.scenario.name, contender.name
            )));
        }
    }
    Ok(())
}
