//! Token bucket filters, tc-tbf(8): queues that cut what is longer than their bucket.

use std::io;

use netlink_packet_core::{Nla, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use crate::route::{Intent, Netlink};

/// A token bucket filter somewhere among the queues of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// Index of the device.
    pub device: u32,
    /// Where it is, in the words of tc(8): `root`, or `parent` and a handle.
    pub place: String,
    /// Bytes per second that leave it.
    pub rate: u64,
    /// The bucket in bytes: a longer train is cut, a longer datagram dropped.
    pub burst: u64,
    /// The same of a second bucket, for the peaks, where there is one.
    pub peak: Option<Peak>,
    /// Bytes that may wait in it.
    pub limit: u32,
}

/// How fast a bucket may be emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peak {
    /// Bytes per second.
    pub rate: u64,
    /// The bucket in bytes, `mtu` in tc(8).
    pub burst: u64,
}

impl Tbf {
    /// Bytes of the longest train that passes it whole.
    #[must_use]
    pub fn whole_max(&self) -> u64 {
        self.peak.map_or(u64::MAX, |it| it.burst).min(self.burst)
    }

    fn new(message: &TcMessage) -> Option<Self> {
        let options = options(message)?;
        let value = |kind| value(&options, kind);
        let settings = value(TCA_TBF_PARMS)?;
        let rate = |at, long| {
            let long = value(long).and_then(|it| it.first_chunk().copied());
            let short = word(&settings, at).map(u64::from);
            long.map(u64::from_ne_bytes).or(short)
        };
        let bucket = |rate: u64, at| {
            let ticks = word(&settings, at)?;
            let bytes = u128::from(rate) * u128::from(ticks) * TICK_NS / 1_000_000_000;
            u64::try_from(bytes).ok()
        };
        let (rate, peak_rate) = (
            rate(RATE_AT, TCA_TBF_RATE64)?,
            rate(PEAK_RATE_AT, TCA_TBF_PRATE64)?,
        );
        let peak = |rate| {
            let burst = bucket(rate, PEAK_BUFFER_AT)?;
            Some(Peak { rate, burst })
        };
        Some(Self {
            device: u32::try_from(message.header.index).ok()?,
            place: place(message.header.parent),
            rate,
            burst: bucket(rate, BUFFER_AT)?,
            peak: Some(peak_rate).filter(|it| *it > 0).and_then(peak),
            limit: word(&settings, LIMIT_AT)?,
        })
    }
}

impl Netlink {
    /// The token bucket filters of all devices. Asking needs no privilege.
    ///
    /// # Errors
    /// EOPNOTSUPP in a sandbox without queues.
    pub fn tbfs(&mut self) -> io::Result<Vec<Tbf>> {
        let request = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default());
        let answers = self.request(request, Intent::Dump)?;
        let tbfs = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewQueueDiscipline(message) if is_tbf(message) => {
                Tbf::new(message)
            }
            _ => None,
        });
        Ok(tbfs.collect())
    }
}

// Attributes of a tbf, and where in the first of them, struct tc_tbf_qopt, what is (pkt_sched.h).
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_PRATE64: u16 = 5;
const RATE_AT: usize = 8;
const PEAK_RATE_AT: usize = 20;
const LIMIT_AT: usize = 24;
const BUFFER_AT: usize = 28;
const PEAK_BUFFER_AT: usize = 32;

/// A bucket is told as the time that filling it takes, in ticks of so many nanoseconds
/// (`PSCHED_SHIFT` of the kernel, the second number of /proc/net/psched).
const TICK_NS: u128 = 64;

fn is_tbf(message: &TcMessage) -> bool {
    let mut attributes = message.attributes.iter();
    attributes.any(|it| matches!(it, TcAttribute::Kind(kind) if kind == "tbf"))
}

