//! What the kernel makes of a reply, and whether it is one that may leave.

use std::net::{IpAddr, SocketAddr};

use super::fates::{ERRNOS, Fate, ID_LEN, Id, Reply};
use super::message::Message;
use super::replies;
use super::rules::last_octet;
use super::world::{Exit, WILDCARDS, World};
use crate::datagram::{DropReason, SEGMENTS_MAX};
use crate::egress::Paths;
use reflector_udp::path::{Neighbour, Path};

/// How a message is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// By the ring, or sendmmsg(2).
    Batched {
        /// Whether a refusal is told: sendmmsg(2) tells only that of its first message.
        is_told: bool,
    },
    /// By sendmsg(2).
    Alone,
}

impl World {
    /// Sends `message`, or refuses it.
    pub fn send(&mut self, exit: Exit, call: Call, message: &Message) -> Result<(), i32> {
        let segments = message.segments();
        let is_train = segments.len() > 1;
        assert!(
            segments.len() <= SEGMENTS_MAX,
            "a train of {}",
            segments.len()
        );
        for &piece in &message.pieces {
            let below = self.visible.range(..=piece).next_back();
            let is_visible = below.is_some_and(|(&start, &len)| piece < start + len);
            assert!(
                !is_visible,
                "{message:?} is sent from a buffer that the kernel has"
            );
        }
        let is_again = call == Call::Alone || !matches!(exit, Exit::Own(_));
        let mut before = None;
        let mut ids = Vec::new();
        for segment in segments {
            let id = self.id(message, segment);
            self.assert_may_leave(id, exit, message, segment);
            assert!(
                before < Some(id) || ids.is_empty(),
                "{id} after {before:?} in a train"
            );
            before = Some(id);
            ids.push(id);
        }
        if self.is_refused(call, is_train) {
            let errno = self.choices.one_of(&ERRNOS);
            self.refuse(exit, call, message.peer, &ids, errno);
            return Err(errno);
        }
        self.tell(|| format!("  sends {ids:?} by {exit:?}, {call:?}"));
        // Of a ring the kernel refuses messages that others follow; by the calls, all is in order.
        let is_in_order = self.is_mmsg || !is_again;
        ids.iter()
            .for_each(|&id| self.fates.answered(id, is_in_order));
        Ok(())
    }

    fn is_refused(&mut self, call: Call, is_train: bool) -> bool {
        let is_refused = self
            .choices
            .chance(if call == Call::Alone { 200 } else { 100 });
        if is_refused {
            self.has_done(match (call, is_train) {
                (Call::Alone, _) => "refused another try",
                (_, true) => "refused a train",
                (_, false) => "refused a single",
            });
        }
        is_refused
    }

    fn refuse(&mut self, exit: Exit, call: Call, peer: SocketAddr, ids: &[Id], errno: i32) {
        self.tell(|| format!("  refuses {ids:?} by {exit:?}, {call:?}: errno {errno}"));
        if call == (Call::Batched { is_told: false }) {
            return;
        }
        let has_no_room = [libc::EAGAIN, libc::ENOBUFS].contains(&errno);
        let is_lost = has_no_room
            && !matches!(exit, Exit::Fragmenter(_))
            && neighbour(peer.ip()) == Neighbour::Unresolved;
        if has_no_room {
            self.has_done("had no room");
        }
        for &id in ids {
            self.fates.set(
                id,
                match is_lost {
                    true => Fate::Dropped(DropReason::Unresolved),
                    false => Fate::Refused(errno),
                },
            );
        }
    }

    /// Which datagram `segment` is the reply to: it begins with the number, or, if it is empty,
    /// lies in the buffer that the datagram came in.
    fn id(&self, message: &Message, segment: &[u8]) -> Id {
        if segment.len() >= ID_LEN {
            return replies::id_of(segment);
        }
        let piece = message.pieces[0];
        let (_, ids) = self.held.range(..=piece).next_back().expect("a buffer");
        ids[0]
    }

    /// The reply is due, to that peer, from the address that it asked, and as it should be.
    fn assert_may_leave(&self, id: Id, exit: Exit, message: &Message, segment: &[u8]) {
        assert!((id as usize) < self.fates.len(), "{segment:?} is no reply");
        let asked = self.fates.get(id);
        assert!(
            matches!(asked.fate, Fate::Decided | Fate::Refused(_)),
            "datagram {id} is answered, and was {:?}",
            asked.fate
        );
        assert_eq!(message.peer, asked.peer, "{id} is answered to another peer");
        let (Exit::Own(socket) | Exit::Detour(socket) | Exit::Fragmenter(socket)) = exit;
        assert_eq!(socket, asked.socket, "{id} is answered by another socket");
        let names_source = WILDCARDS[socket] || !matches!(exit, Exit::Own(_));
        match message.source {
            Some(source) => assert_eq!(source, asked.local, "{id} is answered from elsewhere"),
            // A refused reply that found no detour goes on as it was rewritten.
            None => assert!(!names_source, "{id} is answered from an address left open"),
        }
        assert!(segment.len() <= asked.len, "the reply to {id} is longer");
        let reply = asked.reply;
        let got = Reply {
            len: segment.len(),
            hops: message.hops,
            tos: message.tos,
        };
        assert_eq!(got, reply, "the reply to {id}");
        let expected = replies::reply(id, reply.len, self.is_odd[socket]);
        assert_eq!(segment, expected, "the reply to {id}");
    }
}

/// What the kernel knows of the next hop to a peer: its address says that.
pub fn neighbour(peer: IpAddr) -> Neighbour {
    match last_octet(peer) % 4 {
        1 => Neighbour::Unresolved,
        2 => Neighbour::Unknown,
        _ => Neighbour::Resolved,
    }
}

/// What the kernel knows of the next hops to the world's peers.
#[derive(Debug)]
pub struct Neighbours;

impl Paths for Neighbours {
    fn path(&mut self, peer: SocketAddr, _through: u32) -> std::io::Result<Path> {
        Ok(Path {
            interface: u32::from(last_octet(peer.ip())),
            neighbour: neighbour(peer.ip()),
        })
    }

    fn has_route(&mut self, _peer: SocketAddr, _through: u32) -> std::io::Result<bool> {
        Ok(true)
    }

    fn queue_drops(&mut self) -> std::io::Result<u64> {
        Ok(0)
    }
}
