//! The processes of the lab, and their end.
//!
//! Three things see to it that none outlives the lab. A server leads a process group of its own,
//! which is ended as a whole. What left the group, a daemon say, is found by the network namespace
//! it lives in, which nobody else uses. And should the lab be killed (SIGKILL) without a chance to
//! do either, the kernel kills the server itself ([`reflector_udp::child`]), though not what a
//! shell in between has started.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use reflector_netlab::topology::Namespace;
use reflector_udp::child;

/// The process groups of all child servers of a lab, to be ended from any thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessGroups(Arc<Mutex<Vec<Member>>>);

/// A child that was not waited for yet: while it is listed, its process id is its own.
#[derive(Clone, Copy, Debug)]
struct Member {
    leader: Pid,
    namespace: u64,
}

/// How often a process that should end is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

impl ProcessGroups {
    /// Starts a child server from the calling thread, which must be in `namespace` and must stay
    /// until the child has ended.
    ///
    /// # Errors
    /// `NotFound` where there is no such program, EACCES where it cannot be executed, EAGAIN where
    /// there is no room for a process.
    pub(crate) fn spawn(
        &self,
        namespace: &Namespace,
        command: &mut Command,
    ) -> io::Result<ChildServer> {
        let namespace = namespace.inode()?;
        child::end_with_this_thread(command.process_group(0));
        // Held during the start, so that no child is missed by an end of all.
        let mut members = self.members();
        let process = command.spawn()?;
        let leader = Pid::from_child(&process);
        members.push(Member { leader, namespace });
        drop(members);
        Ok(ChildServer {
            process,
            member: Member { leader, namespace },
            process_groups: self.clone(),
            ended: None,
        })
    }

    /// Ends all children at once. No other can be started afterwards: whoever tries waits,
    /// so the caller should end the process.
    pub(crate) fn end_all(&self) {
        let members = self.members();
        for member in members.iter() {
            signal_group(member.leader, Signal::KILL);
            sweep(member.namespace);
        }
        std::mem::forget(members);
    }

    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server process with all that it started. Killed when dropped.
#[derive(Debug)]
pub(crate) struct ChildServer {
    process: Child,
    member: Member,
    process_groups: ProcessGroups,
    ended: Option<ExitStatus>,
}

impl ChildServer {
    /// Its stdout and stderr, each once, if they were piped.
    pub(crate) fn take_pipes(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.process.stdout.take(), self.process.stderr.take())
    }

    /// The status it ended with, if it has.
    ///
    /// # Errors
    /// ECHILD where another part of the program waited for it.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Once it is waited for, its process id may become another's.
            let mut members = self.process_groups.members();
            self.ended = self.process.try_wait()?;
            if self.ended.is_some() {
                members.retain(|member| member.leader != self.member.leader);
            }
        }
        Ok(self.ended)
    }

    /// Ends it by SIGTERM, or after `timeout` by SIGKILL, with all that it started.
    ///
    /// # Errors
    /// As [`ended`](ChildServer::ended).
    pub(crate) fn stop(&mut self, timeout: Duration) -> io::Result<ExitStatus> {
        if self.ended()?.is_none() {
            signal_group(self.member.leader, Signal::TERM);
        }
        let polls = timeout.as_millis() / POLL_INTERVAL.as_millis();
        for _ in 0..polls {
            if let Some(status) = self.ended()? {
                sweep(self.member.namespace);
                return Ok(status);
            }
            thread::sleep(POLL_INTERVAL);
        }
        self.kill()
    }

    fn kill(&mut self) -> io::Result<ExitStatus> {
        if self.ended()?.is_none() {
            signal_group(self.member.leader, Signal::KILL);
        }
        let status = loop {
            match self.ended()? {
                Some(status) => break status,
                None => thread::sleep(POLL_INTERVAL),
            }
        };
        sweep(self.member.namespace);
        Ok(status)
    }
}

impl Drop for ChildServer {
    fn drop(&mut self) {
        // It can only fail where somebody else has waited for the child, which is then over.
        let _ = self.kill();
    }
}

fn signal_group(leader: Pid, signal: Signal) {
    // ESRCH: all of the group have ended by themselves.
    let _ = kill_process_group(leader, signal);
}

/// Kills every process whose network namespace is the one with inode `namespace`, until there is
/// none: those that are found may just have started another.
fn sweep(namespace: u64) {
    const ROUNDS_MAX: usize = 100;
    for _ in 0..ROUNDS_MAX {
        if kill_inhabitants(namespace) == 0 {
            return;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn kill_inhabitants(namespace: u64) -> usize {
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw);
    pids.filter(|pid| kill_inhabitant(*pid, namespace).is_some())
        .count()
}

fn kill_inhabitant(pid: Pid, namespace: u64) -> Option<()> {
    // Opened first: the process whose namespace is read is the one that gets the signal, whatever
    // becomes of the number.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
    let is_inhabitant = fs::metadata(path).is_ok_and(|found| found.ino() == namespace);
    // Our own first thread lives in no namespace of the lab.
    (is_inhabitant && pid != rustix::process::getpid()).then_some(())?;
    pidfd_send_signal(process, Signal::KILL).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reflector_netlab::topology::in_namespaces;
    use std::io::Read;
    use std::process::Stdio;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    /// A server that ignores SIGTERM and has a daemon of its own ends with that.
    #[test]
    fn nobody_stays_in_the_namespace() {
        let name = "process_group::tests::nobody_stays_in_the_namespace";
        in_namespaces(name, || {
            let namespace = Namespace::new().unwrap();
            let process_groups = ProcessGroups::default();
            namespace.run(|| {
                let mut command = shell("trap '' TERM; setsid sleep 60 & echo ready; sleep 60");
                let mut child = process_groups
                    .spawn(&namespace, command.stdout(Stdio::piped()))
                    .unwrap();
                let mut said = [0; 6];
                let mut stdout = child.process.stdout.take().unwrap();
                stdout.read_exact(&mut said).unwrap();
                assert_eq!(child.ended().unwrap(), None);
                child.stop(Duration::from_millis(20)).unwrap();
                assert!(process_groups.members().is_empty());
                assert_eq!(kill_inhabitants(namespace.inode().unwrap()), 0);
            });
        });
    }

    #[test]
    fn the_status_of_an_end_is_kept() {
        let name = "process_group::tests::the_status_of_an_end_is_kept";
        in_namespaces(name, || {
            let namespace = Namespace::new().unwrap();
            namespace.run(|| {
                let process_groups = ProcessGroups::default();
                let mut child = process_groups
                    .spawn(&namespace, &mut shell("exit 7"))
                    .unwrap();
                let status = child.stop(Duration::from_secs(10)).unwrap();
                // It may be quicker than the signal, or not.
                assert!(matches!(status.code(), Some(7) | None));
                assert_eq!(child.ended().unwrap(), Some(status));
                let missing = process_groups.spawn(&namespace, &mut Command::new("/nonexistent"));
                assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
            });
        });
    }
}
