//! What two reflectors say to each other at a takeover: one line of JSON a message, with
//! descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use reflector::server::SocketLabel;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of all this; another one is not understood.
const VERSION: u64 = 1;

/// Descriptors that one message may have (`SCM_MAX_FD`, net/scm.h).
pub const DESCRIPTORS_MAX: usize = 253;

/// Bytes of a message: as many descriptors as there may be, with what they are.
const MESSAGE_MAX: usize = 64 << 10;

const CONTROL_LEN: usize = rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX));

/// What is said.
#[derive(Debug, Deserialize, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Message {
    /// The new one asks for the sockets.
    Ask {
        /// Its network namespace, if /proc tells.
        network: Option<String>,
    },
    /// The old one sends some of them, of so many altogether. In the first message the socket that
    /// it listens on for takeovers comes before them.
    Sockets {
        of: usize,
        sockets: Vec<SocketLabel>,
    },
    /// The new one receives from all of them.
    Armed,
    /// The old one goes: from now on they are the new one's.
    Yours,
    /// The old one stays, and the new one has to go.
    Refused { reason: String },
}

#[derive(Serialize)]
struct Line<'a> {
    takeover: u64,
    #[serde(flatten)]
    message: &'a Message,
}

/// One end of the connection, a Unix socket that keeps messages apart.
pub struct Connection(OwnedFd);

impl Connection {
    /// Speaks by `socket`, and waits for `patience` at most each time.
    ///
    /// # Errors
    /// `EDOM` for a time that the kernel has no number for.
    pub fn new(socket: OwnedFd, patience: Duration) -> io::Result<Self> {
        let connection = Self(socket);
        set_socket_timeout(&connection.0, Timeout::Send, Some(patience))?;
        connection.wait_for(Some(patience))?;
        Ok(connection)
    }

    /// Waits for messages as long as `patience`, or for good.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn wait_for(&self, patience: Option<Duration>) -> io::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, patience)?)
    }

    /// Says `message`, with `fds` beside it.
    ///
    /// # Errors
    /// `EPIPE` where the other has gone, `ETOOMANYREFS` beyond the limit on descriptors.
    pub fn send(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let takeover = VERSION;
        let line = serde_json::to_vec(&Line { takeover, message })?;
        let mut space = [MaybeUninit::uninit(); CONTROL_LEN];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(io::Error::other("more descriptors than a message may have"));
        }
        let (line, flags) = ([IoSlice::new(&line)], SendFlags::NOSIGNAL);
        sendmsg(&self.0, &line, &mut control, flags)?;
        Ok(())
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// `UnexpectedEof` where the other has gone, `WouldBlock` where it says nothing; a message that
    /// is none, or of another version; fewer descriptors than were sent, beyond the limit.
    pub fn receive(&self) -> io::Result<(Message, Vec<OwnedFd>)> {
        let mut line = vec![0; MESSAGE_MAX];
        let mut space = [MaybeUninit::uninit(); CONTROL_LEN];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = rustix::io::retry_on_intr(|| {
            recvmsg(
                &self.0,
                &mut [IoSliceMut::new(&mut line)],
                &mut control,
                flags,
            )
        })?;
        let fds = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        });
        let fds = Vec::from_iter(fds.flatten());
        if received.flags.contains(ReturnFlags::CTRUNC) {
            return Err(io::Error::other(
                "descriptors are missing: `ulimit -n` raises the limit, LimitNOFILE= too",
            ));
        }
        match &line[..received.bytes] {
            [] => Err(io::ErrorKind::UnexpectedEof.into()),
            line => Ok((parse(line)?, fds)),
        }
    }
}

fn parse(line: &[u8]) -> io::Result<Message> {
    let value: Value = serde_json::from_slice(line)?;
    match value["takeover"].as_u64() {
        Some(VERSION) => Ok(serde_json::from_value(value)?),
        Some(other) => Err(io::Error::other(format!(
            "it speaks version {other} of the takeover, and this one {VERSION}"
        ))),
        None => Err(io::Error::other("it does not speak of a takeover")),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use reflector::server::SocketRole;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> [Connection; 2] {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let (one, other) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        [one, other].map(|it| Connection::new(it, Duration::from_secs(10)).unwrap())
    }

    #[test]
    fn as_many_descriptors_as_a_message_may_have_arrive_with_what_they_are() {
        let [old, new] = pair();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        // The longest labels that there are.
        let label = SocketLabel {
            listen: "[fe80:1111:2222:3333:4444:5555:6666:7777%4294967295]:65535"
                .parse()
                .unwrap(),
            role: SocketRole::Receiver { number: 65535 },
            is_kept: false,
        };
        let sockets = vec![label; DESCRIPTORS_MAX];
        let message = Message::Sockets { of: 65535, sockets };
        old.send(&message, &[socket.as_fd(); DESCRIPTORS_MAX])
            .unwrap();
        let (received, fds) = new.receive().unwrap();
        let Message::Sockets { of: 65535, sockets } = received else {
            panic!("{received:?}")
        };
        assert_eq!(sockets, [label; DESCRIPTORS_MAX]);
        assert_eq!(fds.len(), DESCRIPTORS_MAX);
        let received = UdpSocket::from(fds.into_iter().next_back().unwrap());
        assert_eq!(received.local_addr().unwrap(), socket.local_addr().unwrap());
        let too_many = [socket.as_fd(); DESCRIPTORS_MAX + 1];
        assert!(old.send(&Message::Armed, &too_many).is_err());
    }

    #[test]
    fn another_version_and_other_programs_are_told_from_silence_and_the_end() {
        let [old, new] = pair();
        let said = |text: &str| {
            rustix::net::send(&new.0, text.as_bytes(), SendFlags::empty()).unwrap();
            old.receive().unwrap_err().to_string()
        };
        let version = said(r#"{"takeover":2,"type":"ask"}"#);
        assert_eq!(
            version,
            "it speaks version 2 of the takeover, and this one 1"
        );
        assert_eq!(said("[1]"), "it does not speak of a takeover");
        assert!(said(r#"{"takeover":1,"type":"what"}"#).contains("unknown variant"));
        assert!(said("GET / HTTP/1.1").contains("expected value"));
        old.wait_for(Some(Duration::from_millis(1))).unwrap();
        assert_eq!(old.receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(new);
        assert_eq!(
            old.receive().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let gone = old.send(&Message::Armed, &[]).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::BrokenPipe);
    }
}