/// The attributes of the queue's own kind, which the library does not read for a tbf.
fn options(message: &TcMessage) -> Option<Vec<u8>> {
    let options = message.attributes.iter().find_map(|it| match it {
        TcAttribute::Options(options) => options.first(),
        _ => None,
    })?;
    let mut bytes = vec![0; options.value_len()];
    options.emit_value(&mut bytes);
    Some(bytes)
}

/// The value of the first attribute of this kind among `attributes`.
fn value(attributes: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut attributes = NlasIterator::new(attributes).map_while(Result::ok);
    let found = attributes.find(|it| it.kind() == kind)?;
    Some(found.value().to_vec())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

fn place(parent: TcHandle) -> String {
    if parent == TcHandle::ROOT {
        return "root".to_owned();
    }
    format!("parent {:x}:{:x}", parent.major, parent.minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_core::{DefaultNla, Emitable};
    use netlink_packet_route::tc::TcOption;

    /// A tbf of these settings, rates in bytes per second and buckets in ticks.
    fn message(settings: &Settings) -> TcMessage {
        let mut bytes = [0; 36];
        let mut set = |at: usize, value: u32| {
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        set(8, settings.rate.try_into().unwrap_or(u32::MAX));
        set(20, settings.peak_rate);
        set(24, 20_000);
        set(28, settings.ticks);
        set(32, settings.peak_ticks);
        let mut attributes = vec![DefaultNla::new(1, bytes.to_vec())];
        if settings.rate > u64::from(u32::MAX) {
            attributes.push(DefaultNla::new(4, settings.rate.to_ne_bytes().to_vec()));
        }
        let mut message = TcMessage::default();
        message.header.index = 2;
        message.header.parent = settings.parent;
        message.attributes = vec![TcAttribute::Kind("tbf".to_owned()), nested(&attributes)];
        message
    }

    /// As the library gives them.
    fn nested(attributes: &[DefaultNla]) -> TcAttribute {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        TcAttribute::Options(vec![TcOption::Other(DefaultNla::new(2, bytes))])
    }

    struct Settings {
        rate: u64,
        ticks: u32,
        peak_rate: u32,
        peak_ticks: u32,
        parent: TcHandle,
    }

    const PLAIN: Settings = Settings {
        rate: 1_000_000,
        ticks: 25_000,
        peak_rate: 0,
        peak_ticks: 0,
        parent: TcHandle::ROOT,
    };

    #[test]
    fn a_bucket_is_as_long_as_its_rate_takes_to_fill_it() {
        let tbf = Tbf::new(&message(&PLAIN)).unwrap();
        let wanted = Tbf {
            device: 2,
            place: "root".to_owned(),
            rate: 1_000_000,
            burst: 1600,
            peak: None,
            limit: 20_000,
        };
        assert_eq!(tbf, wanted);
        assert_eq!(tbf.whole_max(), 1600);
        // 100 Gbit/s are more than 32 bits hold.
        let fast = Settings {
            rate: 12_500_000_000,
            ticks: 100,
            ..PLAIN
        };
        let tbf = Tbf::new(&message(&fast)).unwrap();
        assert_eq!((tbf.rate, tbf.burst), (12_500_000_000, 80_000));
    }

    #[test]
    fn a_second_bucket_cuts_too() {
        let peaked = Settings {
            ticks: 1_250_000,
            peak_rate: 2_000_000,
            peak_ticks: 12_500,
            parent: TcHandle::from(0x8001_0010),
            ..PLAIN
        };
        let tbf = Tbf::new(&message(&peaked)).unwrap();
        let peak = Peak {
            rate: 2_000_000,
            burst: 1600,
        };
        assert_eq!((tbf.burst, tbf.peak), (80_000, Some(peak)));
        assert_eq!(tbf.whole_max(), 1600);
        assert_eq!(tbf.place, "parent 8001:10");
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let mut cut = message(&PLAIN);
        cut.attributes[1] = nested(&[DefaultNla::new(1, vec![0; 30])]);
        assert_eq!(Tbf::new(&cut), None);
        assert!(is_tbf(&cut));
        assert!(!is_tbf(&TcMessage::default()));
    }
}
