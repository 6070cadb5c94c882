//! Joining replies into trains.
//!
//! A small hash table, forgotten at each batch, finds the open train of a flow. Neighbours or
//! not, a reply joins it or closes it.

use std::hash::BuildHasher;

use rustc_hash::FxBuildHasher;

use crate::datagram::{Attributes, Flow, SEGMENTS_MAX, segment_count};
use reflector_udp::mmsg::Piece;

/// Payload bytes that a train is joined up to. IPv6 could have 20 more.
const PAYLOAD_MAX: u32 = reflector_udp::PAYLOAD_V4_MAX;

/// Datagrams of one length that lie one behind the other in a buffer; the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub lease: u32,
    pub start: u32,
    pub len: u32,
    pub segment_len: u32,
}

impl Run {
    /// Number of datagrams in it.
    #[inline]
    fn count(&self) -> u32 {
        segment_count(self.len as usize, self.segment_len) as u32
    }

    /// The bytes that it covers.
    #[inline]
    fn piece(&self) -> Piece {
        Piece {
            lease: self.lease,
            start: self.start,
            len: self.len,
        }
    }

    /// Its datagrams, as runs of one.
    #[inline]
    pub fn segments(self) -> impl Iterator<Item = Self> {
        (0..self.count()).map(move |index| {
            let offset = index * self.segment_len;
            let len = self.segment_len.min(self.len - offset);
            Self {
                start: self.start + offset,
                len,
                segment_len: len,
                ..self
            }
        })
    }

    /// Whether the first `len` bytes of `segment`, the next replied one, continue this run: right
    /// behind it, no longer than the others, and none of those was shorter.
    #[inline]
    pub fn can_extend(&self, segment: &Self, len: u32) -> bool {
        let is_next = self.start + self.len == segment.start;
        let is_full = self.segment_len > 0 && self.len.is_multiple_of(self.segment_len);
        is_next && is_full && len > 0 && len <= self.segment_len
    }
}

/// How long a train may get.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Datagrams in it; 1 is no train at all.
    pub segments_max: usize,
    /// Bytes of each.
    pub segment_len_max: u32,
}

/// One message: a train, or a single datagram.
#[derive(Debug)]
pub struct Train {
    pub flow: Flow,
    pub attributes: Attributes,
    hash: u64,
    /// Number of datagrams.
    pub count: u32,
    /// Payload bytes.
    pub len: u32,
    segment_len: u32,
    first_piece: u32,
    last_piece: u32,
}

impl Train {
    /// Bytes of each datagram; the last may be shorter.
    #[inline]
    pub fn segment_len(&self) -> u32 {
        self.segment_len
    }

    fn is_of(&self, flow: &Flow, hash: u64) -> bool {
        self.hash == hash && self.flow == *flow
    }

    #[inline]
    fn accepts(&self, attributes: Attributes, run: &Run, count: u32, limit: &Limit) -> bool {
        let is_open = self.len == self.count * self.segment_len && self.segment_len > 0;
        let is_single = run.len <= run.segment_len;
        let fits = run.segment_len == self.segment_len
            || (is_single && run.len > 0 && run.len < self.segment_len);
        is_open
            && fits
            && self.attributes == attributes
            && (self.count + count) as usize <= limit.segments_max
            && self.len + run.len <= PAYLOAD_MAX
            && self.segment_len <= limit.segment_len_max
    }
}

struct Link {
    piece: Piece,
    /// Index of the next one of the train, or `NONE`.
    next: u32,
}

/// No index.
const NONE: u32 = u32::MAX;

/// The trains of a batch, in the order they are to be sent.
pub struct Trains {
    trains: Vec<Train>,
    links: Vec<Link>,
    open: Open,
    /// The train joined last, which is the open one of its flow: where neighbours are of one peer,
    /// no table is asked.
    recent: u32,
}

impl Trains {
    /// Room for `trains_max` trains of as many pieces in all, allocated now.
    pub fn new(trains_max: usize) -> Self {
        Self {
            trains: Vec::with_capacity(trains_max),
            links: Vec::with_capacity(trains_max),
            open: Open::new(trains_max),
            recent: 0,
        }
    }

