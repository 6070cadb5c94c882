//! The IP packets that one interface sees, taken as they come.

use std::io;
use std::time::Duration;

use crate::packet::Packet;
use reflector_udp::attempting;
use reflector_udp::packet::{FRAME_LEN_MAX, PacketSocket};

/// How long an interface must be quiet before it is taken that everything sent has arrived:
/// softirqs deliver a datagram shortly after `sendto` has returned.
const QUIET: Duration = Duration::from_millis(20);

/// A packet socket on one interface, and room for a frame.
#[derive(Debug)]
pub struct Sniffer {
    socket: PacketSocket,
    buffer: Vec<u8>,
}

impl Sniffer {
    /// Frames read at once, so that a busy interface cannot keep its reader from stopping.
    const FRAMES_MAX: usize = 1024;

    /// A sniffer on the interface with `index` in the calling thread's network namespace. What
    /// passes from now on is queued, up to the limit of the socket's buffer.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, ENODEV when there is no such interface.
    pub fn open(index: u32) -> io::Result<Self> {
        Ok(Self {
            socket: PacketSocket::open(index)?,
            buffer: vec![0; FRAME_LEN_MAX],
        })
    }

    /// Shows the queued packets to `see`; waits for some for 20 ms. The time of the last frame,
    /// `None` if the interface was quiet.
    ///
    /// # Errors
    /// ENOMEM and the like; ENETDOWN is none: frames from before may still be queued.
    pub fn read(&mut self, mut see: impl FnMut(Packet)) -> io::Result<Option<Duration>> {
        if !self.socket.wait(QUIET)? {
            return Ok(None);
        }
        let mut last = None;
        for _ in 0..Self::FRAMES_MAX {
            let frame = match self.socket.receive(&mut self.buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                // The interface went down, which is said once; frames from before may be queued.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) => return Err(attempting("receive a frame")(error)),
            };
            let bytes = &self.buffer[..frame.len];
            if let Some(packet) = Packet::decode(bytes, frame.at, frame.is_outgoing) {
                see(packet);
            }
            last = Some(frame.at);
        }
        Ok(last)
    }

    /// Frames the kernel dropped since the last call because the socket's buffer was full.
    ///
    /// # Errors
    /// ENOPROTOOPT in a sandbox that does not count them.
    pub(crate) fn drop_count(&self) -> io::Result<u64> {
        self.socket.drop_count()
    }
}
