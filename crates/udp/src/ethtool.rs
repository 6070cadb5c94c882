//! Features of a network device, switched by the names that `ethtool -k` shows.
//!
//! The lab turns `tx-udp-segmentation` and `tx-checksum-ip-generic` off to see frames as a wire
//! would carry them, and `rx-gro` or `rx-udp-gro-forwarding` on to have trains joined on the way
//! in. The interface is linux/ethtool.h through the SIOCETHTOOL ioctl (netdevice(7)).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{Domain, Socket, Type};

use crate::attempting;

/// Whether feature `name` of device `interface` is active.
///
/// The device is looked up in the calling thread's network namespace: ENODEV when there is none,
/// `NotFound` when this kernel has no feature of that name.
pub fn feature(interface: &str, name: &str) -> io::Result<bool> {
    read_feature(interface, name).map_err(attempting(format_args!(
        "read feature {name} of {interface}"
    )))
}

/// A switch of feature `name` of device `interface` to `enabled`.
///
/// Needs CAP_NET_ADMIN. Besides the errors of [`feature`], `Unsupported` when the device cannot
/// change it, or keeps the old state because another feature or device above it wants that.
pub fn set_feature(interface: &str, name: &str, enabled: bool) -> io::Result<()> {
    let word = if enabled { "on" } else { "off" };
    switch_feature(interface, name, enabled).map_err(attempting(format_args!(
        "turn {word} feature {name} of {interface}"
    )))
}

// Commands, string set and results of linux/ethtool.h.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
const ETHTOOL_F_UNSUPPORTED: i32 = 1;

/// Words before the array in ethtool_gstrings: cmd, string_set, len.
const STRINGS_HEADER_WORDS: usize = 3;
/// Words before the array in ethtool_gfeatures and ethtool_sfeatures: cmd, size.
const FEATURES_HEADER_WORDS: usize = 2;
/// Words of ethtool_get_features_block: available, requested, active, never_changed.
const GET_BLOCK_WORDS: usize = 4;
/// The place of `active` among these.
const ACTIVE: usize = 2;
/// Words of ethtool_set_features_block: valid, requested.
const SET_BLOCK_WORDS: usize = 2;

fn read_feature(interface: &str, name: &str) -> io::Result<bool> {
    let device = Device::open(interface)?;
    let names = device.feature_names()?;
    device.is_active(&names, position(&names, name)?)
}

fn switch_feature(interface: &str, name: &str, enabled: bool) -> io::Result<()> {
    let device = Device::open(interface)?;
    let names = device.feature_names()?;
    let index = position(&names, name)?;
    let blocks = names.len().div_ceil(32);
    let mut request = vec![0; FEATURES_HEADER_WORDS + blocks * SET_BLOCK_WORDS];
    request[0] = ETHTOOL_SFEATURES;
    request[1] = blocks as u32;
    let block = FEATURES_HEADER_WORDS + index / 32 * SET_BLOCK_WORDS;
    request[block] = 1 << (index % 32);
    request[block + 1] = u32::from(enabled) << (index % 32);
    // SAFETY: SFEATURES reads as many blocks as `size` says, which the request has.
    let result = unsafe { device.submit(&mut request)? };
    if result & ETHTOOL_F_UNSUPPORTED != 0 {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "the device cannot change it",
        ));
    }
    // ETHTOOL_F_WISH may also be set because another feature did not follow: look for ourselves.
    if device.is_active(&names, index)? != enabled {
        return Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "noted, but the device keeps the other state for now",
        ));
    }
    Ok(())
}

fn position(names: &[String], name: &str) -> io::Result<usize> {
    names.iter().position(|known| known == name).ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::NotFound,
            "this kernel knows no feature of that name",
        )
    })
}

/// A device by name, and a socket to reach it through.
struct Device {
    socket: Socket,
    name: [libc::c_char; libc::IFNAMSIZ],
}