    /// Whether one more buffer can be joined, whatever becomes of it: a message and a piece for
    /// each of its segments.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.links.len() + SEGMENTS_MAX <= self.links.capacity()
    }

    /// Number of trains.
    #[inline]
    pub fn len(&self) -> usize {
        self.trains.len()
    }

    /// The train at `index`.
    #[inline]
    pub fn get(&self, index: usize) -> &Train {
        &self.trains[index]
    }

    /// Appends `run` to the open train of `flow`, or closes that and opens a new one, where its
    /// length or attributes do not fit. A run that exceeds `limit` by itself is taken apart.
    #[inline]
    pub fn join(&mut self, flow: &Flow, attributes: Attributes, run: Run, limit: &Limit) {
        let count = run.count();
        let is_train = count > 1;
        if is_train
            && (count as usize > limit.segments_max || run.segment_len > limit.segment_len_max)
        {
            run.segments()
                .for_each(|segment| self.join_run(flow, attributes, segment, 1, limit));
        } else {
            self.join_run(flow, attributes, run, count, limit);
        }
    }

    #[inline]
    fn join_run(
        &mut self,
        flow: &Flow,
        attributes: Attributes,
        run: Run,
        count: u32,
        limit: &Limit,
    ) {
        let hash = FxBuildHasher.hash_one(flow);
        let link = self.links.len() as u32;
        self.links.push(Link {
            piece: run.piece(),
            next: NONE,
        });
        if let Some(train) = self.trains.get(self.recent as usize)
            && train.is_of(flow, hash)
            && train.accepts(attributes, &run, count, limit)
        {
            return self.extend(self.recent, link, &run, count);
        }
        let trains = &self.trains;
        let open = self
            .open
            .entry(hash, |train| trains[train as usize].is_of(flow, hash));
        if let Some(train) = trains.get(*open as usize)
            && train.accepts(attributes, &run, count, limit)
        {
            let open = *open;
            return self.extend(open, link, &run, count);
        }
        *open = trains.len() as u32;
        self.recent = *open;
        self.trains.push(Train {
            flow: *flow,
            attributes,
            hash,
            count,
            len: run.len,
            segment_len: run.segment_len,
            first_piece: link,
            last_piece: link,
        });
    }

    /// Appends `link`, the piece of `run`, to the train at `index`.
    #[inline]
    fn extend(&mut self, index: u32, link: u32, run: &Run, count: u32) {
        let train = &mut self.trains[index as usize];
        self.links[train.last_piece as usize].next = link;
        train.last_piece = link;
        train.count += count;
        train.len += run.len;
        self.recent = index;
    }

    /// Every train with its pieces, in the order to be sent.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&Train, impl Iterator<Item = Piece>)> {
        self.trains.iter().map(|train| {
            let first = self.links.get(train.first_piece as usize);
            let links = std::iter::successors(first, |link| self.links.get(link.next as usize));
            (train, links.map(|link| link.piece))
        })
    }

    /// Forgets all trains.
    #[inline]
    pub fn clear(&mut self) {
        self.trains.clear();
        self.links.clear();
        self.open.forget();
    }
}

/// Which train of a flow is open: open addressing, forgotten by counting up an epoch.
struct Open {
    entries: Vec<Entry>,
    epoch: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    epoch: u64,
    /// The upper half of the flow's hash; the lower half says where the search begins.
    tag: u32,
    train: u32,
}

impl Open {
    fn new(flows_max: usize) -> Self {
        let len = (flows_max * 2).next_power_of_two();
        let unused = Entry {
            epoch: 0,
            tag: 0,
            train: NONE,
        };
        Self {
            entries: vec![unused; len],
            epoch: 1,
        }
    }

    /// The open train of the flow with this hash, which `is_flow` recognises by a train of it;
    /// `NONE` where there was no such entry.
    #[inline]
    fn entry(&mut self, hash: u64, is_flow: impl Fn(u32) -> bool) -> &mut u32 {
        let tag = (hash >> 32) as u32;
        let mask = self.entries.len() - 1;
        let mut index = hash as usize & mask;
        loop {
            let entry = self.entries[index];
            if entry.epoch != self.epoch {
                self.entries[index] = Entry {
                    epoch: self.epoch,
                    tag,
                    train: NONE,
                };
                break;
            }
            if entry.tag == tag && is_flow(entry.train) {
                break;
            }
            index = (index + 1) & mask;
        }
        &mut self.entries[index].train
    }

    #[inline]
    fn forget(&mut self) {
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests;
