//! What each part of a datagram's way costs, without sockets: ingress, guard, responder, egress.
//!
//! ```text
//! cargo bench --bench parts                       all of them, ns per datagram
//! cargo bench --bench parts -- egress             those whose name contains this
//! ```
//!
//! Time here is the time of a warm cache and a trained branch predictor: it tells whether a part
//! got slower, not what a datagram costs in service (that is `reflect`). Where even that is too
//! noisy, `scripts/instructions.sh` counts the instructions of the same bodies.

mod admit;
mod control;
mod lists;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use reflector::internals::batch::Batch;
use reflector::internals::datagram::{Arrival, Endpoint, Flow, LocalAddr, SEGMENTS_MAX};
use reflector::internals::egress::{Egress, Settings};
use reflector::internals::guard::limiter::Limiter;
use reflector::internals::guard::{Guard, Limit, Rules};
use reflector::internals::ingress;
use reflector::internals::stats::Stats;
use reflector::responder::echo::Echo;
use reflector::responder::{Request, Responder};
use reflector_measure::clock;
use reflector_udp::addr::PeerAddr;
use reflector_udp::memory::Lease;
use reflector_udp::mmsg::{Incoming, Kernel};

/// Slots of a batch, in every body.
const SLOTS: u16 = 32;
const PORT: u16 = 9007;
const RECEIVED_NS: u64 = 1_700_000_000_123_456_789;
/// A plausible residence time, below what the watch for clock steps cares about.
const SENT_NS: u64 = RECEIVED_NS + 20_000;
/// Room of a buffer, and the distance to the next, as the engines have them.
const CAPACITY: u32 = 65_536;
const STRIDE: usize = 1027 * 64;

/// What is measured: one run handles `datagrams` and leaves everything as it was.
struct Body {
    name: &'static str,
    datagrams: u64,
    prepare: fn() -> Run,
}
type Run = Box<dyn FnMut()>;

const BODIES: [Body; 25] = [
    Body {
        name: "ingress/family=v4/control=timestamp+pktinfo",
        datagrams: 32,
        prepare: || ingress(Family::V4, None, None),
    },
    Body {
        name: "ingress/family=v6/control=timestamp+pktinfo",
        datagrams: 32,
        prepare: || ingress(Family::V6, None, None),
    },
    Body {
        name: "ingress/family=v4/control=timestamp+gro+pktinfo/segments=32",
        datagrams: 32 * 32,
        prepare: || ingress(Family::V4, Some(1400), None),
    },
    Body {
        name: "ingress/family=v4/control=timestamp+pktinfo+ttl",
        datagrams: 32,
        prepare: || ingress(Family::V4, None, Some(64)),
    },
    Body {
        name: "admit/singles=32/len=64",
        datagrams: 32,
        prepare: || admit::admit(1, 64),
    },
    Body {
        name: "admit/trains=32/segments=32/len=1400",
        datagrams: 32 * 32,
        prepare: || admit::admit(32, 1400),
    },
    Body {
        name: "guard/family=v4/lists=default/verdict=admitted",
        datagrams: 32,
        prepare: || guard(|index| peer(Family::V4, index)),
    },
    Body {
        name: "guard/family=v6/lists=default/verdict=admitted",
        datagrams: 32,
        prepare: || guard(|index| peer(Family::V6, index)),
    },
    Body {
        name: "guard/family=v4/lists=default/verdict=refused",
        datagrams: 32,
        prepare: || guard(|index| SocketAddr::from(([8, 8, 8, index as u8 + 1], 4000))),
    },
    Body {
        name: "lists/family=v4/prefixes=100",
        datagrams: lists::ADDRESSES,
        prepare: || lists::ours(Family::V4, 100),
    },
    Body {
        name: "lists/family=v4/prefixes=10000",
        datagrams: lists::ADDRESSES,
        prepare: || lists::ours(Family::V4, 10_000),
    },
    Body {
        name: "lists/family=v4/prefixes=10000/of=prefix-trie",
        datagrams: lists::ADDRESSES,
        prepare: || lists::trie(Family::V4, 10_000),
    },
    Body {
        name: "lists/family=v6/prefixes=100",
        datagrams: lists::ADDRESSES,
        prepare: || lists::ours(Family::V6, 100),
    },
    Body {
        name: "lists/family=v6/prefixes=10000",
        datagrams: lists::ADDRESSES,
        prepare: || lists::ours(Family::V6, 10_000),
    },
    Body {
        name: "lists/family=v6/prefixes=10000/of=prefix-trie",
        datagrams: lists::ADDRESSES,
        prepare: || lists::trie(Family::V6, 10_000),
    },
    Body {
        name: "limiter/family=v4/prefixes=2/verdict=admitted",
        datagrams: 32,
        prepare: || limiter(Family::V4),
    },
    Body {
        name: "limiter/family=v6/prefixes=3/verdict=admitted",
        datagrams: 32,
        prepare: || limiter(Family::V6),
    },
    Body {
        name: "responder/echo/len=64",
        datagrams: 32,
        prepare: responder,
    },
    // The control, whose true answer is known: the second is twice the first.
    Body {
        name: "control/times=10",
        datagrams: 32,
        prepare: || control(10),
    },
    Body {
        name: "control/times=20",
        datagrams: 32,
        prepare: || control(20),
    },
    Body {
        name: "egress/singles=32/peers=1/len=64",
        datagrams: 32,
        prepare: || egress(Family::V4, 1, 1, 64, false),
    },
    Body {
        name: "egress/singles=32/peers=32/len=64",
        datagrams: 32,
        prepare: || egress(Family::V4, 32, 1, 64, false),
    },
    Body {
        name: "egress/singles=32/peers=32/len=64/loop-guard=ttl",
        datagrams: 32,
        prepare: || egress(Family::V4, 32, 1, 64, true),
    },
    Body {
        name: "egress/singles=32/peers=32/len=64/family=v6",
        datagrams: 32,
        prepare: || egress(Family::V6, 32, 1, 64, false),
    },
    Body {
        name: "egress/trains=32/segments=32/peers=1/len=1400",
        datagrams: 32 * 32,
        prepare: || egress(Family::V4, 1, 32, 1400, false),
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--loop") {
        return bare_loop(&args[1..]);
    }
    let mut criterion = Criterion::default().configure_from_args();
    for body in &BODIES {
        let (part, rest) = body.name.split_once('/').unwrap_or((body.name, ""));
        let mut group = criterion.benchmark_group(part);
        group.throughput(Throughput::Elements(body.datagrams));
        let mut run = (body.prepare)();
        group.bench_function(rest, |bencher| bencher.iter(&mut run));
        group.finish();
    }
    criterion.final_summary();
    ExitCode::SUCCESS
}

