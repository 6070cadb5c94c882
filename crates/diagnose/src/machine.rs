//! Is this machine fit to reflect? One check for each thing that could hinder it.
//!
//! What can be tried is tried, on sockets of its own, rather than read from a setting. A check
//! that finds nothing wrong still says what it found.

mod bridge;
pub(crate) mod check;
mod network;
mod offload;
mod queues;
mod tcx;

use std::fs;

use socket2::{Domain, Socket, Type};

use crate::host;
use check::Check;
use reflector_measure::exit::Exit;
use reflector_measure::host::{kernel_is_at_least, kernel_release};
use reflector_measure::quota::cpu_quota;
use reflector_udp::sockopt;

/// Why io_uring is not available, and what would change that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What is in the way.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// All checks, in the order to read them; `ring` is what came of trying io_uring out, with a ring
/// for each worker.
pub(crate) fn check(ring: Result<(), Blocked>) -> Vec<Check> {
    let mut checks = vec![
        kernel(),
        io_uring(ring),
        cpus(),
        buffer("receive buffer", "rmem_max", Buffer::Receive),
        buffer("send buffer", "wmem_max", Buffer::Send),
        control_memory(),
    ];
    checks.extend(network::check());
    checks
}

/// Exit code: 0 if nothing hinders the reflector, 1 if something does.
pub(crate) fn exit(checks: &[Check]) -> Exit {
    if checks.iter().all(|check| check.is_ok) {
        Exit::Done
    } else {
        Exit::Failed
    }
}

fn kernel() -> Check {
    let release = format!("Linux {}", kernel_release());
    if kernel_is_at_least(6, 1) {
        Check::ok("kernel", release)
    } else {
        Check::warn(
            "kernel",
            release,
            "the io_uring engine needs Linux 6.1 or newer; the mmsg engine does without",
        )
    }
}

fn io_uring(ring: Result<(), Blocked>) -> Check {
    match ring {
        Ok(()) => Check::ok("io_uring", "allowed: a ring for each worker was opened"),
        Err(blocker) => Check::warn(
            "io_uring",
            format!("blocked: {}; the mmsg engine is used instead", blocker.what),
            blocker.remedy,
        ),
    }
}

fn cpus() -> Check {
    let allowed = core_affinity::get_core_ids().map_or(0, |ids| ids.len());
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let found = format!("{allowed} to run on, of {} online", online.trim());
    match cpu_quota() {
        Some(quota) if quota < 1.0 => Check::warn(
            "CPUs",
            format!("{found}; the cgroup's quota is {quota:.2} CPUs, less than one worker"),
            "give it a CPU or more: `docker run --cpus 1`, or resources.limits.cpu in Kubernetes",
        ),
        Some(quota) if quota < allowed as f64 => Check::ok(
            "CPUs",
            format!("{found}; the cgroup's quota is {quota:.2} CPUs, so workers are not pinned"),
        ),
        _ => Check::ok("CPUs", format!("{found}, no quota")),
    }
}

#[derive(Clone, Copy)]
enum Buffer {
    Receive,
    Send,
}

/// Bytes of buffer that the reflector asks for by default (`--rcvbuf`, `--sndbuf`).
const BUFFER_LEN: usize = 8 << 20;

fn buffer(name: &'static str, limit: &str, buffer: Buffer) -> Check {
    let limit_value = host::sysctl(&format!("core/{limit}"));
    let limit_text = limit_value.map_or_else(
        || format!("net.core.{limit} cannot be read"),
        |value| format!("net.core.{limit} is {value}"),
    );
    let remedy = format!(
        "`sysctl -w net.core.{limit}={BUFFER_LEN}`, or give the program CAP_NET_ADMIN; until then \
         a burst may overrun it"
    );
    match granted(buffer) {
        Ok(len) if len >= BUFFER_LEN => {
            Check::ok(name, format!("8 MiB are granted ({limit_text})"))
        }
        Ok(len) => Check::warn(
            name,
            format!("{} KiB of 8 MiB are granted ({limit_text})", len / 1024),
            remedy,
        ),
        Err(error) => Check::warn(name, format!("cannot be set: {error}"), remedy),
    }
}

/// Bytes that a socket is granted which asks for [`BUFFER_LEN`] as the reflector does.
fn granted(buffer: Buffer) -> std::io::Result<usize> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let (force, plain) = match buffer {
        Buffer::Receive => (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        Buffer::Send => (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    };
    let len = BUFFER_LEN as i32;
    sockopt::set_int(&socket, libc::SOL_SOCKET, force, len)
        .or_else(|_| sockopt::set_int(&socket, libc::SOL_SOCKET, plain, len))?;
    // The kernel doubles what is asked for, to have room for its own book-keeping (socket(7)).
    Ok(match buffer {
        Buffer::Receive => socket.recv_buffer_size()?,
        Buffer::Send => socket.send_buffer_size()?,
    } / 2)
}

/// Bytes of control messages that a socket may have under way: a few sends of 88 bytes each.
const CONTROL_MEMORY_MIN: u64 = 4096;

fn control_memory() -> Check {
    let name = "control memory";
    match host::sysctl("core/optmem_max") {
        Some(bytes) if bytes < CONTROL_MEMORY_MIN => Check::warn(
            name,
            format!("net.core.optmem_max is {bytes}: sends of trains may fail with ENOBUFS"),
            "`sysctl -w net.core.optmem_max=131072`",
        ),
        Some(bytes) => Check::ok(name, format!("net.core.optmem_max is {bytes}")),
        None => Check::ok(name, "net.core.optmem_max cannot be read here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_warning_has_a_remedy_and_makes_the_exit_code() {
        let checks = check(Ok(()));
        for check in &checks {
            assert_eq!(check.is_ok, check.remedy.is_none(), "{check:?}");
            assert!(!check.found.is_empty());
        }
        let all_ok = checks.iter().all(|check| check.is_ok);
        assert_eq!(exit(&checks) == Exit::Done, all_ok);
        let warning = [Check::warn("x", "y", "z")];
        assert_eq!(exit(&warning), Exit::Failed);
    }
}
