//! Who is answered, as the program reads it: two sets, one of which is used.

use std::cmp::Reverse;
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
/// is done, which takes it nanoseconds, it is judged by the one or the other: prefixes are written
/// in such an order that the longest around any address is always the older one's or the newer's,
/// where there is room for both.
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

    /// Writes what differs. Where that fails, what is in the trees is still known.
    fn write(&mut self, entries: BTreeMap<IpNet, u32>) -> Result<(), MapError> {
        for write in writes(&self.entries, &entries, MOST) {
            match write {
                Write::Put(prefix, bits) => {
                    self.insert(&prefix, bits)?;
                    self.entries.insert(prefix, bits);
                }
                Write::Take(prefix) => {
                    self.remove(&prefix)?;
                    self.entries.remove(&prefix);
                }
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

/// What a tree has room for.
const MOST: usize = 1 << 20;

/// One thing to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    /// A prefix is put in, or has other bits from now on.
    Put(IpNet, u32),
    /// A prefix is taken out.
    Take(IpNet),
}

/// What makes `new` out of `old`: new ones are put in, the longest first, and then old ones are
/// taken out, the shortest first. Where `most` may not be enough for both, old ones go first.
fn writes(old: &BTreeMap<IpNet, u32>, new: &BTreeMap<IpNet, u32>, most: usize) -> Vec<Write> {
    let put = new.iter().filter(|(it, bits)| old.get(it) != Some(bits));
    let mut put: Vec<_> = put.map(|(it, bits)| (*it, *bits)).collect();
    put.sort_by_key(|(it, _)| Reverse(it.prefix_len()));
    let has_room = old.len() + put.len() <= most;
    let put = put.into_iter().map(|(it, bits)| Write::Put(it, bits));
    let take = old.keys().filter(|it| !new.contains_key(it));
    let mut take: Vec<_> = take.copied().collect();
    take.sort_by_key(IpNet::prefix_len);
    let take = take.into_iter().map(Write::Take);
    if has_room {
        put.chain(take).collect()
    } else {
        take.chain(put).collect()
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
    failure::of_full(
        "cannot tell the program who is answered",
        error,
        "the lists have more than 1048576 prefixes when taken apart",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(entries: &[(&str, u32)]) -> BTreeMap<IpNet, u32> {
        let entries = entries.iter();
        entries
            .map(|(net, bits)| (net.parse().unwrap(), *bits))
            .collect()
    }

    fn judged(entries: &BTreeMap<IpNet, u32>, addr: &str) -> Option<u32> {
        let addr: std::net::IpAddr = addr.parse().unwrap();
        let around = entries.iter().filter(|(net, _)| net.contains(&addr));
        around
            .max_by_key(|(net, _)| net.prefix_len())
            .map(|(_, bits)| *bits)
    }

    fn be_written(entries: &mut BTreeMap<IpNet, u32>, write: Write) {
        match write {
            Write::Put(prefix, bits) => entries.insert(prefix, bits),
            Write::Take(prefix) => entries.remove(&prefix),
        };
    }

    /// A list that was too long, and is mended.
    #[test]
    fn a_full_tree_is_emptied_before_it_is_filled() {
        let old = entries(&[("10.1.0.0/16", 1), ("10.2.0.0/16", 1), ("10.3.0.0/16", 1)]);
        let new = entries(&[("10.1.0.0/16", 1), ("10.4.0.0/16", 1), ("10.5.0.0/16", 1)]);
        let mut now = old.clone();
        for write in writes(&old, &new, 3) {
            be_written(&mut now, write);
            assert!(now.len() <= 3, "{now:?}");
        }
        assert_eq!(now, new);
    }

    /// Each moment between two sets judges each address as one of them does.
    #[test]
    fn a_set_that_is_half_written_judges_as_the_old_or_the_new_one() {
        let old = entries(&[
            ("10.0.0.0/8", 1),
            ("10.1.0.0/16", 0),
            ("10.1.1.0/24", 1),
            ("10.2.0.0/16", 0),
        ]);
        let new = entries(&[
            ("10.0.0.0/8", 2),
            ("10.1.0.0/17", 2),
            ("10.1.1.0/24", 0),
            ("10.3.0.0/16", 0),
            ("10.3.3.0/24", 2),
        ]);
        let addrs = [
            "10.0.0.1",
            "10.1.0.1",
            "10.1.1.1",
            "10.1.200.1",
            "10.2.0.1",
            "10.3.0.1",
        ];
        let addrs = addrs.into_iter().chain(["10.3.3.1", "11.0.0.1"]);
        let mut now = old.clone();
        for write in writes(&old, &new, MOST) {
            be_written(&mut now, write);
            for addr in addrs.clone() {
                let either = [judged(&old, addr), judged(&new, addr)];
                assert!(either.contains(&judged(&now, addr)), "{addr}: {now:?}");
            }
        }
        assert_eq!(now, new);
    }
}
