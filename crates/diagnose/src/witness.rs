//! A look past this host's own filters: what arrives on the interface when no socket gets it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reflector_netlab::capture::{Kind, Packet};
use reflector_udp::packet::{FRAME_LEN_MAX, PacketSocket};

/// How long the interface must be quiet before it is taken that nothing more comes.
const QUIET: Duration = Duration::from_millis(20);
/// Frames looked at, at most: on a busy interface the answer may be missed.
const FRAMES_MAX: usize = 100_000;

/// A packet socket on the interface by which answers should arrive.
#[derive(Debug)]
pub struct Witness {
    socket: PacketSocket,
}

impl Witness {
    /// Starts watching the interface with `index`. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open(index: u32) -> io::Result<Self> {
        Ok(Self {
            socket: PacketSocket::open(index)?,
        })
    }

    /// Who sent UDP datagrams to one of `locals` since the start.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn senders(self, locals: &[SocketAddr]) -> io::Result<Vec<SocketAddr>> {
        let mut senders = Vec::new();
        let mut buffer = vec![0; FRAME_LEN_MAX];
        for _ in 0..FRAMES_MAX {
            if !self.socket.wait(QUIET)? {
                break;
            }
            let Some(frame) = self.socket.receive(&mut buffer)? else {
                continue;
            };
            let packet = Packet::decode(&buffer[..frame.len], frame.at, frame.is_outgoing);
            senders.extend(
                packet
                    .filter(|it| {
                        let is_udp = matches!(it.kind, Kind::Udp { .. });
                        is_udp && !it.is_outgoing && locals.contains(&it.destination)
                    })
                    .map(|it| it.source),
            );
        }
        Ok(senders)
    }
}
