//! The kernel's calls, carried out by the world.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use super::message::Message;
use super::sends::Call;
use super::world::{Exit, World};
use reflector_udp::addr::PeerAddr;
use reflector_udp::mmsg::Calls;
use reflector_udp::usage::Usage;

/// The world in the kernel's place.
#[derive(Clone)]
pub struct FakeCalls(pub Rc<RefCell<World>>);

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl Calls for FakeCalls {
    unsafe fn recvmmsg(
        &self,
        socket: BorrowedFd<'_>,
        headers: &mut [libc::mmsghdr],
        flags: libc::c_int,
    ) -> io::Result<usize> {
        let world = &mut *self.0.borrow_mut();
        let Exit::Own(socket) = world.exits[&socket.as_raw_fd()] else {
            panic!("nothing is received from a socket that only sends");
        };
        world.step(&format!("recvmmsg from socket {socket}"));
        if let Some(errno) = world.broken {
            return error(errno);
        }
        if world.is_without_memory(socket) {
            return error(libc::ENOMEM);
        }
        let waiting = world.queues[socket].len();
        if flags & libc::MSG_PEEK != 0 {
            return if waiting == 0 {
                error(libc::EAGAIN)
            } else {
                Ok(1)
            };
        }
        for header in headers.iter() {
            // SAFETY: the caller promises an iovec.
            let iovec = unsafe { *header.msg_hdr.msg_iov };
            world.assert_is_free(iovec.iov_base as usize);
        }
        let mut most = waiting.min(headers.len());
        if most == 0 {
            return error(libc::EAGAIN);
        }
        if most > 1 && world.choices.chance(100) {
            world.has_done("cut a receive short");
            most = 1 + world.choices.below(most - 1);
        }
        for header in &mut headers[..most] {
            // SAFETY: the caller promises an iovec and, in it, room that is ours until we return.
            unsafe { receive(world, socket, header) };
        }
        Ok(most)
    }

    unsafe fn sendmmsg(
        &self,
        socket: BorrowedFd<'_>,
        headers: &mut [libc::mmsghdr],
    ) -> io::Result<usize> {
        let world = &mut *self.0.borrow_mut();
        let exit = world.exits[&socket.as_raw_fd()];
        world.step(&format!("sendmmsg of {} by {exit:?}", headers.len()));
        // The others are made at once or not at all, as nothing that does not wait is interrupted.
        let may_be = matches!(exit, Exit::Own(_));
        if may_be && world.choices.chance(20) {
            world.has_done("interrupted a send");
            return error(libc::EINTR);
        }
        for (sent, header) in headers.iter().enumerate() {
            // SAFETY: the caller promises what a header points to.
            let message = unsafe { Message::read(&header.msg_hdr) };
            let call = Call::Batched { is_told: sent == 0 };
            match world.send(exit, call, &message) {
                Ok(()) => {}
                Err(errno) if sent == 0 => return error(errno),
                Err(_) => return Ok(sent),
            }
        }
        Ok(headers.len())
    }

    unsafe fn sendmsg(&self, socket: BorrowedFd<'_>, header: &libc::msghdr) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        let exit = world.exits[&socket.as_raw_fd()];
        world.step(&format!("sendmsg by {exit:?}"));
        // SAFETY: the caller promises what a header points to.
        let message = unsafe { Message::read(header) };
        world.send(exit, Call::Alone, &message).or_else(error)
    }

    fn usage(&self) -> io::Result<Usage> {
        let world = &mut *self.0.borrow_mut();
        // Each step costs something, and now and then others want the CPU.
        Ok(Usage {
            cpu: Duration::from_micros(world.steps as u64),
            preempted: world.choices.one_of(&[0, 0, 0, 0, 0, 0, 0, 5]),
        })
    }

    fn poll(&self, fds: &mut [libc::pollfd]) -> io::Result<()> {
        let world = &mut *self.0.borrow_mut();
        world.step("poll");
        if world.choices.chance(20) {
            return error(libc::EINTR);
        }
        let mut is_any = false;
        for fd in &mut *fds {
            let is_ready = match world.exits.get(&fd.fd) {
                Some(&Exit::Own(socket)) => !world.queues[socket].is_empty(),
                _ => false,
            };
            fd.revents = if is_ready { libc::POLLIN } else { 0 };
            is_any |= is_ready;
        }
        // Somebody wakes the worker where nothing else does, or by chance.
        if !is_any || world.choices.chance(20) {
            fds[0].revents = libc::POLLIN;
        }
        Ok(())
    }
}

/// Receives into `header` what is next in the queue of `socket`.
///
/// # Safety
/// It points at a name, control messages and a buffer of the stated lengths, which nobody else
/// reads or writes.
unsafe fn receive(world: &mut World, socket: usize, header: &mut libc::mmsghdr) {
    let hdr = &mut header.msg_hdr;
    // SAFETY: as the caller promises.
    let (name, control, buffer) = unsafe {
        let iovec = *hdr.msg_iov;
        let name = std::slice::from_raw_parts_mut(hdr.msg_name.cast(), hdr.msg_namelen as usize);
        let control: &mut [u8] =
            std::slice::from_raw_parts_mut(hdr.msg_control.cast(), hdr.msg_controllen);
        let buffer: &mut [u8] =
            std::slice::from_raw_parts_mut(iovec.iov_base.cast(), iovec.iov_len);
        (name, control, buffer)
    };
    let address = buffer.as_ptr() as usize;
    let inbound = world.fill(socket, address);
    let peer = PeerAddr::new(inbound.peer);
    let bytes: &[u8] = peer.as_bytes();
    name[..bytes.len()].copy_from_slice(bytes);
    hdr.msg_namelen = bytes.len() as libc::socklen_t;
    control[..inbound.control.len()].copy_from_slice(&inbound.control);
    hdr.msg_controllen = inbound.control.len();
    buffer[..inbound.payload.len()].copy_from_slice(&inbound.payload);
    hdr.msg_flags = inbound.flags;
    header.msg_len = inbound.payload.len() as u32;
    world.take(address);
}
