//! What the worker hands to the kernel, as the kernel reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reflector_udp::addr::parse_sockaddr;

/// A message that is to be sent.
#[derive(Debug)]
pub struct Message {
    pub peer: SocketAddr,
    /// Where its pieces lie.
    pub pieces: Vec<usize>,
    pub payload: Vec<u8>,
    pub segment_len: Option<usize>,
    pub source: Option<IpAddr>,
    pub hops: Option<u8>,
    pub tos: Option<u8>,
}

impl Message {
    /// Reads a header.
    ///
    /// # Safety
    /// It points at a name, control messages and pieces of the stated lengths, which nobody writes
    /// meanwhile.
    pub unsafe fn read(header: &libc::msghdr) -> Self {
        // SAFETY: as the caller promises.
        let (name, control, iovecs) = unsafe {
            let name =
                std::slice::from_raw_parts(header.msg_name.cast(), header.msg_namelen as usize);
            let control: &[u8] = match header.msg_controllen {
                0 => &[],
                len => std::slice::from_raw_parts(header.msg_control.cast(), len),
            };
            (
                name,
                control,
                std::slice::from_raw_parts(header.msg_iov, header.msg_iovlen),
            )
        };
        let mut message = Self {
            peer: parse_sockaddr(name).expect("a peer"),
            pieces: Vec::new(),
            payload: Vec::new(),
            segment_len: None,
            source: None,
            hops: None,
            tos: None,
        };
        for iovec in iovecs {
            message.pieces.push(iovec.iov_base as usize);
            // SAFETY: as the caller promises.
            message.payload.extend_from_slice(unsafe {
                std::slice::from_raw_parts(iovec.iov_base.cast::<u8>(), iovec.iov_len)
            });
        }
        message.read_control(control);
        message
    }

    fn read_control(&mut self, mut rest: &[u8]) {
        while let Some((header, _)) = rest.split_first_chunk::<16>() {
            let len = u64::from_ne_bytes(header[..8].try_into().expect("eight bytes")) as usize;
            let number = |bytes: &[u8]| i32::from_ne_bytes(bytes.try_into().expect("four bytes"));
            let value = &rest[16..len];
            match (number(&header[8..12]), number(&header[12..16])) {
                (libc::SOL_UDP, libc::UDP_SEGMENT) => {
                    self.segment_len = Some(usize::from(u16::from_ne_bytes([value[0], value[1]])));
                }
                (libc::SOL_IP, libc::IP_PKTINFO) => {
                    let octets: [u8; 4] = value[4..8].try_into().expect("four bytes");
                    self.source = Some(Ipv4Addr::from(octets).into());
                }
                (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                    let octets: [u8; 16] = value[..16].try_into().expect("sixteen bytes");
                    self.source = Some(Ipv6Addr::from(octets).into());
                }
                (libc::SOL_IP, libc::IP_TTL) | (libc::SOL_IPV6, libc::IPV6_HOPLIMIT) => {
                    self.hops = Some(number(value) as u8);
                }
                (libc::SOL_IP, libc::IP_TOS) | (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    self.tos = Some(number(value) as u8);
                }
                other => panic!("nobody asked for the control message {other:?}"),
            }
            rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
        }
    }

    /// Its datagrams.
    pub fn segments(&self) -> Vec<&[u8]> {
        match self.payload.len() {
            0 => vec![&[]],
            len => self
                .payload
                .chunks(self.segment_len.unwrap_or(len))
                .collect(),
        }
    }
}
