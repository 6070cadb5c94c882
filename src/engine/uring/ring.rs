//! The ring itself: what the engine needs of one, and the kernel's.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::buffers::{BufferRing, CONTROL_LEN, NAME_LEN};
use super::restricted;
use reflector_udp::memory::Lease;

/// The one buffer group.
const GROUP: u16 = 0;
/// `IORING_ENTER_GETEVENTS` of linux/io_uring.h: run deferred work, and wait if anything is wanted.
const ENTER_GETEVENTS: u32 = 1;
/// `IORING_ENTER_NO_IOWAIT` of the same: to wait is no I/O, so that the CPU of an idle worker is
/// idle (Linux 6.15).
const ENTER_NO_IOWAIT: u32 = 1 << 7;

/// What the engine needs of a ring. The tests have one that follows a script.
pub trait Ring {
    /// Datagrams or trains that one [`receive`](Self::receive) brings at most.
    const RECEIVED_MAX: usize;

    /// Queues a receive of what a socket has. It is over when [`enter`](Self::enter) has submitted
    /// it, whether it brought all or a part.
    fn receive(&mut self, socket: usize);

    /// Queues a receive that goes on when there is more, until it is [disarmed](Self::disarm) or
    /// fails.
    fn arm_receive(&mut self, socket: usize);

    /// Queues the end of that: it brings nothing more once [`enter`](Self::enter) has submitted
    /// this.
    fn disarm(&mut self, socket: usize);

    /// Queues a wait for the worker's wake.
    fn arm_wake(&mut self);

    /// Queues the end of everything that is armed.
    fn cancel(&mut self);

    /// Queues a send that does not wait and completes only if it fails. What `header` points to
    /// stays as it is until [`enter`](Self::enter) has submitted it.
    fn send(&mut self, socket: usize, message: usize, header: *const libc::msghdr);

    /// Submits what is queued, runs deferred work, and waits for a completion if told to.
    ///
    /// # Errors
    /// What io_uring_enter(2) says; then some may still be queued.
    fn enter(&mut self, wait: bool) -> io::Result<()>;

    /// Whether another [`enter`](Self::enter) is needed before every send is known to be over:
    /// something is queued and not submitted, or completions are held back for want of room.
    fn is_behind(&mut self) -> bool;

    /// Whether an [`enter`](Self::enter) would bring something. Needs no system call.
    fn has_work(&mut self) -> bool;

    /// The next completion.
    fn reap(&mut self) -> Option<Completion>;

    /// The buffer that a completion named, once for each completion.
    fn take(&mut self, id: u16) -> Lease;

    /// Gives a buffer to the kernel, which sees it at the next [`commit`](Self::commit).
    fn recycle(&mut self, lease: Lease);

    /// Publishes the recycled buffers.
    fn commit(&mut self);

    /// Ends the ring and takes back the buffers that it had. Nothing is armed any more.
    ///
    /// # Errors
    /// `ENXIO` or `EINVAL` where nothing is registered (io_uring_register(2)).
    fn into_leases(self) -> io::Result<Vec<Lease>>;
}

/// What has completed.
#[derive(Debug)]
pub enum Completion {
    /// A receive filled a buffer, which is to be [taken](Ring::take), or failed.
    Received {
        /// Which socket's.
        socket: usize,
        /// Which buffer and bytes used, or the error number; `EAGAIN` where there was nothing more.
        result: Result<(u16, u32), i32>,
        /// Whether it was the last of an armed receive.
        has_ended: bool,
    },
    /// The kernel refused a message.
    SendFailed {
        /// Which.
        message: usize,
        /// Why.
        errno: i32,
    },
    /// The worker was woken.
    Woken,
    /// The answer to a cancellation.
    Other,
}

/// What a submission is about, in its `user_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Receive(usize),
    ArmedReceive(usize),
    Send(usize),
    Wake,
    Cancel,
}

impl Token {
    const KIND_SHIFT: u32 = 32;

    fn encode(self) -> u64 {
        let (kind, index) = match self {
            Self::Receive(socket) => (0, socket),
            Self::ArmedReceive(socket) => (1, socket),
            Self::Send(message) => (2, message),
            Self::Wake => (3, 0),
            Self::Cancel => (4, 0),
        };
        (kind << Self::KIND_SHIFT) | index as u64
    }

    fn decode(user_data: u64) -> Self {
        let index = user_data as u32 as usize;
        match user_data >> Self::KIND_SHIFT {
            0 => Self::Receive(index),
            1 => Self::ArmedReceive(index),
            2 => Self::Send(index),
            3 => Self::Wake,
            _ => Self::Cancel,
        }
    }
}

