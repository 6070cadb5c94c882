//! How many datagrams sockets dropped whose counters count trains.
//!
//! The kernel counts a train that finds no room in a receive buffer once, however many datagrams it
//! has. How many those were follows from the namespace's ECN counters, which count each datagram of
//! a train, where everything that came in is accounted for; otherwise it is estimated.

use serde::Serialize;

use crate::snmp::{self, Texts};

/// Datagrams of one train at most: UDP_MAX_SEGMENTS of linux/udp.h.
const TRAIN_MAX: u64 = 128;
/// Part of the packets that may be others' where those are still taken for single datagrams.
const OTHERS_MAX: f64 = 0.01;

/// What came to sockets that dropped something: how much of it was received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Datagrams.
    pub datagrams: u64,
    /// Buffers, each with a datagram or a train.
    pub buffers: u64,
}

/// The versions of the Internet Protocol that sockets serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Families {
    /// IPv4.
    pub v4: bool,
    /// IPv6.
    pub v6: bool,
}

/// What has come to this network namespace by IP. ICMP is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// Packets, of which a train is one (`InReceives`).
    packets: u64,
    /// Datagrams, each one of a train (`InNoECTPkts`, `InECT0Pkts`, `InECT1Pkts`, `InCEPkts`).
    datagrams: u64,
    /// Fragments, which are no datagrams (`ReasmReqds`).
    fragments: u64,
}

impl Arrivals {
    /// Of `families`, as counted in `texts`; `None` where the kernel does not tell.
    pub fn of(families: Families, texts: &Texts) -> Option<Self> {
        let Texts {
            snmp,
            netstat,
            snmp6,
        } = texts;
        let v4 = |text: &str, group: &str, name: &str| {
            let count = snmp::find(text, group, name)?;
            Some(if families.v4 { count } else { 0 })
        };
        let v6 = |name: &str| match families.v6 {
            true => snmp::find6(snmp6, name).unwrap_or(0),
            false => 0,
        };
        let icmp = v4(snmp, "Icmp", "InMsgs")? + v6("Icmp6InMsgs");
        let mut datagrams = 0;
        for name in ["InNoECTPkts", "InECT0Pkts", "InECT1Pkts", "InCEPkts"] {
            datagrams += v4(netstat, "IpExt", name)? + v6(&format!("Ip6{name}"));
        }
        let packets = v4(snmp, "Ip", "InReceives")? + v6("Ip6InReceives");
        Some(Self {
            packets: packets.saturating_sub(icmp),
            datagrams: datagrams.saturating_sub(icmp),
            fragments: v4(snmp, "Ip", "ReasmReqds")? + v6("Ip6ReasmReqds"),
        })
    }

    /// What has come since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(earlier.packets),
            datagrams: self.datagrams.saturating_sub(earlier.datagrams),
            fragments: self.fragments.saturating_sub(earlier.fragments),
        }
    }
}

/// What sockets dropped for want of receive buffer, in datagrams. Where `least` and `most` are
/// equal it is exact, otherwise an estimate between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drops {
    /// Datagrams.
    #[serde(rename = "kernel_drops")]
    pub datagrams: u64,
    /// Datagrams at least.
    #[serde(rename = "kernel_drops_least")]
    pub least: u64,
    /// Datagrams at most.
    #[serde(rename = "kernel_drops_most")]
    pub most: u64,
    /// What the sockets counted: a train once, as a datagram that came alone
    /// (SK_MEMINFO_DROPS, linux/sock_diag.h).
    #[serde(rename = "trains_dropped")]
    pub trains: u64,
}

