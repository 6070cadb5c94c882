//! Features of a network device, by the names of the kernel, which `ethtool -k` shows as well.
//!
//! Tests turn `tx-udp-segmentation` and `tx-checksum-ip-generic` off to see frames as a wire would
//! carry them, and `rx-gro` or `rx-udp-gro-forwarding` on to have trains joined on the way in;
//! `diagnose` looks whether the offloads are on. The interface is ethtool-netlink
//! (Documentation/networking/ethtool-netlink.rst in the kernel, since Linux 5.6): messages of
//! bytes, so that neither an ioctl nor the program `ethtool` is needed.

use std::io;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};

use reflector_udp::addr::array;
use reflector_udp::attempting;

/// Whether feature `name` of device `interface` is on; one that this kernel does not know is off.
///
/// # Errors
/// ENODEV when there is no such device in the calling thread's network namespace, ENOENT where the
/// kernel has no ethtool-netlink.
pub fn feature(interface: &str, name: &str) -> io::Result<bool> {
    Ethtool::open()
        .and_then(|ethtool| ethtool.is_active(interface, name))
        .map_err(attempting(format_args!(
            "read feature {name} of {interface}"
        )))
}

/// Whether feature `name` of device `interface` can be switched at all: not where the device has no
/// such feature, nor where the kernel took it away (`[fixed]` in `ethtool -k`).
///
/// # Errors
/// Those of [`feature`].
pub fn can_switch(interface: &str, name: &str) -> io::Result<bool> {
    Ethtool::open()
        .and_then(|ethtool| ethtool.can_switch(interface, name))
        .map_err(attempting(format_args!(
            "read feature {name} of {interface}"
        )))
}

/// Switches feature `name` of device `interface` on or off.
///
/// # Errors
/// Those of [`feature`]; EPERM without CAP_NET_ADMIN; EOPNOTSUPP when this kernel has no feature of
/// that name; `Unsupported` when the device keeps the old state, because it cannot change it or
/// because another feature or device above it wants that.
pub fn set_feature(interface: &str, name: &str, enabled: bool) -> io::Result<()> {
    let word = if enabled { "on" } else { "off" };
    Ethtool::open()
        .and_then(|ethtool| ethtool.switch(interface, name, enabled))
        .map_err(attempting(format_args!(
            "turn {word} feature {name} of {interface}"
        )))
}

// linux/genetlink.h, linux/netlink.h.
const CONTROL: u16 = 0x10;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_FAMILY_ID: u16 = 1;
const CONTROL_FAMILY_NAME: u16 = 2;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
/// The upper bits of an attribute's type are flags; this one says that attributes are in it.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

// linux/ethtool_netlink.h.
const FEATURES_GET: u8 = 11;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_HARDWARE: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_ACTIVE: u16 = 4;
const HEADER_DEVICE_INDEX: u16 = 1;
const HEADER_DEVICE_NAME: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITSET_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
const BIT_VALUE: u16 = 3;

/// A socket to the family `ethtool` of generic netlink, in the namespace of the thread that opened
/// it.
#[derive(Debug)]
pub struct Ethtool {
    socket: Socket,
    family: u16,
}

