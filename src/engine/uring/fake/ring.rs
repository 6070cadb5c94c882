//! A ring that keeps the kernel's promises and no others.

use std::cell::{RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::rc::Rc;

use super::message::Message;
use super::sends::Call;
use super::world::{BUFFERS, Exit, SOCKETS, World};
use crate::engine::uring::buffers;
use crate::engine::uring::receive::entries_max;
use crate::engine::uring::ring::{Completion, Ring};
use reflector_udp::addr::PeerAddr;
use reflector_udp::memory::Lease;

enum Queued {
    Receive(usize),
    ArmedReceive(usize),
    Disarm(usize),
    Wake,
    CancelWake,
    Send {
        socket: usize,
        message: usize,
        header: *const libc::msghdr,
    },
}

pub struct FakeRing {
    world: Rc<RefCell<World>>,
    /// Buffers that the kernel sees, oldest first.
    published: VecDeque<Lease>,
    /// Given back, not yet committed.
    recycled: Vec<Lease>,
    queued: VecDeque<Queued>,
    completions: VecDeque<Completion>,
    /// Buffers that a completion has named or will name.
    filled: BTreeMap<u16, Lease>,
    /// Completions that found no room, in order; the next `enter` brings them (a CQ overflow).
    held_back: Vec<Completion>,
    is_armed: [bool; SOCKETS],
    is_wake_armed: bool,
    keeps_unused_buffers: bool,
}

impl FakeRing {
    pub fn new(world: Rc<RefCell<World>>, leases: Vec<Lease>, keeps_unused_buffers: bool) -> Self {
        let mut ring = Self {
            world,
            published: VecDeque::new(),
            recycled: Vec::new(),
            queued: VecDeque::new(),
            completions: VecDeque::new(),
            filled: BTreeMap::new(),
            held_back: Vec::new(),
            is_armed: [false; SOCKETS],
            is_wake_armed: false,
            keeps_unused_buffers,
        };
        leases.into_iter().for_each(|lease| ring.recycle(lease));
        ring.commit();
        ring
    }

    /// Buffers that it has.
    pub fn lease_count(&self) -> usize {
        self.published.len() + self.recycled.len() + self.filled.len()
    }

    fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    fn chance(&self, per_mille: usize) -> bool {
        self.world().choices.chance(per_mille)
    }

    fn has_done(&self, deed: &'static str) {
        self.world().has_done(deed);
    }

    /// Whether the completion queue has no room: once that is so, what follows is held back as
    /// well.
    fn is_full(&self) -> bool {
        !self.held_back.is_empty() || self.chance(50)
    }

    fn complete(&mut self, completion: Completion) {
        let is_full = self.is_full();
        self.post(completion, is_full);
    }

    fn post(&mut self, completion: Completion, is_full: bool) {
        if !is_full {
            return self.completions.push_back(completion);
        }
        let has_data = matches!(completion, Completion::Received { result: Ok(_), .. });
        self.has_done(if has_data {
            "held a datagram back"
        } else {
            "held a completion back"
        });
        self.world().tell(|| format!("  holds back {completion:?}"));
        self.held_back.push(completion);
    }

    fn execute(&mut self, queued: Queued) {
        match queued {
            Queued::Receive(socket) => {
                assert!(self.keeps_unused_buffers, "it may cost a buffer");
                self.receive_now(socket, false);
            }
            Queued::ArmedReceive(socket) => {
                assert!(!self.is_armed[socket], "socket {socket} is armed twice");
                self.is_armed[socket] = true;
            }
            Queued::Disarm(socket) => {
                // What had ended by itself cannot be ended once more.
                if self.is_armed[socket] {
                    self.has_done("disarmed a receive");
                    self.end_receive(socket, true, Err(libc::ECANCELED));
                }
                self.complete(Completion::Other);
            }
            Queued::Wake => self.is_wake_armed = true,
            Queued::CancelWake => {
                if self.is_wake_armed {
                    self.is_wake_armed = false;
                    self.complete(Completion::Woken);
                }
                self.complete(Completion::Other);
            }
            Queued::Send {
                socket,
                message,
                header,
            } => {
                // SAFETY: the engine keeps the header and all that it points to until the
                // submission is over, which is what this test is about; `Outbox` states the
                // lengths.
                let sent = unsafe { Message::read(&*header) };
                let call = Call::Batched { is_told: true };
                let outcome = self.world().send(Exit::Own(socket), call, &sent);
                if let Err(errno) = outcome {
                    self.complete(Completion::SendFailed { message, errno });
                }
            }
        }
    }

    /// Does what multishot receives do. An armed one stays, unless something ends it; another is
    /// over in any case.
    fn receive_now(&mut self, socket: usize, is_armed: bool) {
        let broken = self.world().broken;
        if let Some(errno) = broken {
            return self.end_receive(socket, is_armed, Err(errno));
        }
        let most = if is_armed { 5 } else { Self::RECEIVED_MAX };
        let count = most - self.world().choices.below(most + 1);
        for _ in 0..count {
            if self.world().is_without_memory(socket) {
                return self.end_receive(socket, is_armed, Err(libc::ENOMEM));
            }
            if self.chance(10) {
                self.has_done("cancelled a receive");
                return self.end_receive(socket, is_armed, Err(libc::ECANCELED));
            }
            if self.world().queues[socket].is_empty() {
                break;
            }
            let Some(mut lease) = self.published.pop_front() else {
                self.has_done("ran out of buffers");
                return self.end_receive(socket, is_armed, Err(libc::ENOBUFS));
            };
            let address = lease.as_buffer_ptr() as usize;
            let inbound = {
                let mut world = self.world();
                world.visible.remove(&address);
                world.fill(socket, address)
            };
            let name = PeerAddr::new(inbound.peer);
            let len = buffers::fill(
                &mut lease,
                name.as_bytes(),
                &inbound.control,
                &inbound.payload,
                inbound.flags,
            );
            let id = lease.id();
            assert!(self.filled.insert(id, lease).is_none(), "two of one buffer");
            let is_empty = inbound.payload.is_empty();
            // A multishot that finds no room for a completion ends with it, data and all.
            let is_full = self.is_full();
            if is_empty || is_full || self.chance(50) {
                self.has_done(if is_empty {
                    "ended it with an empty datagram"
                } else {
                    "ended a multishot with data"
                });
                return self.end_receive_into(socket, is_armed, Ok((id, len)), is_full);
            }
            self.completions.push_back(Completion::Received {
                socket,
                result: Ok((id, len)),
                has_ended: false,
            });
        }
        if !is_armed {
            let is_empty = self.world().queues[socket].is_empty();
            self.has_done(if is_empty {
                "found nothing"
            } else {
                "cut a receive short"
            });
            self.end_receive(socket, false, Err(libc::EAGAIN));
        }
    }

    fn end_receive(&mut self, socket: usize, is_armed: bool, result: Result<(u16, u32), i32>) {
        let is_full = self.is_full();
        self.end_receive_into(socket, is_armed, result, is_full);
    }

    fn end_receive_into(
        &mut self,
        socket: usize,
        is_armed: bool,
        result: Result<(u16, u32), i32>,
        is_full: bool,
    ) {
        if is_armed {
            self.is_armed[socket] = false;
        }
        let ended = Completion::Received {
            socket,
            result,
            has_ended: is_armed,
        };
        self.post(ended, is_full);
    }

    fn queue(&mut self, queued: Queued) {
        self.queued.push_back(queued);
        let most = entries_max::<Self>(usize::from(BUFFERS), SOCKETS);
        assert!(self.queued.len() <= most, "the queue has room for a round");
    }

    /// Error completions of sends may come behind receives, and in any order among themselves.
    fn reorder(&mut self) {
        if !self.chance(300) {
            return;
        }
        let at = self.world().choices.below(self.completions.len() + 1);
        let mut tail: Vec<_> = self.completions.drain(at..).collect();
        let (mut sends, receives): (Vec<_>, Vec<_>) = tail
            .drain(..)
            .partition(|it| matches!(it, Completion::SendFailed { .. }));
        if sends.len() > 1 {
            self.has_done("brought errors out of order");
            let by = self.world().choices.below(sends.len());
            sends.rotate_left(by);
        }
        self.completions.extend(receives.into_iter().chain(sends));
    }
}

impl Ring for FakeRing {
    const RECEIVED_MAX: usize = 3;

    fn receive(&mut self, socket: usize) {
        self.queue(Queued::Receive(socket));
    }

    fn arm_receive(&mut self, socket: usize) {
        self.queue(Queued::ArmedReceive(socket));
    }

    fn disarm(&mut self, socket: usize) {
        self.queue(Queued::Disarm(socket));
    }

    fn arm_wake(&mut self) {
        assert!(!self.is_wake_armed, "the wake is armed twice");
        self.queue(Queued::Wake);
    }

    fn cancel(&mut self) {
        (0..SOCKETS).for_each(|socket| self.disarm(socket));
        self.queue(Queued::CancelWake);
    }

    fn send(&mut self, socket: usize, message: usize, header: *const libc::msghdr) {
        self.queue(Queued::Send {
            socket,
            message,
            header,
        });
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        let mut submitted = self.queued.len();
        self.world().step(&format!("enter, {submitted} queued"));
        self.completions.extend(self.held_back.drain(..));
        if self.chance(50) {
            self.has_done("failed an enter");
            let errno = self.world().choices.one_of(&[libc::EINTR, libc::EBUSY]);
            return Err(io::Error::from_raw_os_error(errno));
        }
        if submitted > 1 && self.chance(100) {
            self.has_done("accepted a part");
            submitted = 1 + self.world().choices.below(submitted - 1);
            self.world().tell(|| format!("  accepts {submitted}"));
        }
        for _ in 0..submitted {
            let queued = self.queued.pop_front().expect("counted above");
            self.execute(queued);
        }
        let first = self.world().choices.below(SOCKETS);
        for socket in (first..SOCKETS).chain(0..first) {
            if self.is_armed[socket] {
                self.receive_now(socket, true);
            }
        }
        // The kernel does not wait after it has accepted only a part.
        let must_wake = wait
            && self.queued.is_empty()
            && self.completions.is_empty()
            && self.held_back.is_empty();
        if must_wake || (self.is_wake_armed && self.chance(30)) {
            assert!(self.is_wake_armed, "asleep with nothing that could wake it");
            self.is_wake_armed = false;
            self.complete(Completion::Woken);
        }
        self.reorder();
        Ok(())
    }

    fn is_behind(&mut self) -> bool {
        !self.queued.is_empty() || !self.held_back.is_empty()
    }

    fn has_work(&mut self) -> bool {
        // The world goes on meanwhile, but not at each of many looks.
        if self.chance(50) {
            self.world().step("a look");
        }
        let has_come =
            |socket: usize| self.is_armed[socket] && !self.world().queues[socket].is_empty();
        let has_work = !self.held_back.is_empty() || (0..SOCKETS).any(has_come);
        // It may be told late, or of nothing.
        if has_work {
            !self.chance(100)
        } else {
            self.chance(10)
        }
    }

    fn reap(&mut self) -> Option<Completion> {
        self.completions.pop_front()
    }

    fn take(&mut self, id: u16) -> Lease {
        let lease = self
            .filled
            .remove(&id)
            .expect("a completion named the buffer");
        self.world().take(lease.as_buffer_ptr() as usize);
        lease
    }

    fn recycle(&mut self, lease: Lease) {
        let address = lease.as_buffer_ptr() as usize;
        {
            let mut world = self.world();
            world.assert_is_free(address);
            let before = world.visible.insert(address, lease.capacity() as usize);
            let id = lease.id();
            assert!(before.is_none(), "buffer {id} is given to the kernel twice");
        }
        self.recycled.push(lease);
    }

    fn commit(&mut self) {
        self.published.extend(self.recycled.drain(..));
    }

    fn into_leases(mut self) -> io::Result<Vec<Lease>> {
        let is_armed = self.is_armed.contains(&true) || self.is_wake_armed;
        // What was to end what is not armed may stay behind: nobody would hear of it.
        let is_end = |it: &Queued| matches!(it, Queued::Disarm(_) | Queued::CancelWake);
        let is_over = self.queued.iter().all(is_end) && self.held_back.is_empty();
        assert!(!is_armed && is_over, "the ring ends in order");
        assert!(self.filled.is_empty(), "what was received is in the batch");
        self.world().visible.clear();
        let leases = self.published.drain(..).chain(self.recycled.drain(..));
        Ok(leases.collect())
    }
}
