//! Attachments that attach nothing and say what they were asked to do.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reflector_accelerate::Routes;
use reflector_accelerate::devices::{
    Attachments, Bridge, Devices, Follower, LocalAddresses, peer_is_scrubbed,
};
use reflector_accelerate::way::{Framing, Way};
use reflector_measure::error::Error;
use reflector_measure::host::kernel_release;
use reflector_netlab::topology::Namespace;
use reflector_netlink::Netlink;

/// What attachments were asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To attach to the device that has this name in the namespace of the thread that asked.
    Attach(String, Way, Framing),
    SetWay(String, Way),
    Detach(String),
    SetAddresses(LocalAddresses),
    /// What failed, as the test wanted.
    Failed(Call),
    /// They were dropped.
    End,
}

/// What is not done, if anything; whoever holds the lock keeps addresses from being set.
pub type Fault = Arc<Mutex<Option<Call>>>;

/// What can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Attach,
    SetWay,
    SetAddresses,
}

struct Recorder {
    asked: Sender<Asked>,
    fault: Fault,
    /// The names of devices when they were attached.
    names: BTreeMap<u32, String>,
}

impl Recorder {
    fn tell(&self, asked: Asked) {
        // The test may be over.
        let _ = self.asked.send(asked);
    }

    /// Fails once if `call` is to.
    fn may_fail(&self, call: Call) -> Result<(), Error> {
        let fault = self.fault.lock().unwrap().take_if(|it| *it == call);
        match fault {
            Some(call) => {
                self.tell(Asked::Failed(call));
                let attempted = format!("cannot do {call:?}");
                Err(Error::new(attempted, "a test wants it so"))
            }
            None => Ok(()),
        }
    }
}

impl Attachments for Recorder {
    fn attach(
        &mut self,
        index: u32,
        way: Way,
        framing: Framing,
        _: Option<Bridge>,
    ) -> Result<(), Error> {
        self.may_fail(Call::Attach)?;
        let link = Netlink::open().and_then(|mut netlink| netlink.link_at(index));
        let link = link.map_err(|error| Error::system("cannot attach", &error))?;
        self.names.insert(index, link.name.clone());
        self.tell(Asked::Attach(link.name, way, framing));
        Ok(())
    }

    fn set_way(&mut self, index: u32, way: Way) -> Result<(), Error> {
        self.may_fail(Call::SetWay)?;
        self.tell(Asked::SetWay(self.names[&index].clone(), way));
        Ok(())
    }

    fn detach(&mut self, index: u32) {
        // One to which attaching has failed has none.
        if let Some(name) = self.names.remove(&index) {
            self.tell(Asked::Detach(name));
        }
    }

    fn set_addresses(&mut self, addresses: &LocalAddresses) -> Result<(), Error> {
        self.may_fail(Call::SetAddresses)?;
        self.tell(Asked::SetAddresses(addresses.clone()));
        Ok(())
    }

    // What bridges and routes change is seen where the program answers.
    fn set_bridge(&mut self, _: u32, _: Option<Bridge>) -> Result<(), Error> {
        Ok(())
    }

    fn set_routes(&mut self, _: &Routes) -> Result<(), Error> {
        Ok(())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.tell(Asked::End);
    }
}

/// Devices of a namespace that are followed.
pub struct Followed {
    follower: Option<Follower>,
    asked: Receiver<Asked>,
    fault: Fault,
}

impl Followed {
    /// Those called `names` in `namespace`; fails as `Devices::open` does.
    pub fn open(namespace: &Namespace, names: &[&str]) -> Result<Self, Error> {
        Self::open_with(namespace, names, None)
    }

    /// The same, where `fault` fails once.
    pub fn open_with(
        namespace: &Namespace,
        names: &[&str],
        fault: Option<Call>,
    ) -> Result<Self, Error> {
        let (sender, asked) = channel();
        let fault = Fault::new(Mutex::new(fault));
        let recorder = Recorder {
            asked: sender,
            fault: fault.clone(),
            names: BTreeMap::new(),
        };
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let open = || Devices::open(&names, recorder)?.follow();
        Ok(Self {
            follower: Some(namespace.run(open)?),
            asked,
            fault,
        })
    }

    /// What is asked next. Nothing for half a minute is a failure.
    pub fn next(&self) -> Asked {
        let next = self.asked.recv_timeout(Duration::from_secs(30));
        next.expect("something is asked for")
    }

    /// What is asked next, but for addresses.
    pub fn next_of_devices(&self) -> Asked {
        loop {
            match self.next() {
                Asked::SetAddresses(_) => {}
                asked => return asked,
            }
        }
    }

    /// Waits until addresses are set for which `is_it` holds.
    pub fn until_addresses(&self, is_it: impl Fn(&LocalAddresses) -> bool) {
        let is_it = |it: &Asked| matches!(it, Asked::SetAddresses(all) if is_it(all));
        while !is_it(&self.next()) {}
    }

    /// What is not done, and whether addresses are set: see there.
    pub fn fault(&self) -> MutexGuard<'_, Option<Call>> {
        self.fault.lock().unwrap()
    }

    /// Ends it; what was asked and not yet read, to the end, but for addresses.
    pub fn end(mut self) -> Vec<Asked> {
        self.follower = None;
        let is_other = |it: &Asked| !matches!(it, Asked::SetAddresses(_));
        self.asked.try_iter().filter(is_other).collect()
    }
}

/// The way of a veth that has a carrier and its other end in another namespace.
pub fn far_way() -> Way {
    if peer_is_scrubbed(&kernel_release()) {
        Way::Peer
    } else {
        Way::Plain
    }
}

pub fn attach(name: &str, way: Way) -> Asked {
    Asked::Attach(name.into(), way, Framing::Ethernet)
}

pub fn detach(name: &str) -> Asked {
    Asked::Detach(name.into())
}
