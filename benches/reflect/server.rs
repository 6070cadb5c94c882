//! A contender's processes, for one sample.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reflector_netlab::topology::Namespace;
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;
use serde_json::Value;

use super::contender::{Contender, Kind};
use super::network::SERVER;

/// Where every contender listens.
pub const PORT: u16 = 9007;

/// What a server's processes have used.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// CPU time of all their threads, in nanoseconds (proc_pid_schedstat).
    pub cpu_ns: u64,
    /// The same of each thread that is a reflector's worker, in the order of their numbers.
    pub worker_cpu_ns: BTreeMap<usize, u64>,
    /// Memory, in KiB.
    pub resident_kib: u64,
}

/// What one worker has done, from its start to its end.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Worker {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that one receive brought, in the mean.
    pub batch_len: f64,
    /// CPU time per datagram, in nanoseconds.
    pub cpu_ns: f64,
}

/// What a server tells at its end.
pub struct End {
    /// What each worker did, of a server that tells.
    pub workers: Vec<Worker>,
    /// Datagrams that were answered in the kernel.
    pub accelerated: u64,
}

/// A running server and its children; ended when dropped. By SIGTERM, since a ring that is killed
/// lets go of the port only some time later.
pub struct Server {
    child: Child,
    group: Pid,
}

impl Server {
    /// Starts `contender` in `namespace`, on `cpu` unless it is to use all.
    ///
    /// # Errors
    /// ENOENT where the contender is not installed, EAGAIN where there is no room for a process.
    pub fn start(namespace: &Namespace, cpu: usize, contender: &Contender) -> io::Result<Self> {
        Self::start_with(namespace, cpu, contender, &[])
    }

    /// The same with more arguments.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_with(
        namespace: &Namespace,
        cpu: usize,
        contender: &Contender,
        more: &[&str],
    ) -> io::Result<Self> {
        let mut command = command(contender, cpu)?;
        command.args(more);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0);
        // Who is not told a CPU inherits the affinity of the thread that starts it.
        let child = namespace.run(|| {
            pin(if contender.is_wide() { None } else { Some(cpu) })?;
            command.spawn()
        })?;
        let group = Pid::from_raw(child.id() as i32).expect("a child has a process id");
        Ok(Self { child, group })
    }

    /// What it has used until now.
    ///
    /// # Errors
    /// ENOENT where /proc is not mounted.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for process in fs::read_dir("/proc")? {
            let path = process?.path();
            // Processes come and go; one that has gone is none of ours.
            let Ok(stat) = fs::read_to_string(path.join("stat")) else {
                continue;
            };
            if group_of(&stat) != Some(self.group.as_raw_nonzero().get()) {
                continue;
            }
            for task in fs::read_dir(path.join("task")).into_iter().flatten() {
                let path = task?.path();
                let text = fs::read_to_string(path.join("schedstat")).unwrap_or_default();
                let cpu_ns = first_number(&text);
                usage.cpu_ns += cpu_ns;
                let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
                let worker = name.trim().strip_prefix("worker-");
                if let Some(worker) = worker.and_then(|it| it.parse().ok()) {
                    usage.worker_cpu_ns.insert(worker, cpu_ns);
                }
            }
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            usage.resident_kib += first_number(resident.unwrap_or_default());
        }
        Ok(usage)
    }

    /// Ends it; returns what it tells.
    ///
    /// # Errors
    /// ENOENT where /proc is not mounted.
    pub fn end(mut self) -> io::Result<End> {
        let usage = self.usage()?;
        self.stop();
        let mut text = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            let _ = out.read_to_string(&mut text);
        }
        let summary = text.lines().last().unwrap_or_default();
        let summary: Value = serde_json::from_str(summary).unwrap_or_default();
        let shares = summary["per_worker"].as_array().into_iter().flatten();
        let worker = |(share, cpu_ns): (&Value, u64)| {
            let received = share["received"].as_u64()?;
            let batches = share["batches"].as_u64()?;
            Some(Worker {
                received,
                batch_len: received as f64 / batches.max(1) as f64,
                cpu_ns: cpu_ns as f64 / received.max(1) as f64,
            })
        };
        let workers = shares.zip(usage.worker_cpu_ns.into_values());
        Ok(End {
            workers: workers.filter_map(worker).collect(),
            accelerated: summary["accelerated"]["datagrams"].as_u64().unwrap_or(0),
        })
    }

    fn stop(&self) {
        // It may have ended already.
        let _ = kill_process_group(self.group, Signal::TERM);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        let _ = self.child.wait();
    }
}

fn command(contender: &Contender, cpu: usize) -> io::Result<Command> {
    let port = PORT.to_string();
    let mut command;
    match &contender.kind {
        Kind::Plain(name) => {
            command = Command::new(std::env::current_exe()?);
            command.args(["--serve", name]);
        }
        Kind::Reflector(options, build) => {
            let this = Path::new(env!("CARGO_BIN_EXE_reflector"));
            command = Command::new(build.as_deref().unwrap_or(this));
            command.args(["--interval", "0s", "--json"]).args(options);
            if !contender.is_wide() {
                command.args(["--cpus", &cpu.to_string()]);
            }
        }
        Kind::Dropped => return Err(io::Error::other("nobody serves what is dropped")),
        Kind::Socat => {
            command = Command::new("socat");
            // A connected socket per peer: forking for each datagram would measure forks.
            command.args([
                &format!("UDP4-LISTEN:{port},bind={SERVER},reuseaddr,fork"),
                "PIPE",
            ]);
        }
        Kind::Sockperf => {
            command = Command::new("sockperf");
            command.args(["server", "-i", &SERVER.to_string(), "-p", &port]);
        }
    }
    Ok(command)
}

/// Pins the calling thread to `cpu`, or to none.
fn pin(cpu: Option<usize>) -> io::Result<()> {
    let mut cpus = CpuSet::new();
    match cpu {
        Some(cpu) => cpus.set(cpu),
        None => (0..CpuSet::MAX_CPU).for_each(|cpu| cpus.set(cpu)),
    }
    Ok(sched_setaffinity(None, &cpus)?)
}

/// The process group in `/proc/PID/stat`: the third field after the name, which may hold anything.
fn group_of(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(2)?.parse().ok()
}

/// The number that `text` begins with, or zero.
pub fn first_number(text: &str) -> u64 {
    let number = text.split_whitespace().next();
    number.and_then(|it| it.parse().ok()).unwrap_or(0)
}
