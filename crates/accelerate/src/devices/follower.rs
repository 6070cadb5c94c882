//! Does what the machine says, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_measure::host::kernel_release;
use reflector_netlink::{Changes, Topic};
use reflector_udp::wake::Wake;

use super::host::Namespace;
use super::judge::peer_is_scrubbed;
use super::local::LocalAddresses;
use super::machine::Machine;
use super::step::{Bridge, Reason, Step};
use crate::routes::Routes;
use crate::way::{Framing, Way};

/// Who attaches the program.
pub trait Attachments {
    /// Attaches to the device with this number in the calling thread's network namespace, a port of
    /// `bridge` or of none.
    ///
    /// # Errors
    /// ENODEV when it has gone meanwhile; nothing is attached then.
    fn attach(
        &mut self,
        index: u32,
        way: Way,
        framing: Framing,
        bridge: Option<Bridge>,
    ) -> Result<(), Error>;

    /// Answers in another way from now on, without a moment in which nothing is attached.
    ///
    /// # Errors
    /// EPERM and the like: the device is let go of.
    fn set_way(&mut self, index: u32, way: Way) -> Result<(), Error>;

    /// Answers from now on at this device as at a port of `bridge`, or as at none.
    ///
    /// # Errors
    /// EPERM and the like: the device is let go of.
    fn set_bridge(&mut self, index: u32, bridge: Option<Bridge>) -> Result<(), Error>;

    /// Lets go of a device, which may be gone or in another namespace.
    fn detach(&mut self, index: u32);

    /// Has only these addresses answered from; before the first call there are none. Those that are
    /// not among them any more are taken out before others are put in.
    ///
    /// # Errors
    /// E2BIG where there is no room for so many: all devices are let go of.
    fn set_addresses(&mut self, addresses: &LocalAddresses) -> Result<(), Error>;

    /// Has only those answered from now on who are reached by the device that they ask at; before
    /// the first call there is nobody.
    ///
    /// # Errors
    /// E2BIG where there is no room for so many: all devices are let go of.
    fn set_routes(&mut self, routes: &Routes) -> Result<(), Error>;
}

/// Devices that are attached, and not yet followed. When this is dropped they are let go of.
#[derive(Debug)]
pub struct Devices<A: Attachments> {
    machine: Machine,
    changes: Changes,
    host: Namespace,
    attachments: A,
    /// When routes were read last.
    routes_read: Instant,
    /// Whether they may have changed since.
    routes_are_stale: bool,
}

impl<A: Attachments> Drop for Devices<A> {
    fn drop(&mut self) {
        for index in self.machine.attached() {
            self.attachments.detach(index);
        }
    }
}

impl<A: Attachments> Devices<A> {
    /// Attaches to the devices called `names`, all of them, in the calling thread's network
    /// namespace. What changes from now on is not missed.
    ///
    /// # Errors
    /// A device that is not there or not to be accelerated, with what to try; what `attachments`
    /// say.
    pub fn open(names: &[String], attachments: A) -> Result<Self, Error> {
        let cannot = |error: io::Error| Error::system("cannot follow the devices", &error);
        // In this order: what changes while the host is read is told as well.
        let topics = [Topic::Links, Topic::Addresses, Topic::Routes];
        let changes = Changes::subscribe(&topics).map_err(cannot)?;
        let host = Namespace::open().map_err(cannot)?;
        let mut devices = Self {
            machine: Machine::new(names, peer_is_scrubbed(&kernel_release())),
            changes,
            host,
            attachments,
            routes_read: clock::monotonic(),
            routes_are_stale: false,
        };
        for step in devices.machine.begin(&mut devices.host) {
            if let Step::Wait { name, reason } = &step {
                return Err(cannot_accelerate(name, reason));
            }
            devices.carry_out(&step)?;
        }
        Ok(devices)
    }

    /// Follows them, on a thread of its own in the same network namespace: the calling thread's.
    ///
    /// # Errors
    /// EAGAIN where there may be no more threads, EMFILE where no more descriptors.
    pub fn follow(self) -> Result<Follower, Error>
    where
        A: Send + 'static,
    {
        let cannot = |error: io::Error| Error::system("cannot follow the devices", &error);
        let wake = Arc::new(Wake::open().map_err(cannot)?);
        let end = wake.clone();
        let thread = thread::Builder::new().name("devices".to_owned());
        let thread = thread.spawn(move || self.run(&end)).map_err(cannot)?;
        Ok(Follower {
            wake,
            thread: Some(thread),
        })
    }

    fn run(mut self, end: &Wake) {
        loop {
            match self.wait(end) {
                Ok(false) => return,
                Ok(true) => {}
                Err(error) => {
                    tracing::error!(
                        "cannot follow the devices any more: {error}; nothing is accelerated, the \
                         sockets answer"
                    );
                    return;
                }
            }
        }
    }