impl Ethtool {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// ENOENT where the kernel has no ethtool-netlink; EPROTONOSUPPORT and the like in a sandbox.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let mut ethtool = Self {
            socket,
            family: CONTROL,
        };
        let name = attribute(CONTROL_FAMILY_NAME, b"ethtool\0");
        let answer = ethtool.ask(CONTROL_GET_FAMILY, &name)?;
        ethtool.family = find(&answer, CONTROL_FAMILY_ID)
            .and_then(|id| array(id, 0))
            .map(u16::from_ne_bytes)
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(ethtool)
    }

    /// Whether feature `name` of device `interface` is on; one that this kernel does not know is
    /// off.
    ///
    /// # Errors
    /// ENODEV when there is no such device.
    pub fn is_active(&self, interface: &str, name: &str) -> io::Result<bool> {
        // Without a mask: only bits that are on are listed.
        self.has_bit(&header(interface), FEATURES_ACTIVE, name, |_| true)
    }

    /// The same of the device with number `index`, which may be renamed meanwhile.
    ///
    /// # Errors
    /// ENODEV when there is no such device.
    pub fn is_active_at(&self, index: u32, name: &str) -> io::Result<bool> {
        let header = nested_header(&attribute(HEADER_DEVICE_INDEX, &index.to_ne_bytes()));
        self.has_bit(&header, FEATURES_ACTIVE, name, |_| true)
    }

    fn can_switch(&self, interface: &str, name: &str) -> io::Result<bool> {
        // All that the kernel knows are listed; those that can be switched have a value.
        let is_on = |bit: &[u8]| find(bit, BIT_VALUE).is_some();
        self.has_bit(&header(interface), FEATURES_HARDWARE, name, is_on)
    }

    /// Whether bit set `set` lists a bit of that name for which `is_on` holds.
    fn has_bit(
        &self,
        header: &[u8],
        set: u16,
        name: &str,
        is_on: impl Fn(&[u8]) -> bool,
    ) -> io::Result<bool> {
        let answer = self.ask(FEATURES_GET, header)?;
        let bits = find(&answer, set).and_then(|bits| find(bits, BITSET_BITS));
        let has_name = |bit| {
            find(bit, BIT_NAME).and_then(|it| it.strip_suffix(b"\0")) == Some(name.as_bytes())
        };
        Ok(attributes(bits.unwrap_or_default()).any(|(_, bit)| has_name(bit) && is_on(bit)))
    }

    fn switch(&self, interface: &str, name: &str, enabled: bool) -> io::Result<()> {
        let mut bit = attribute(BIT_NAME, &terminated(name));
        if enabled {
            bit.extend(attribute(BIT_VALUE, b""));
        }
        let bits = attribute(BITSET_BITS | NESTED, &attribute(BITSET_BIT | NESTED, &bit));
        let mut request = header(interface);
        request.extend(attribute(FEATURES_WANTED | NESTED, &bits));
        self.ask(FEATURES_SET, &request)?;
        if self.is_active(interface, name)? == enabled {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the device keeps it as it was",
            ))
        }
    }

    /// Sends a command with its attributes; the attributes of the answer.
    fn ask(&self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        /// Bytes of the headers: `nlmsghdr`, `genlmsghdr`.
        const HEADER_LEN: usize = 16 + 4;
        const VERSION: u8 = 1;
        let len = (HEADER_LEN + attributes.len()) as u32;
        let mut request = Vec::with_capacity(len as usize);
        request.extend(len.to_ne_bytes());
        request.extend(self.family.to_ne_bytes());
        request.extend(REQUEST.to_ne_bytes());
        // Sequence number and port, for which there is no need: each request has one answer.
        request.extend([0; 8]);
        request.extend([command, VERSION, 0, 0]);
        request.extend(attributes);
        self.socket.send(&request, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        if array(&answer, 4).map(u16::from_ne_bytes) == Some(ERROR) {
            let errno = array(&answer, 16).map_or(0, i32::from_ne_bytes);
            return Err(io::Error::from_raw_os_error(-errno));
        }
        Ok(answer.get(HEADER_LEN..).unwrap_or_default().to_vec())
    }
}

/// The attribute that names the device.
fn header(interface: &str) -> Vec<u8> {
    nested_header(&attribute(HEADER_DEVICE_NAME, &terminated(interface)))
}

fn nested_header(device: &[u8]) -> Vec<u8> {
    attribute(FEATURES_HEADER | NESTED, device)
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

/// Bytes before the value of an attribute: `nlattr`.
const ATTRIBUTE_HEADER_LEN: usize = 4;

/// An attribute: length, type, value, and zeroes up to a multiple of four bytes (netlink(7)).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = (ATTRIBUTE_HEADER_LEN + value.len()) as u16;
    let mut bytes = [&len.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The attributes that `bytes` consist of, up to the first malformed one.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
        let kind = u16::from_ne_bytes(array(bytes, 2)?) & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEADER_LEN..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find_map(|(kind, value)| (kind == wanted).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let bytes = [attribute(7 | NESTED, b"one"), attribute(8, b"")].concat();
        let read: Vec<_> = attributes(&bytes).collect();
        assert_eq!(read, [(7, &b"one"[..]), (8, b"")]);
        for len in 0..bytes.len() {
            let _ = attributes(&bytes[..len]).count();
        }
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0);
    }

    #[test]
    fn what_does_not_exist_is_said_by_name() {
        for interface in ["no-such-device", "a name that is far too long"] {
            let error = feature(interface, "rx-gro").unwrap_err().to_string();
            let start = format!("read feature rx-gro of {interface}: ");
            assert!(error.starts_with(&start), "{error}");
        }
    }
}
