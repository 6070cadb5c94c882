//! Who is answered, as the program reads it: two sets, one of which is used.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData, MapError};
use ipnet::IpNet;
use reflector_measure::error::Error;

use crate::failure;
use crate::layout::{NO_SET, Settings};

/// Lists of prefixes with their bits, and settings.
///
/// The set that is not used is written, and then taken into use by writing one number. Both are
/// made at the start, since making maps needs capabilities which writing them does not. A frame
/// that is judged meanwhile is judged by one set, whole; should the set be written again before it
/// is done, which takes it nanoseconds, it finds prefixes of one set or the next.
pub struct Lists {
    sets: [Set; 2],
    settings: Array<MapData, Settings>,
    used: Array<MapData, u32>,
    current: u32,
}

/// The trees of one set, and what is in them.
struct Set {
    v4: LpmTrie<MapData, [u8; 4], u32>,
    v6: LpmTrie<MapData, [u8; 16], u32>,
    entries: BTreeMap<IpNet, u32>,
}

impl Lists {
    /// Takes the maps of `ebpf`, which pass everything.
    ///
    /// # Errors
    /// What is not as `bpf/reflect.c` says.
    pub fn take(ebpf: &mut Ebpf) -> Result<Self, Error> {
        let mut lists = Self {
            sets: [Set::take(ebpf, "even")?, Set::take(ebpf, "odd")?],
            settings: take(ebpf, "both_settings")?,
            used: take(ebpf, "used")?,
            current: NO_SET,
        };
        lists.use_set(NO_SET).map_err(|e| cannot(&e))?;
        Ok(lists)
    }

    /// Goes by `entries` and `settings` from now on; where that fails, everything is passed.
    ///
    /// # Errors
    /// `ENOSPC` of too many prefixes, `ENOMEM`.
    pub fn set(&mut self, entries: BTreeMap<IpNet, u32>, settings: &Settings) -> Result<(), Error> {
        let next = u32::from(self.current == 0);
        let written = self
            .write(next, entries, settings)
            .and_then(|()| self.use_set(next));
        written.map_err(|error| match self.use_set(NO_SET) {
            Ok(()) => cannot(&error).try_this("the sockets answer everything from now on"),
            Err(_) => cannot(&error),
        })
    }

    fn write(
        &mut self,
        next: u32,
        entries: BTreeMap<IpNet, u32>,
        settings: &Settings,
    ) -> Result<(), MapError> {
        self.sets[next as usize].write(entries)?;
        self.settings.set(next, settings, 0)
    }

    fn use_set(&mut self, set: u32) -> Result<(), MapError> {
        self.used.set(0, set, 0)?;
        self.current = set;
        Ok(())
    }
}

impl Set {
    fn take(ebpf: &mut Ebpf, name: &str) -> Result<Self, Error> {
        Ok(Self {
            v4: take(ebpf, &format!("{name}4"))?,
            v6: take(ebpf, &format!("{name}6"))?,
            entries: BTreeMap::new(),
        })
    }

    /// Writes what differs.
    fn write(&mut self, entries: BTreeMap<IpNet, u32>) -> Result<(), MapError> {
        for (prefix, bits) in std::mem::take(&mut self.entries) {
            if entries.contains_key(&prefix) {
                self.entries.insert(prefix, bits);
            } else {
                self.remove(&prefix)?;
            }
        }
        for (prefix, bits) in entries {
            if self.entries.get(&prefix) != Some(&bits) {
                self.insert(&prefix, bits)?;
                self.entries.insert(prefix, bits);
            }
        }
        Ok(())
    }

    fn insert(&mut self, prefix: &IpNet, bits: u32) -> Result<(), MapError> {
        let len = u32::from(prefix.prefix_len());
        match prefix {
            IpNet::V4(it) => {
                let key = Key::new(len, it.network().octets());
                self.v4.insert(&key, bits, 0)
            }
            IpNet::V6(it) => {
                let key = Key::new(len, it.network().octets());
                self.v6.insert(&key, bits, 0)
            }
        }
    }

    fn remove(&mut self, prefix: &IpNet) -> Result<(), MapError> {
        let len = u32::from(prefix.prefix_len());
        match prefix {
            IpNet::V4(it) => self.v4.remove(&Key::new(len, it.network().octets())),
            IpNet::V6(it) => self.v6.remove(&Key::new(len, it.network().octets())),
        }
    }
}

/// Takes the map `name` out of `ebpf`, as what it is.
///
/// # Errors
/// There is none, or it is another.
pub fn take<M>(ebpf: &mut Ebpf, name: &str) -> Result<M, Error>
where
    M: TryFrom<aya::maps::Map, Error = MapError>,
{
    let map = ebpf.take_map(name);
    let map = map.ok_or_else(|| Error::new(format!("cannot find the map {name}"), "no such map"));
    M::try_from(map?).map_err(|error| failure::of(format!("cannot use the map {name}"), &error))
}

fn cannot(error: &MapError) -> Error {
    failure::of("cannot tell the program who is answered", error)
}