    /// Waits for changes and does what they make necessary; `false` when it is to end.
    fn wait(&mut self, end: &Wake) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&self.changes, PollFlags::IN),
            PollFd::new(end, PollFlags::IN),
        ];
        let rest = self.routes_are_stale.then(|| {
            let rest = ROUTES_REST.saturating_sub(self.routes_age());
            Timespec::try_from(rest).expect("it is short")
        });
        match poll(&mut fds, rest.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
        let [changes, end] = fds.map(|fd| !fd.revents().is_empty());
        if end {
            return Ok(false);
        }
        if changes {
            let mut changes = self.changes.wait()?;
            let mut left = MOST_TOGETHER;
            while !changes.is_empty() {
                for change in changes {
                    let steps = self.machine.take(&change, &mut self.host);
                    self.carry_out_all(steps);
                }
                left -= 1;
                changes = if left > 0 {
                    self.changes.told()?
                } else {
                    Vec::new()
                };
            }
            self.routes_are_stale = true;
        }
        if self.routes_are_stale && self.routes_age() >= ROUTES_REST {
            let steps = self.machine.look_at_routes(&mut self.host);
            self.carry_out_all(steps);
            self.routes_read = clock::monotonic();
            self.routes_are_stale = false;
        }
        Ok(true)
    }

    fn routes_age(&self) -> Duration {
        clock::monotonic().saturating_duration_since(self.routes_read)
    }

    /// Does what is to be done, and what a failure makes necessary.
    fn carry_out_all(&mut self, steps: Vec<Step>) {
        let mut addresses_are_set = Ok(());
        for step in steps {
            // What is not known to be this host's is not answered from.
            let is_safe = matches!(step, Step::Detach { .. } | Step::Wait { .. });
            if addresses_are_set.is_err() && !is_safe {
                continue;
            }
            let Err(error) = self.carry_out(&step) else {
                continue;
            };
            match step {
                Step::Attach { index, .. }
                | Step::SetWay { index, .. }
                | Step::SetBridge { index, .. } => {
                    let steps = self.machine.lost(index, &error.to_string());
                    self.let_go(&steps);
                }
                _ => addresses_are_set = Err(error),
            }
        }
        if let Err(error) = addresses_are_set {
            let steps = self.machine.lost_all(&error.to_string());
            self.let_go(&steps);
        }
    }

    /// Does what cannot fail.
    fn let_go(&mut self, steps: &[Step]) {
        for step in steps {
            let done = self.carry_out(step);
            debug_assert!(done.is_ok(), "letting go and waiting do not fail: {step:?}");
        }
    }

    fn carry_out(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::SetAddresses(addresses) => self.attachments.set_addresses(addresses)?,
            Step::SetRoutes(routes) => self.attachments.set_routes(routes)?,
            Step::SetBridge { index, bridge } => self.attachments.set_bridge(*index, *bridge)?,
            Step::Leave(families) => tracing::warn!(
                "there are rules for routes besides the usual ones, so who asks by {families} is \
                 left to the sockets; `ip rule` and `ip -6 rule` list them"
            ),
            Step::Attach {
                name,
                index,
                way,
                framing,
                bridge,
                hint,
            } => {
                self.attachments.attach(*index, *way, *framing, *bridge)?;
                tracing::info!("{name} is accelerated, {}", said_of(*way));
                if let Some(hint) = hint {
                    tracing::warn!("{hint}");
                }
            }
            Step::SetWay { index, way } => {
                self.attachments.set_way(*index, *way)?;
                tracing::info!(
                    "device {index} is accelerated {} from now on",
                    said_of(*way)
                );
            }
            Step::Detach { index } => self.attachments.detach(*index),
            Step::Wait { name, reason } => tracing::warn!(
                "{}; the sockets answer there until it can be accelerated",
                cannot_accelerate(name, reason)
            ),
        }
        Ok(())
    }
}

/// After so many reads of messages it is seen whether routes are to be read, even where more wait.
const MOST_TOGETHER: usize = 256;

/// Routes are read no more often, but before a device is attached: a table may be long, and a
/// routing daemon changes it for ever.
const ROUTES_REST: Duration = Duration::from_millis(100);

fn said_of(way: Way) -> &'static str {
    match way {
        Way::Peer => "by peer redirect",
        Way::Plain => "by plain redirect",
    }
}

fn cannot_accelerate(name: &str, reason: &Reason) -> Error {
    let attempted = format!("cannot accelerate {name}");
    match reason {
        Reason::Absent => Error::new(attempted, "there is no such device")
            .try_this("`ip link` lists those of this network namespace"),
        Reason::Refused(refusal) => {
            Error::new(attempted, refusal.to_string()).try_this(refusal.remedy())
        }
        Reason::Failed(said) => Error::new(attempted, said.clone()),
    }
}

/// Follows devices until it is dropped; then nothing is attached any more.
#[derive(Debug)]
pub struct Follower {
    wake: Arc<Wake>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.wake.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that followed the devices has panicked");
        }
    }
}