impl Drops {
    /// Of sockets that counted `trains` drops and received `received`, while `arrivals` came to
    /// their namespace, if that is known.
    pub fn new(trains: u64, received: Received, arrivals: Option<Arrivals>) -> Self {
        let mean = received.datagrams as f64 / received.buffers.max(1) as f64;
        let estimate = (trains as f64 * mean.max(1.0)).round() as u64;
        let of_trains = Self {
            datagrams: estimate.min(trains * TRAIN_MAX),
            least: trains,
            most: trains * TRAIN_MAX,
            trains,
        };
        let others = |it: &Arrivals| it.packets.checked_sub(received.buffers + trains);
        let missed = |it: &Arrivals| it.datagrams.checked_sub(received.datagrams + others(it)?);
        let told = arrivals
            .filter(|it| it.fragments == 0)
            .and_then(|it| Some((others(&it)?, missed(&it)?, it.packets)));
        match told {
            // Trains that a tun device brings count once there as well.
            Some((0, missed, _)) if (trains..=trains * TRAIN_MAX).contains(&missed) => Self {
                datagrams: missed,
                least: missed,
                most: missed,
                trains,
            },
            Some((others, missed, packets)) if missed >= trains => {
                let most = of_trains.most.min(missed);
                // Others' packets were trains at most.
                let least = trains.max((missed + others).saturating_sub(others * TRAIN_MAX));
                let are_few = others as f64 <= OTHERS_MAX * packets as f64;
                let datagrams = if are_few { most } else { estimate.min(most) };
                Self {
                    datagrams: datagrams.max(least),
                    least: least.min(most),
                    most,
                    trains,
                }
            }
            _ => of_trains,
        }
    }

    /// Of sockets that are given each datagram of a train by itself, and count it.
    pub fn exact(datagrams: u64) -> Self {
        Self {
            datagrams,
            least: datagrams,
            most: datagrams,
            trains: datagrams,
        }
    }

    /// Whether the number of datagrams is known, and not estimated.
    pub fn is_exact(&self) -> bool {
        self.least == self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(packets: u64, datagrams: u64) -> Option<Arrivals> {
        Some(Arrivals {
            packets,
            datagrams,
            fragments: 0,
        })
    }

    #[test]
    fn a_train_counts_as_what_it_has_where_all_that_came_is_accounted_for() {
        let received = Received {
            datagrams: 1024,
            buffers: 32,
        };
        for (arrivals, datagrams, least, most) in [
            // 32 trains received and 168 dropped, of 32 each.
            (arrivals(200, 6400), 5376, 5376, 5376),
            // One packet more, of somebody else: one datagram, or a train.
            (arrivals(201, 6401), 5376, 5377 - 128, 5376),
            // Many of somebody else's.
            (arrivals(1200, 7400), 5376, 168, 5376),
            (arrivals(1200, 99_400), 5376, 168, 168 * 128),
            (None, 5376, 168, 168 * 128),
            // Trains of a tun device, which count once.
            (arrivals(200, 200), 5376, 168, 168 * 128),
            // Read while some are under way.
            (arrivals(190, 6080), 5376, 168, 168 * 128),
        ] {
            let drops = Drops::new(168, received, arrivals);
            let told = (drops.datagrams, drops.least, drops.most, drops.trains);
            assert_eq!(told, (datagrams, least, most, 168), "{arrivals:?}");
        }
        let fragments = Arrivals {
            fragments: 1,
            ..arrivals(200, 6400).unwrap()
        };
        assert!(!Drops::new(168, received, Some(fragments)).is_exact());
        assert_eq!(Drops::new(0, received, None), Drops::default());
        assert_eq!(Drops::new(7, Received::default(), None).datagrams, 7);
    }

    #[test]
    fn counters_of_families_are_added_without_icmp() {
        let ext = "IpExt: InNoECTPkts InECT1Pkts InECT0Pkts InCEPkts\nIpExt: 20 1 2 3\n";
        let mut texts = Texts {
            snmp: "Ip: InReceives ReasmReqds\nIp: 10 1\nIcmp: InMsgs\nIcmp: 2\n".to_owned(),
            netstat: ext.to_owned(),
            snmp6: "Ip6InReceives 5\nIcmp6InMsgs 4\nIp6InNoECTPkts 50\n".to_owned(),
        };
        let all = Arrivals {
            packets: 9,
            datagrams: 70,
            fragments: 1,
        };
        let both = Families { v4: true, v6: true };
        assert_eq!(Arrivals::of(both, &texts), Some(all));
        let v4 = Families {
            v4: true,
            v6: false,
        };
        let packets = Arrivals::of(v4, &texts).map(|it| it.packets);
        assert_eq!(packets, Some(8));
        let none = Arrivals::default();
        assert_eq!((all.since(none), all.since(all)), (all, none));
        texts.netstat.clear();
        assert_eq!(Arrivals::of(both, &texts), None);
        assert!(Arrivals::of(both, &Texts::read()).is_some());
    }
}