/// The descriptors by which datagrams come and go that have one socket's index.
#[derive(Clone, Copy, Debug)]
pub struct FdPair<'a> {
    /// The socket that they are received by.
    pub receiver: BorrowedFd<'a>,
    /// The one that replies leave by.
    pub sender: BorrowedFd<'a>,
}

/// A ring of the kernel's.
///
/// Opened and used by one thread. The order of the fields is the order in which they go: the ring
/// is closed before the memory that it writes to is unmapped.
pub struct KernelRing {
    ring: IoUring,
    buffers: BufferRing,
    /// What each receive asks for: room for name and control messages. The kernel reads it at
    /// submission.
    request: Box<libc::msghdr>,
    /// Number of pairs.
    sockets: usize,
    /// What each enter is asked for.
    enter_flags: u32,
}

impl KernelRing {
    /// Opens a ring over `pairs` and `wake`, with `leases` as receive buffers and room to queue
    /// `entries_max` submissions; one `is_restricted` does nothing but what is asked of it here.
    ///
    /// `SINGLE_ISSUER` and `DEFER_TASKRUN`: completions happen only inside `enter`, on this thread,
    /// after the submissions. `SUBMIT_ALL`: a refused send does not keep the next from going.
    /// Together they are what makes every send over when `enter` returns. They need Linux 6.1.
    ///
    /// # Errors
    /// `ENOMEM`, `EMFILE`, `EPERM` where it is not allowed, `EINVAL` before Linux 6.1
    /// (io_uring_setup(2), io_uring_register(2)).
    pub fn open(
        pairs: &[FdPair<'_>],
        wake: BorrowedFd<'_>,
        leases: Vec<Lease>,
        entries_max: usize,
        is_restricted: bool,
    ) -> io::Result<Self> {
        // Receivers, then senders, then the wake.
        let receivers = pairs.iter().map(|pair| pair.receiver);
        let senders = pairs.iter().map(|pair| pair.sender);
        let files = receivers.chain(senders).chain([wake]);
        let files: Vec<_> = files.map(|fd| fd.as_raw_fd()).collect();
        let sq_entries = entries_max.next_power_of_two() as u32;
        // Each buffer and each submission can complete once before anything is reaped, and the
        // last completion of each multishot comes on top.
        let cq_entries = (2 * leases.len() as u32 + sq_entries).next_power_of_two();
        let ring = restricted::build(sq_entries, cq_entries, is_restricted)?;
        ring.submitter().register_files(&files)?;
        let mut buffers = BufferRing::new(leases.len())?;
        leases.into_iter().for_each(|lease| buffers.recycle(lease));
        buffers.commit();
        // SAFETY: address and number of entries are those of a page-aligned mapping of that many
        // entries, which this value owns and which outlives the ring: `ring` is dropped, or the
        // buffer ring unregistered, before `buffers` is.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.address(),
                buffers.entries(),
                GROUP,
                0,
            )?;
        }
        if is_restricted {
            restricted::enable(&ring)?;
        }
        // SAFETY: `msghdr` is a C struct of integers and pointers, for which all-zero is a value.
        let mut request: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        request.msg_namelen = NAME_LEN as libc::socklen_t;
        request.msg_controllen = CONTROL_LEN;
        let has_no_iowait = ring.params().is_feature_no_iowait();
        let no_iowait = if has_no_iowait { ENTER_NO_IOWAIT } else { 0 };
        Ok(Self {
            ring,
            buffers,
            request,
            sockets: pairs.len(),
            enter_flags: ENTER_GETEVENTS | no_iowait,
        })
    }

    fn cancel_one(&mut self, token: Token) {
        // It names no file; a restricted ring has the flag of every submission.
        let entry = opcode::AsyncCancel::new(token.encode()).build();
        let entry = entry.flags(restricted::REQUIRED);
        self.push(entry.user_data(Token::Cancel.encode()));
    }

    /// Receives datagram after datagram, each into a buffer of the group.
    fn push_receive(&mut self, socket: usize, flags: i32, token: Token) {
        // The header is boxed, so it stays where it is, and lives as long as the ring.
        let header = ptr::from_ref(&*self.request);
        let entry = opcode::RecvMsgMulti::new(types::Fixed(socket as u32), header, GROUP)
            .flags(flags as u32)
            .build();
        self.push(entry.user_data(token.encode()));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: what the entries of `push_receive`, `arm_wake`, `send` and `cancel_one` point to
        // lives until they have been submitted, as argued there; the kernel copies what it needs
        // later (io_uring_enter(2), IORING_FEAT_SUBMIT_STABLE). The queue has room for one round
        // of everything, and each round is submitted before the next is queued.
        unsafe { self.ring.submission().push(&entry) }.expect("the queue has room for a round");
    }
}

