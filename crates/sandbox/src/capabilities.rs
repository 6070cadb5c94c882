//! Rights of root that are kept and dropped.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities,
};

use crate::needs::{Entered, Needs};

/// The first port that anybody may listen at, unless net.ipv4.ip_unprivileged_port_start says
/// otherwise.
const PRIVILEGED: u16 = 1024;

/// Drops every capability that `needs` do not include, in every set.
pub fn drop_all_but(needs: &Needs, entered: &mut Entered) {
    let own = match capabilities(None) {
        Ok(own) => own,
        Err(error) => {
            let said = format!("cannot read the capabilities: {error}");
            return entered.missing.push(said);
        }
    };
    let mut kept = CapabilitySet::empty();
    if needs.rebind {
        // To bind a socket to another interface than the one it is bound to.
        kept |= CapabilitySet::NET_RAW;
    }
    if needs
        .listen
        .is_some_and(|port| (1..PRIVILEGED).contains(&port))
    {
        kept |= CapabilitySet::NET_BIND_SERVICE;
    }
    if needs.rings && own.effective.contains(CapabilitySet::IPC_LOCK) && !may_lock_memory() {
        kept |= CapabilitySet::IPC_LOCK;
    }
    // Of two that files of others are read by, the lesser; containers may have only the greater.
    let reading = [CapabilitySet::DAC_READ_SEARCH, CapabilitySet::DAC_OVERRIDE];
    if let Some(reading) = reading.into_iter().find(|&it| own.effective.contains(it))
        && !can_read_without(needs, own)
    {
        kept |= reading;
    }
    if own.effective.contains(CapabilitySet::SETPCAP) {
        for capability in CapabilitySet::all().iter() {
            // EINVAL of one that this kernel does not have.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    // EINVAL before Linux 4.3, which had no such set.
    let _ = clear_ambient_capability_set();
    if let Err(error) = keep(own.permitted & kept) {
        let said = format!("cannot drop capabilities: {error}");
        entered.missing.push(said);
    }
}

/// Drops all of the calling thread's.
///
/// # Errors
/// `EPERM` where a seccomp profile refuses it.
pub fn drop_all() -> io::Result<()> {
    keep(CapabilitySet::empty())
}

fn keep(kept: CapabilitySet) -> io::Result<()> {
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Whoever may lock memory without limit by a capability may do so without it afterwards, where the
/// limit can be raised.
fn may_lock_memory() -> bool {
    let unlimited = Rlimit {
        current: None,
        maximum: None,
    };
    getrlimit(Resource::Memlock) == unlimited || setrlimit(Resource::Memlock, unlimited).is_ok()
}

/// Whether the files of `needs` can be read without the capabilities that there are.
fn can_read_without(needs: &Needs, own: CapabilitySets) -> bool {
    let without = CapabilitySets {
        effective: CapabilitySet::empty(),
        ..own
    };
    if set_capabilities(None, without).is_err() {
        return true;
    }
    let can_read = needs.read.iter().all(|file| File::open(file).is_ok());
    set_capabilities(None, own).is_ok() && can_read
}