/// `--loop NAME N` runs a body N times and nothing else, for whoever counts from outside; `--loop`
/// alone prints name and datagrams of each.
fn bare_loop(args: &[String]) -> ExitCode {
    let [name, count] = args else {
        for body in &BODIES {
            println!("{} {}", body.name, body.datagrams);
        }
        return ExitCode::SUCCESS;
    };
    let body = BODIES.iter().find(|body| body.name == name);
    let (Some(body), Ok(count)) = (body, count.parse::<u64>()) else {
        eprintln!("parts: --loop takes a name that `--loop` alone prints, and a number");
        return ExitCode::FAILURE;
    };
    let mut run = (body.prepare)();
    (0..count).for_each(|_| run());
    ExitCode::SUCCESS
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// A peer that the default lists admit.
fn peer(family: Family, index: u16) -> SocketAddr {
    let ip = match family {
        Family::V4 => IpAddr::from([172, 17, 0, 2 + index as u8]),
        Family::V6 => IpAddr::from([0xfd17, 0, 0, 0, 0, 0, 0, 2 + index]),
    };
    SocketAddr::new(ip, 40_000 + index)
}

fn local(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([172, 17, 0, 1]),
        Family::V6 => IpAddr::from([0xfd17, 0, 0, 0, 0, 0, 0, 1]),
    }
}

/// A wildcard socket, which has to look at and write pktinfo.
fn endpoint(family: Family) -> Endpoint {
    let unspecified: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    Endpoint {
        addr: SocketAddr::new(unspecified, PORT),
        has_pktinfo: true,
        same_interface: false,
    }
}

fn arrival(family: Family, peer: SocketAddr, segment_len: u32) -> Arrival {
    let flow = Flow {
        peer: PeerAddr::new(peer),
        local: LocalAddr {
            addr: local(family),
            interface: 0,
        },
        socket: 0,
    };
    Arrival {
        flow,
        segment_len,
        received_ns: Some(RECEIVED_NS),
        ..Arrival::EMPTY
    }
}

