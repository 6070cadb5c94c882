//! The processes of the lab, and their end.
//!
//! Three things see to it that none outlives the lab. A server leads a process group of its own,
//! which is ended as a whole. What left the group, a daemon say, is found by the network namespace
//! it lives in, which nobody else uses. And should the lab be killed (SIGKILL) without a chance to
//! do either, the kernel kills the server itself ([`reflector_udp::child`]), though not what a shell
//! in between has started.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use reflector_netlab::topology::Namespace;
use reflector_udp::child;

/// All children of a lab, to be ended from any thread.
#[derive(Clone, Debug, Default)]
pub struct Household(Arc<Mutex<Vec<Member>>>);

/// A child that was not waited for yet: while it is listed, its process id is its own.
#[derive(Clone, Copy, Debug)]
struct Member {
    leader: Pid,
    namespace: u64,
}

/// How often a process is looked at that should end.
const LOOK: Duration = Duration::from_millis(2);

impl Household {
    /// A child started by the calling thread, which must be in `namespace` and must stay until
    /// the child has ended.
    ///
    /// # Errors
    /// What the system said to the start, such as `NotFound`.
    pub fn spawn(&self, namespace: &Namespace, command: &mut Command) -> io::Result<Servant> {
        let namespace = namespace.inode()?;
        child::end_with_this_thread(command.process_group(0));
        // Held during the start, so that no child is missed by an end of all.
        let mut members = self.members();
        let child = command.spawn()?;
        let leader = Pid::from_child(&child);
        members.push(Member { leader, namespace });
        drop(members);
        Ok(Servant {
            child,
            member: Member { leader, namespace },
            household: self.clone(),
            ended: None,
        })
    }

    /// The end of all children, at once. No other can be started afterwards: whoever tries waits,
    /// so the caller should end the process.
    pub fn end_all(&self) {
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
pub struct Servant {
    child: Child,
    member: Member,
    household: Household,
    ended: Option<ExitStatus>,
}

impl Servant {
    /// Its stdout and stderr, each once, if they were piped.
    pub fn take_pipes(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// The status it ended with, if it has.
    ///
    /// # Errors
    /// What waitpid(2) says; ECHILD where another part of the program waited for it.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            // Once it is waited for, its process id may become another's.
            let mut members = self.household.members();
            self.ended = self.child.try_wait()?;
            if self.ended.is_some() {
                members.retain(|member| member.leader != self.member.leader);
            }
        }
        Ok(self.ended)
    }

    /// Its end by SIGTERM, or after `patience` by SIGKILL, with all that it started.
    ///
    /// # Errors
    /// As [`ended`](Servant::ended).
    pub fn stop(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        if self.ended()?.is_none() {
            signal_group(self.member.leader, Signal::TERM);
        }
        let looks = patience.as_millis() / LOOK.as_millis();
        for _ in 0..looks {
            if let Some(status) = self.ended()? {
                sweep(self.member.namespace);
                return Ok(status);
            }
            thread::sleep(LOOK);
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
                None => thread::sleep(LOOK),
            }
        };
        sweep(self.member.namespace);
        Ok(status)
    }
}

impl Drop for Servant {
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
        thread::sleep(LOOK);
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
    // Opened first: whose namespace is looked at is who gets the signal, whatever becomes of the
    // number.
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    let path = format!("/proc/{}/ns/net", pid.as_raw_nonzero());
    let is_inhabitant = fs::metadata(path).is_ok_and(|found| found.ino() == namespace);
    // Our own first thread lives in no namespace of the lab.
    (is_inhabitant && pid != rustix::process::getpid()).then_some(())?;
    pidfd_send_signal(process, Signal::KILL).ok()
}

/// The last that a process wrote to a pipe.
#[derive(Debug)]
pub struct LastWords {
    tail: Arc<Mutex<Vec<u8>>>,
    end: Receiver<()>,
}

impl LastWords {
    /// Bytes that are kept.
    const TAIL_LEN: usize = 2048;

    /// Reads from `pipe` until its end, on a thread of its own, so that the writer never waits.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn of(mut pipe: impl Read + Send + 'static) -> io::Result<Self> {
        let tail = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&tail);
        let (at_end, end) = channel();
        let listen = move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend_from_slice(&buffer[..len]);
                let excess = tail.len().saturating_sub(Self::TAIL_LEN);
                tail.drain(..excess);
            }
            drop(at_end);
        };
        let thread = thread::Builder::new().name("last-words".to_owned());
        thread.spawn(listen)?;
        Ok(Self { tail, end })
    }

    /// Its last three lines in one; empty if it said nothing. Meant for a process that has ended:
    /// what it wrote last is waited for, shortly.
    pub fn hear(&self) -> String {
        // Nothing is ever sent; the channel closes when the pipe does.
        let _ = self.end.recv_timeout(Duration::from_millis(200));
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&tail);
        let printable = |line: &str| line.replace(|c: char| c.is_control(), " ");
        let lines: Vec<String> = text
            .lines()
            .map(|line| printable(line).trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect();
        lines[lines.len().saturating_sub(3)..].join(" / ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reflector_netlab::topology::in_namespaces;
    use std::process::Stdio;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        command
    }

    #[test]
    fn last_words_are_the_last_lines() {
        let said = "one\ntwo\n\n  three \nfour\u{7}\n".as_bytes();
        assert_eq!(LastWords::of(said).unwrap().hear(), "two / three / four");
        assert_eq!(LastWords::of(io::empty()).unwrap().hear(), "");
        let words = LastWords::of(io::repeat(b'x').take(1 << 20)).unwrap();
        assert_eq!(words.hear().len(), LastWords::TAIL_LEN);
    }

    /// A server that ignores SIGTERM and has a daemon of its own ends with that.
    #[test]
    fn nobody_stays_in_the_namespace() {
        let name = "lab::show::household::tests::nobody_stays_in_the_namespace";
        in_namespaces(name, || {
            let namespace = Namespace::new().unwrap();
            let household = Household::default();
            namespace.run(|| {
                let mut command = shell("trap '' TERM; setsid sleep 60 & echo ready; sleep 60");
                let mut servant = household
                    .spawn(&namespace, command.stdout(Stdio::piped()))
                    .unwrap();
                let mut said = [0; 6];
                let mut stdout = servant.child.stdout.take().unwrap();
                stdout.read_exact(&mut said).unwrap();
                assert_eq!(servant.ended().unwrap(), None);
                servant.stop(Duration::from_millis(20)).unwrap();
                assert!(household.members().is_empty());
                assert_eq!(kill_inhabitants(namespace.inode().unwrap()), 0);
            });
        });
    }

    #[test]
    fn the_status_of_an_end_is_kept() {
        let name = "lab::show::household::tests::the_status_of_an_end_is_kept";
        in_namespaces(name, || {
            let namespace = Namespace::new().unwrap();
            namespace.run(|| {
                let household = Household::default();
                let mut servant = household.spawn(&namespace, &mut shell("exit 7")).unwrap();
                let status = servant.stop(Duration::from_secs(10)).unwrap();
                // It may be quicker than the signal, or not.
                assert!(matches!(status.code(), Some(7) | None));
                assert_eq!(servant.ended().unwrap(), Some(status));
                let missing = household.spawn(&namespace, &mut Command::new("/nonexistent"));
                assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
            });
        });
    }
}