impl Ring for KernelRing {
    // MULTISHOT_MAX_RETRY of io_uring/net.c.
    const RECEIVED_MAX: usize = 32;

    fn receive(&mut self, socket: usize) {
        // Ends where there is nothing, instead of arming a poll.
        let flags = libc::MSG_DONTWAIT;
        self.push_receive(socket, flags, Token::Receive(socket));
    }

    fn arm_receive(&mut self, socket: usize) {
        self.push_receive(socket, 0, Token::ArmedReceive(socket));
    }

    fn disarm(&mut self, socket: usize) {
        self.cancel_one(Token::ArmedReceive(socket));
    }

    fn arm_wake(&mut self) {
        let file = types::Fixed(2 * self.sockets as u32);
        let entry = opcode::PollAdd::new(file, libc::POLLIN as u32).build();
        self.push(entry.user_data(Token::Wake.encode()));
    }

    fn cancel(&mut self) {
        (0..self.sockets).for_each(|socket| self.disarm(socket));
        self.cancel_one(Token::Wake);
    }

    fn send(&mut self, socket: usize, message: usize, header: *const libc::msghdr) {
        // The caller keeps header, control messages and payload until `enter` has submitted all;
        // a send that does not wait is over then.
        let file = types::Fixed((self.sockets + socket) as u32);
        let entry = opcode::SendMsg::new(file, header)
            .flags(libc::MSG_DONTWAIT as u32)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry.user_data(Token::Send(message).encode()));
    }

    fn enter(&mut self, wait: bool) -> io::Result<()> {
        let queued = self.ring.submission().len() as u32;
        // SAFETY: the null argument (`None`) is what io_uring_enter(2) expects with these flags;
        // what the queued entries point to is alive, as `push` argues.
        unsafe {
            let want = u32::from(wait);
            self.ring
                .submitter()
                .enter::<libc::sigset_t>(queued, want, self.enter_flags, None)?;
        }
        Ok(())
    }

    fn is_behind(&mut self) -> bool {
        let queue = self.ring.submission();
        !queue.is_empty() || queue.cq_overflow()
    }

    fn has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        if queue.taskrun() || queue.cq_overflow() {
            return true;
        }
        drop(queue);
        !self.ring.completion().is_empty()
    }

    fn reap(&mut self) -> Option<Completion> {
        let entry = self.ring.completion().next()?;
        let (result, flags) = (entry.result(), entry.flags());
        Some(match Token::decode(entry.user_data()) {
            token @ (Token::Receive(socket) | Token::ArmedReceive(socket)) => {
                let result = match (u32::try_from(result), cqueue::buffer_select(flags)) {
                    (Ok(len), Some(id)) => Ok((id, len)),
                    // A buffer is named only where one was filled.
                    (Ok(_), None) => Err(libc::ENOBUFS),
                    // A failed receive may name a buffer that the ring has not given up: giving it
                    // once more would make two of it.
                    (Err(_), _) => Err(-result),
                };
                Completion::Received {
                    socket,
                    result,
                    has_ended: token == Token::ArmedReceive(socket) && !cqueue::more(flags),
                }
            }
            Token::Send(message) => Completion::SendFailed {
                message,
                errno: -result,
            },
            Token::Wake => Completion::Woken,
            Token::Cancel => Completion::Other,
        })
    }

    fn take(&mut self, id: u16) -> Lease {
        self.buffers.take(id)
    }

    fn recycle(&mut self, lease: Lease) {
        self.buffers.recycle(lease);
    }

    fn commit(&mut self) {
        self.buffers.commit();
    }

    fn into_leases(self) -> io::Result<Vec<Lease>> {
        self.ring.submitter().unregister_buf_ring(GROUP)?;
        // A closed ring lets go of its files some time later, and the port would be busy till then.
        self.ring.submitter().unregister_files()?;
        let Self { ring, buffers, .. } = self;
        drop(ring);
        Ok(buffers.into_leases())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_round_trip() {
        for token in [
            Token::Receive(0),
            Token::Receive(7),
            Token::ArmedReceive(7),
            Token::Send(0),
            Token::Send(4095),
        ] {
            assert_eq!(Token::decode(token.encode()), token);
        }
        assert_eq!(Token::decode(Token::Wake.encode()), Token::Wake);
        assert_eq!(Token::decode(Token::Cancel.encode()), Token::Cancel);
    }
}
