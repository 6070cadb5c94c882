//! Resident memory under load stays below what is promised: 16 MiB, and for each worker 12 MiB
//! with GRO and 6 MiB without. The kernel's socket buffers are not counted.

use std::fs;
use std::net::SocketAddr;

use reflector_netlab::topology::DockerHost;
use reflector_testkit::queue::while_stopped;
use reflector_testkit::random::Random;
use reflector_testkit::train::Client;
use reflector_testkit::{Engine, Reflector, on_both_engines};

const MIB: usize = 1 << 20;
const WORKERS: usize = 2;

/// The most that the process ever had resident, in bytes (`VmHWM`, proc_pid_status(5)).
fn peak_resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .expect("every process has it");
    let kib = line.split_whitespace().nth(1).expect("a number");
    kib.parse::<usize>().expect("a number") * 1024
}

/// The peak of a program whose every buffer has held the largest train or datagram.
fn peak_under_load(engine: Engine, gro: &str) -> usize {
    let picture = DockerHost::new().unwrap();
    let args = [
        "--listen",
        "0.0.0.0:5151",
        "--listen",
        "[::]:5151",
        "--cores",
        "2",
        "--gro",
        gro,
    ];
    let reflector = Reflector::start(&picture.host, engine, &args);
    let asked = [
        SocketAddr::from((DockerHost::HOST, 5151)),
        SocketAddr::from((DockerHost::HOST_V6, 5151)),
    ];
    // Enough peers for the hash to give each worker some: of eight, all went to one in 1 of 128.
    let mut clients: Vec<_> = (0..16)
        .map(|peer| Client::any(&picture.container, asked[peer % 2]))
        .collect();
    let mut random = Random::new(1);
    let (train, largest) = (random.bytes(1400 * 46), random.bytes(65_507));
    for _ in 0..4 {
        let mut sent = vec![Vec::new(); clients.len()];
        while_stopped(&reflector, || {
            for (client, sent) in clients.iter().zip(&mut sent) {
                for _ in 0..4 {
                    client.send(&largest);
                    sent.push(largest.clone());
                    sent.extend(client.send_train(&train, 1400));
                }
            }
        });
        for (client, sent) in clients.iter_mut().zip(&sent) {
            client.expect_back(sent);
        }
    }
    let peak = peak_resident(reflector.pid());
    let summary = reflector.stop();
    for share in summary["per_worker"].as_array().expect("a list") {
        assert!(
            share["received"].as_u64() > Some(0),
            "every worker has work: {summary}"
        );
    }
    peak
}

fn assert_below(limit: usize, peak: usize, what: &str) {
    let mib = |bytes: usize| bytes as f64 / MIB as f64;
    println!(
        "{what}: {:.1} MiB resident at most, {:.1} MiB promised",
        mib(peak),
        mib(limit)
    );
    assert!(peak <= limit, "{what}: {peak} bytes");
}

on_both_engines! {
    fn with_gro_resident_memory_stays_below_its_limit(engine: Engine) {
        let peak = peak_under_load(engine, "on");
        assert_below((16 + 12 * WORKERS) * MIB, peak, &format!("{engine:?}, GRO"));
    }

    fn without_gro_resident_memory_stays_below_its_limit(engine: Engine) {
        let peak = peak_under_load(engine, "off");
        assert_below((16 + 6 * WORKERS) * MIB, peak, &format!("{engine:?}, no GRO"));
    }
}
