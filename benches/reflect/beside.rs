//! What a server shares its CPU with while it is measured.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use core_affinity::CoreId;

use super::contender::{Contender, Kind};
use super::network::{Network, SERVER};
use super::scenario::Neighbour;
use super::server::Server;

/// The port of the other server.
const PORT: u16 = 9008;

/// A neighbour; gone when dropped.
#[derive(Default)]
pub struct Beside {
    spinner: Option<(Arc<AtomicBool>, JoinHandle<()>)>,
    load: Option<Child>,
    _server: Option<Server>,
}

impl Beside {
    /// Puts `neighbour` on `cpu`, where a server runs that is a `contender`.
    ///
    /// # Errors
    /// EAGAIN where there is no room for a process.
    pub fn start(
        network: &Network,
        cpu: usize,
        contender: &Contender,
        neighbour: Neighbour,
    ) -> io::Result<Self> {
        let mut beside = Self::default();
        match neighbour {
            Neighbour::Server if matches!(contender.kind, Kind::Reflector(..)) => {
                let listen = ["--listen", &PORT.to_string()];
                beside._server = Some(Server::start_with(
                    &network.server,
                    cpu,
                    contender,
                    &listen,
                )?);
                let mut load = Command::new(env!("CARGO_BIN_EXE_reflector"));
                load.args(["load", &format!("{SERVER}:{PORT}"), "--interval", "0s"])
                    .args(["--rate", "20000", "--duration", "60s"])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                beside.load = Some(network.client.run(|| load.spawn())?);
            }
            Neighbour::Spinner => beside.spinner = Some(spin(cpu)),
            Neighbour::Server | Neighbour::Quota | Neighbour::None => {}
        }
        Ok(beside)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some((is_over, thread)) = self.spinner.take() {
            is_over.store(true, Ordering::Relaxed);
            thread.join().expect("nothing in it panics");
        }
        if let Some(mut load) = self.load.take() {
            // It may have ended already.
            let _ = load.kill();
            let _ = load.wait();
        }
    }
}

fn spin(cpu: usize) -> (Arc<AtomicBool>, JoinHandle<()>) {
    let is_over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&is_over);
    let thread = thread::spawn(move || {
        core_affinity::set_for_current(CoreId { id: cpu });
        while !until.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    (is_over, thread)
}

/// A cgroup (version 1) that gives those in it 50 of each 100 ms; gone when dropped.
pub struct HalfCpu {
    path: PathBuf,
}

/// Where the cgroups are that may have a quota.
const CGROUPS: &str = "/sys/fs/cgroup/cpu";

impl HalfCpu {
    /// Whether this machine has such cgroups.
    pub fn is_available() -> bool {
        Path::new(CGROUPS).join("cpu.shares").exists()
    }

    /// Makes it, and has the calling thread in it and what that starts.
    ///
    /// # Errors
    /// ENOENT where there are no such cgroups, EPERM without root.
    pub fn enter() -> io::Result<Self> {
        let path = PathBuf::from(format!("{CGROUPS}/reflect-{}", process::id()));
        fs::create_dir_all(&path)?;
        fs::write(path.join("cpu.cfs_period_us"), "100000")?;
        fs::write(path.join("cpu.cfs_quota_us"), "50000")?;
        fs::write(path.join("tasks"), "0")?;
        Ok(Self { path })
    }

    /// Takes the calling thread out of any; what it has started stays.
    ///
    /// # Errors
    /// EPERM without root.
    pub fn leave() -> io::Result<()> {
        fs::write(format!("{CGROUPS}/tasks"), "0")
    }
}

impl Drop for HalfCpu {
    fn drop(&mut self) {
        // Those that were in it have ended; what is left is an empty folder.
        let _ = fs::remove_dir(&self.path);
    }
}