impl Device {
    fn open(interface: &str) -> io::Result<Device> {
        // One byte of the array stays zero: the kernel wants the name terminated.
        if interface.is_empty() || interface.len() >= libc::IFNAMSIZ {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "an interface name has 1 to 15 bytes",
            ));
        }
        let mut name = [0; libc::IFNAMSIZ];
        for (place, byte) in name.iter_mut().zip(interface.bytes()) {
            *place = byte as libc::c_char;
        }
        Ok(Device {
            socket: Socket::new(Domain::IPV4, Type::DGRAM, None)?,
            name,
        })
    }

    /// All feature names this kernel knows, in the order of their bits; unused bits have none.
    fn feature_names(&self) -> io::Result<Vec<String>> {
        // ethtool_sset_info: cmd, reserved, sset_mask (64 bits), then one count per bit asked.
        let mask = u64::to_ne_bytes(1 << ETH_SS_FEATURES);
        let [low, high] = [&mask[..4], &mask[4..]]
            .map(|half| u32::from_ne_bytes(half.try_into().expect("half of 8 bytes is 4")));
        let mut info = [ETHTOOL_GSSET_INFO, 0, low, high, 0];
        // SAFETY: GSSET_INFO writes one count per bit of the mask: one, the last word.
        unsafe { self.submit(&mut info)? };
        let count = info[4] as usize;

        let mut strings = vec![0; STRINGS_HEADER_WORDS + count * ETH_GSTRING_LEN / 4];
        strings[0] = ETHTOOL_GSTRINGS;
        strings[1] = ETH_SS_FEATURES;
        strings[2] = count as u32;
        // SAFETY: GSTRINGS writes all strings of the set, whatever `len` says: as many as GSSET_INFO
        // counted, since the count of this set is a constant of the running kernel.
        unsafe { self.submit(&mut strings)? };
        let bytes: Vec<u8> = strings[STRINGS_HEADER_WORDS..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let name = |field: &[u8]| {
            let end = field
                .iter()
                .position(|byte| *byte == 0)
                .unwrap_or(field.len());
            String::from_utf8_lossy(&field[..end]).into_owned()
        };
        Ok(bytes.chunks_exact(ETH_GSTRING_LEN).map(name).collect())
    }

    fn is_active(&self, names: &[String], index: usize) -> io::Result<bool> {
        let blocks = names.len().div_ceil(32);
        let mut request = vec![0; FEATURES_HEADER_WORDS + blocks * GET_BLOCK_WORDS];
        request[0] = ETHTOOL_GFEATURES;
        request[1] = blocks as u32;
        // SAFETY: GFEATURES writes at most the blocks that `size` says, which the request has.
        unsafe { self.submit(&mut request)? };
        let active = request[FEATURES_HEADER_WORDS + index / 32 * GET_BLOCK_WORDS + ACTIVE];
        Ok(active >> (index % 32) & 1 == 1)
    }

    /// One SIOCETHTOOL with `request`, which the kernel reads and fills in; the ioctl's result.
    ///
    /// # Safety
    ///
    /// `request` must be as long as its command reads and writes (linux/ethtool.h).
    unsafe fn submit(&self, request: &mut [u32]) -> io::Result<i32> {
        // SAFETY: ifreq is an array and a union of integers and pointers, all valid as zeroes.
        let mut interface: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
        interface.ifr_name = self.name;
        interface.ifr_ifru.ifru_data = request.as_mut_ptr().cast();
        const { assert!(size_of::<u32>() == 4) };
        // SAFETY: SIOCETHTOOL takes an ifreq, here live and with a terminated name, whose data
        // points to the command's structure; all of them are arrays of u32 (sset_mask is copied
        // bytewise, alignment does not matter), borrowed mutably for the call and as long as the
        // command needs, as the caller promised.
        let result = unsafe {
            libc::ioctl(
                self.socket.as_raw_fd(),
                libc::SIOCETHTOOL as libc::Ioctl,
                ptr::from_mut(&mut interface),
            )
        };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(result)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Switching is tested where there are devices of our own: in `lab::topology`.

    #[test]
    fn what_does_not_exist_is_said_by_name() {
        let error = feature("no-such-device", "rx-gro").unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("read feature rx-gro of no-such-device: ")
        );
        let error = feature("a name that is far too long", "rx-gro").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
