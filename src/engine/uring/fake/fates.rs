//! What has become of every datagram of the world, and the counters that follow from that.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use crate::datagram::DropReason;
use crate::stats::counters::Counters;

use super::world::SOCKETS;

/// A datagram's number, in the order of arrival. What has room for it begins with it.
pub type Id = u32;

/// Bytes of the number.
pub const ID_LEN: usize = size_of::<Id>();

/// A datagram.
#[derive(Clone, Debug)]
pub struct Datagram {
    pub peer: SocketAddr,
    /// The address asked.
    pub local: IpAddr,
    pub socket: usize,
    pub len: usize,
    /// Hops that it had left, where that is told.
    pub hops: Option<u8>,
    /// Why no guard is asked, if it cannot be answered.
    pub unanswerable: Option<DropReason>,
    pub fate: Fate,
    /// What its reply is to be like, once that is decided.
    pub reply: Reply,
}

/// What a reply is to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    pub len: usize,
    pub hops: Option<u8>,
    pub tos: Option<u8>,
}

/// What has become of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It waits in its socket's queue, or in a buffer that nobody has looked at.
    Queued,
    /// It is in a batch.
    Taken,
    /// It is to be answered.
    Decided,
    /// Its reply has left.
    Answered,
    /// The kernel has refused its reply; there may be another try.
    Refused(i32),
    /// It gets no reply.
    Dropped(DropReason),
}

impl Fate {
    /// Whether its buffer is still needed.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Taken | Self::Decided)
    }
}

/// All datagrams.
#[derive(Debug, Default)]
pub struct Fates {
    datagrams: Vec<Datagram>,
    /// What has become of those of each socket.
    sums: [Sums; SOCKETS],
    /// The last one answered by peer, address asked and socket.
    last: BTreeMap<(SocketAddr, IpAddr, usize), Id>,
}

/// What has become of the datagrams of one socket.
#[derive(Debug, Default)]
struct Sums {
    /// How many have each fate.
    counts: BTreeMap<(u8, i32), u64>,
    /// Payload bytes of what was taken, and of what was answered.
    bytes_taken: u64,
    bytes_answered: u64,
}

impl Sums {
    fn count(&self, fate: Fate) -> u64 {
        self.counts.get(&key(fate)).copied().unwrap_or(0)
    }

    /// Every counter of the socket is what the fates make it.
    fn check(&self, counters: &Counters, is_settled: bool) {
        let queued = self.count(Fate::Queued);
        let taken = self.counts.values().sum::<u64>() - queued;
        assert_eq!(counters.received, taken, "received");
        assert_eq!(counters.bytes_received, self.bytes_taken, "bytes received");
        let answered = self.count(Fate::Answered);
        for (reason, dropped) in counters.dropped() {
            let expected = self.count(Fate::Dropped(reason));
            assert_eq!(dropped, expected, "dropped: {reason:?}");
        }
        if !is_settled {
            return;
        }
        assert_eq!(counters.replied, answered, "replied");
        assert_eq!(counters.bytes_replied, self.bytes_answered, "bytes replied");
        for errno in ERRNOS {
            let counted = counters.send_errors().find(|it| it.0 == errno);
            let counted = counted.map_or(0, |it| it.1);
            assert_eq!(counted, self.count(Fate::Refused(errno)), "errno {errno}");
        }
        let in_flight = self.count(Fate::Taken) as i64;
        assert_eq!(counters.open(), in_flight, "the counters add up");
    }
}

impl Fates {
    /// A datagram has arrived.
    pub fn add(&mut self, datagram: Datagram) -> Id {
        let id = self.datagrams.len() as Id;
        let counts = &mut self.sums[datagram.socket].counts;
        *counts.entry(key(datagram.fate)).or_default() += 1;
        self.datagrams.push(datagram);
        id
    }

    pub fn get(&self, id: Id) -> &Datagram {
        &self.datagrams[id as usize]
    }

    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// What its reply is to be like.
    pub fn decide(&mut self, id: Id, reply: Reply) {
        assert_eq!(self.get(id).fate, Fate::Taken, "{id} is decided once");
        self.datagrams[id as usize].reply = reply;
        self.set(id, Fate::Decided);
    }

    /// Its fate is `fate` from now on.
    pub fn set(&mut self, id: Id, fate: Fate) {
        let datagram = &mut self.datagrams[id as usize];
        let sums = &mut self.sums[datagram.socket];
        *sums.counts.entry(key(datagram.fate)).or_default() -= 1;
        *sums.counts.entry(key(fate)).or_default() += 1;
        if datagram.fate == Fate::Queued {
            sums.bytes_taken += datagram.len as u64;
        }
        datagram.fate = fate;
    }

    /// Its buffer is looked at: it is in a batch, or cannot be answered.
    pub fn take(&mut self, id: Id) {
        assert_eq!(self.get(id).fate, Fate::Queued, "{id} comes once");
        let unanswerable = self.get(id).unanswerable;
        self.set(id, unanswerable.map_or(Fate::Taken, Fate::Dropped));
    }

    /// Its reply has left, in the order of messages or not.
    pub fn answered(&mut self, id: Id, is_in_order: bool) {
        let datagram = self.get(id);
        assert!(
            matches!(datagram.fate, Fate::Decided | Fate::Refused(_)),
            "datagram {id} is answered, and was {:?}",
            datagram.fate
        );
        let flow = (datagram.peer, datagram.local, datagram.socket);
        self.sums[datagram.socket].bytes_answered += datagram.reply.len as u64;
        if is_in_order && let Some(last) = self.last.insert(flow, id) {
            assert!(
                last < id,
                "{} is answered out of order: {id} after {last}",
                flow.0
            );
        }
        self.set(id, Fate::Answered);
    }

    fn count(&self, fate: Fate) -> u64 {
        self.sums.iter().map(|it| it.count(fate)).sum()
    }

    /// Datagrams that have arrived and were neither answered nor given up.
    pub fn waiting(&self) -> u64 {
        self.count(Fate::Queued)
    }

    /// Datagrams that have been received and have no end yet.
    pub fn in_flight(&self) -> u64 {
        self.count(Fate::Taken) + self.count(Fate::Decided)
    }

    /// Every counter of each socket is what the fates make it. Where all `is_settled`, nothing is
    /// to be sent.
    pub fn check(&self, counters: &[Counters], is_settled: bool) {
        if is_settled {
            let decided = self.count(Fate::Decided);
            assert_eq!(decided, 0, "{decided} are neither answered nor counted");
        }
        assert_eq!(counters.len(), self.sums.len());
        let both = self.sums.iter().zip(counters);
        both.for_each(|(sums, counters)| sums.check(counters, is_settled));
    }
}

/// Why the kernel refuses a reply.
pub const ERRNOS: [i32; 7] = [
    libc::EMSGSIZE,
    libc::EINVAL,
    libc::EIO,
    libc::EAGAIN,
    libc::ENOBUFS,
    libc::EPERM,
    libc::ENETUNREACH,
];

fn key(fate: Fate) -> (u8, i32) {
    match fate {
        Fate::Queued => (0, 0),
        Fate::Taken => (1, 0),
        Fate::Decided => (2, 0),
        Fate::Answered => (3, 0),
        Fate::Refused(errno) => (4, errno),
        Fate::Dropped(reason) => (5, reason as i32),
    }
}
