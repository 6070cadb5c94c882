//! What a measurement is asked to be, before it is checked against this machine.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reflector_measure::number;
use reflector_measure::percent::Percent;
use reflector_measure::target::Target;
use reflector_udp::PAYLOAD_V6_MAX;

/// What `reflector load` is asked to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// The echo service.
    pub target: Target,
    /// Datagrams per second in all.
    pub rate: Option<Rate>,
    /// Unanswered datagrams per flow at most.
    pub window: Option<u32>,
    /// How long to send.
    pub duration: Option<Duration>,
    /// Number of datagrams to send.
    pub count: Option<u64>,
    /// Bytes of payload.
    pub size: Sizes,
    /// Source ports that send in turn.
    pub flows: u16,
    /// Datagrams that are due at the same time.
    pub burst: u32,
    /// Whether the times between bursts are random.
    pub poisson: bool,
    /// Seed of everything random.
    pub seed: Option<u64>,
    /// What is sent before this does not count.
    pub warmup: Duration,
    /// Threads that send and receive.
    pub cores: u16,
    /// Whether bursts travel in trains.
    pub gso: bool,
    /// Address to send from.
    pub bind: Option<Source>,
    /// Source ports that are not used, since servers may refuse what comes from them.
    pub avoided_ports: Vec<u16>,
    /// What is not answered within this is lost.
    pub timeout: Duration,
    /// Loss that is too much.
    pub max_loss: Option<Percent>,
    /// 99th percentile from the scheduled time that is too long.
    pub max_p99: Option<Duration>,
    /// Loss at which the highest rate is searched.
    pub find_rate: Option<Percent>,
    /// Time between reports; 0 reports only at the end. `None` is a second for JSON lines and for
    /// what changes at a terminal, and people get no line for each.
    pub interval: Option<Duration>,
    /// JSON lines instead of columns.
    pub json: bool,
    /// Where round trips are logged.
    pub hdr: Option<PathBuf>,
}

impl Options {
    /// What `reflector load TARGET` does without options.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            rate: None,
            window: None,
            duration: None,
            count: None,
            size: Sizes(vec![(64, 1)]),
            flows: 16,
            burst: 1,
            poisson: false,
            seed: None,
            warmup: Duration::ZERO,
            cores: 1,
            gso: true,
            bind: None,
            avoided_ports: Vec::new(),
            timeout: Duration::from_secs(1),
            max_loss: None,
            max_p99: None,
            find_rate: None,
            interval: None,
            json: false,
            hdr: None,
        }
    }
}

/// An address to send from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Source {
    /// The address.
    pub ip: IpAddr,
    /// The interface that it is meant on, by name or index; only of IPv6.
    pub interface: Option<String>,
}

impl Source {
    /// As it is typed.
    pub(crate) fn name(&self) -> String {
        match &self.interface {
            Some(interface) => format!("{}%{interface}", self.ip),
            None => self.ip.to_string(),
        }
    }
}

impl<T: Into<IpAddr>> From<T> for Source {
    fn from(ip: T) -> Self {
        Self {
            ip: ip.into(),
            interface: None,
        }
    }
}

impl FromStr for Source {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "expected an IP address, such as 192.0.2.1, 2001:db8::1 or fe80::1%eth0";
        let (ip, interface) = match text.split_once('%') {
            Some((_, "")) => return Err(wrong),
            Some((ip, interface)) => (ip, Some(interface.to_owned())),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| wrong)?;
        if interface.is_some() && ip.is_ipv4() {
            return Err("only an IPv6 address names its interface, as in fe80::1%eth0");
        }
        Ok(Self { ip, interface })
    }
}

/// How many datagrams per second.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Rate {
    /// As many as can be sent.
    Max,
    /// This many, more than 0.
    Pps(f64),
}

/// Payload lengths in bytes, each with its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub Vec<(u16, u32)>);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "max" {
            return Ok(Rate::Max);
        }
        match number::decimal(text) {
            Some(pps) if pps > 0.0 && pps <= 1e9 => Ok(Rate::Pps(pps)),
            Some(0.0) => Err("at a rate of 0 nothing is sent".to_owned()),
            _ => Err("expected datagrams per second such as 500, 20k or 1.5M, or 'max'".to_owned()),
        }
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let one = |part: &str| {
            let (size, weight) = part.split_once(':').unwrap_or((part, "1"));
            let size = number::bytes(size);
            let size = match size.map(u16::try_from) {
                Some(Err(_)) => {
                    return Err(format!(
                        "no UDP payload is longer than {PAYLOAD_V6_MAX} bytes"
                    ));
                }
                size => size.and_then(Result::ok),
            };
            let weight = number::whole(weight).and_then(|it| u32::try_from(it).ok());
            let weight = weight.filter(|&it| it > 0);
            size.zip(weight)
                .ok_or_else(|| format!("'{part}' is not a size in bytes, or SIZE:WEIGHT"))
        };
        let items = text.trim().strip_suffix(',').unwrap_or(text).split(',');
        let sizes: Vec<_> = items.map(one).collect::<Result<_, _>>()?;
        if sizes.len() > SIZES_MAX {
            return Err(format!("a mix has at most {SIZES_MAX} sizes"));
        }
        Ok(Sizes(sizes))
    }
}

/// Sizes that a mix may have: each keeps buffers of its own.
const SIZES_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, pps) in [("500", 500.0), ("20k", 2e4), ("1.5M", 1.5e6), (".1", 0.1)] {
            assert_eq!(text.parse::<Rate>(), Ok(Rate::Pps(pps)), "{text}");
        }
        assert_eq!("max".parse::<Rate>(), Ok(Rate::Max));
        for text in ["0", "-1", "k", "", "nan", "inf", "1e12", "5µ", "fast"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!("64".parse::<Sizes>(), Ok(Sizes(vec![(64, 1)])));
        let mix = Sizes(vec![(64, 7), (512, 4), (1400, 1)]);
        assert_eq!("64:7,512:4,1400:1".parse::<Sizes>(), Ok(mix));
        assert_eq!(
            "1k:2, 1KiB, 1kB:1k, .5Ki ".parse(),
            Ok(Sizes(vec![(1000, 2), (1024, 1), (1000, 1000), (512, 1)]))
        );
        for text in ["k", "1M", "1.5", "66k", "4294968k"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
        for text in ["", "64:0", "64:", "70000", "-1", "64;7"] {
            assert!(text.parse::<Sizes>().is_err(), "{text}");
        }
    }
}
