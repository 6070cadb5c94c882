//! Datagrams that are all there before the program looks at the first: it is stopped meanwhile.

use reflector_netlab::observe::{counter, counter6};
use reflector_netlab::topology::Namespace;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::{Reflector, wait_until};

/// Runs `send` while `reflector` stands still; it finds all that `send` sent in its queues.
pub fn while_stopped<T>(reflector: &Reflector, send: impl FnOnce() -> T) -> T {
    stop(reflector);
    let result = send();
    reflector.signal(Signal::CONT);
    result
}

/// Stops every thread of `reflector` by SIGSTOP.
pub fn stop(reflector: &Reflector) {
    stop_child(Pid::from_raw(reflector.pid() as i32).expect("no process is 0"));
}

/// The same of any child of this process; it has stopped on return.
pub fn stop_child(pid: Pid) {
    kill_process(pid, Signal::STOP).expect("the child is ours");
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED)
        .expect("it is our child")
        .expect("it was waited for");
    assert!(status.stopped(), "{status:?}");
}

/// Messages that `namespace` has delivered, to know when those that were sent have arrived: that
/// may be after the return of the sending call.
pub struct Delivered<'a> {
    namespace: &'a Namespace,
    before: u64,
}

impl<'a> Delivered<'a> {
    /// Counts from now on in `namespace`.
    pub fn count(namespace: &'a Namespace) -> Self {
        Self {
            namespace,
            before: Self::read(namespace),
        }
    }

    /// Waits until `messages` more have been delivered.
    pub fn wait_for(&self, messages: u64) {
        wait_until("all that was sent has arrived", || {
            Self::read(self.namespace) >= self.before + messages
        });
    }

    /// Packets delivered to a protocol, less those of neighbour discovery and the like, which
    /// hosts send when they please.
    fn read(namespace: &Namespace) -> u64 {
        let v4 = |group, name| counter(namespace, group, name).expect("every kernel counts it");
        // A host without IPv6 delivers none.
        let v6 = |name| counter6(namespace, name).unwrap_or(0);
        let delivered = v4("Ip", "InDelivers") + v6("Ip6InDelivers");
        delivered.saturating_sub(v4("Icmp", "InMsgs") + v6("Icmp6InMsgs"))
    }
}