/// Address and control messages as the kernel writes them → who, to which address, when.
fn ingress(family: Family, segment_len: Option<u32>, hops: Option<u8>) -> Run {
    let endpoint = endpoint(family);
    let control = control::received(family, segment_len, hops);
    let names: Vec<PeerAddr> = (0..SLOTS)
        .map(|index| PeerAddr::new(peer(family, index)))
        .collect();
    let payload_len = segment_len.map_or(64, |len| 32 * len as usize);
    let mut expected = arrival(family, peer(family, 0), segment_len.unwrap_or(64));
    if let Some(hops) = hops {
        expected.attributes = expected.attributes.with_hop_limit(hops);
    }
    let arrive = move |name: &PeerAddr, arrived: &mut Arrival| {
        let incoming = Incoming {
            name: black_box(name.as_bytes()),
            control: black_box(&control),
            flags: 0,
        };
        ingress::arrival(&endpoint, &incoming, payload_len, arrived)
    };
    let mut arrived = Arrival::EMPTY;
    assert_eq!(arrive(&names[0], &mut arrived), Ok(()));
    assert_eq!(arrived, expected);
    Box::new(move || {
        for name in &names {
            arrive(name, black_box(&mut arrived)).expect("answerable");
        }
    })
}

/// Ports, address classes and lists, with the lists as they are by default.
fn guard(peer: fn(u16) -> SocketAddr) -> Run {
    let guard = Guard::new(&Rules::default(), [PORT]);
    let arrivals: Vec<Arrival> = (0..SLOTS)
        .map(|index| {
            let mut arrival = Arrival::EMPTY;
            arrival.flow.peer = PeerAddr::new(peer(index));
            arrival
        })
        .collect();
    Box::new(move || {
        for arrival in &arrivals {
            // Refused or not is what the name of the body says.
            let _ = black_box(guard.admit(black_box(arrival)));
        }
    })
}

/// A rate limiter that finds every source within its limit, by the default prefixes.
fn limiter(family: Family) -> Run {
    // A fixed time and seed, so that every run takes the same way.
    let start = clock::monotonic();
    let mut limiter = Limiter::new(&Limit::new(u32::MAX), (1, 2), start);
    let sources: Vec<_> = (0..SLOTS).map(|index| peer(family, index).ip()).collect();
    Box::new(move || {
        for &source in &sources {
            black_box(limiter.admit(black_box(source), 1, start));
        }
    })
}

/// Echo, asked for each datagram. In service it is not asked at all
/// ([`Responder::is_echo`]), so this is the floor of what any responder costs.
fn responder() -> Run {
    let local = SocketAddr::new(local(Family::V4), PORT);
    let request = Request::new(peer(Family::V4, 0), local);
    let mut payloads = [[0; 64]; SLOTS as usize];
    let mut echo = Echo;
    Box::new(move || {
        for payload in &mut payloads {
            black_box(echo.respond(black_box(&request), black_box(payload)));
        }
    })
}

/// The responder, so many times for each datagram.
fn control(times: usize) -> Run {
    let mut run = responder();
    Box::new(move || (0..black_box(times)).for_each(|_| run()))
}

/// A batch of slots → messages, settled as if the kernel had taken them all, and the buffers back.
///
/// One segment for each slot is a batch of single datagrams. Slots are dealt to the peers in turn,
/// so that joining them is not a matter of neighbours.
fn egress(family: Family, peers: u16, segments: u32, segment_len: u32, guarded: bool) -> Run {
    let settings = Settings {
        gso: true,
        segments_max: SEGMENTS_MAX,
        wire: false,
        latency: true,
    };
    let slots_max = usize::from(SLOTS);
    let mut egress = Egress::new(
        Kernel,
        settings,
        vec![endpoint(family)],
        Arc::default(),
        slots_max,
    );
    let mut batch = Batch::new(slots_max);
    let mut stats = Stats::new(1);
    let mut owned = Lease::carve(SLOTS, CAPACITY, STRIDE).expect("memory");
    let arrivals: Vec<Arrival> = (0..SLOTS)
        .map(|index| arrival(family, peer(family, index % peers), segment_len))
        .collect();
    Box::new(move || {
        for (lease, &arrival) in owned.drain(..).zip(&arrivals) {
            *batch.spare() = arrival;
            batch.push(lease, 0..segments * segment_len, 0);
        }
        if guarded {
            // As the worker does, with what the guard says.
            let (slots, _) = batch.parts_mut();
            slots.for_each(|(slot, _)| slot.attributes = slot.attributes.with_hop_limit(63));
        }
        while !batch.is_empty() {
            egress.gather(&mut batch, &mut stats);
            egress.record_residences(SENT_NS, &mut stats);
            let counters = stats.of(0);
            (0..egress.outbox().len()).for_each(|message| egress.sent(message, counters));
            egress.finish();
            while let Some(lease) = egress.release() {
                owned.push(lease);
            }
        }
    })
}
