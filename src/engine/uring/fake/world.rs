//! The kernel's side of the world: sockets with their queues, the time, and whoever gives orders.
//! It goes on by one step whenever the worker calls the kernel.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use super::choices::Choices;
use super::fates::{Datagram, Fate, Fates, ID_LEN, Id, Reply};
use super::replies;
use super::rules::{Lists, PEERS_V4, PEERS_V6};
use crate::clock::set as clock;
use crate::datagram::DropReason;
use crate::egress::{RouteMtus, Routes};
use crate::stats::Stats;
use crate::stats::counters::Counters;
use crate::worker::control::{Command, Control};

/// Sockets of the worker: a wildcard of IPv4, one bound to an address, a wildcard of IPv6.
pub const SOCKETS: usize = 3;
/// Those of them that are bound to no address.
pub const WILDCARDS: [bool; SOCKETS] = [true, false, true];
pub const BUFFERS: u16 = 8;
/// Datagrams that wait at most before no more arrive.
const WAITING_MAX: u64 = 80;
/// Steps that a worker may take to end.
const ENDING_MAX: usize = 20_000;

/// Something that waits in a socket's queue: one datagram, or a train.
#[derive(Debug)]
pub struct Inbound {
    pub ids: Vec<Id>,
    pub peer: SocketAddr,
    pub payload: Vec<u8>,
    pub control: Vec<u8>,
    pub flags: i32,
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The socket of that index.
    Own(usize),
    /// One for replies without room.
    Detour(usize),
    /// One that sends in fragments.
    Fragmenter(usize),
}

/// All that the worker sees of the world.
pub struct World {
    pub choices: Choices,
    pub steps: usize,
    /// When it is told to drain.
    pub steps_max: usize,
    pub fates: Fates,
    pub queues: [VecDeque<Inbound>; SOCKETS],
    /// What has been done how often, so that what never happened is noticed.
    pub coverage: BTreeMap<&'static str, usize>,
    /// What happened, if anybody wants to read it.
    pub story: Option<Vec<String>>,
    pub exits: BTreeMap<RawFd, Exit>,
    pub routes: Routes,
    /// Whether each socket's responder is odd.
    pub is_odd: [bool; SOCKETS],
    /// Buffers that the kernel may write to: address and length.
    pub visible: BTreeMap<usize, usize>,
    /// The datagrams that were last put into each buffer.
    pub held: BTreeMap<usize, Vec<Id>>,
    /// The error that every receive ends with, if any.
    pub broken: Option<i32>,
    /// Whether the worker is through with arming.
    pub is_ready: bool,
    /// Whether what is sent by the mmsg calls is all that is sent.
    pub is_mmsg: bool,
    /// The lists that the worker was told last, and those that hold for its batch.
    pub ordered: Lists,
    pub in_force: Lists,
    pub control: Arc<Control>,
    /// What the worker has handed over.
    pub collected: Stats,
    /// When each socket's last receive failed for want of memory, as the world's time.
    failed_at: [Duration; SOCKETS],
    time: Duration,
    pub memory_failures: u64,
    pub end: Option<Command>,
}

impl World {
    pub fn new(choices: Choices, steps_max: usize, control: Arc<Control>) -> Self {
        clock::pass(Duration::ZERO);
        Self {
            choices,
            steps: 0,
            steps_max,
            fates: Fates::default(),
            queues: Default::default(),
            coverage: BTreeMap::new(),
            story: None,
            exits: BTreeMap::new(),
            routes: Routes::default(),
            is_odd: [false; SOCKETS],
            visible: BTreeMap::new(),
            held: BTreeMap::new(),
            broken: None,
            is_ready: false,
            is_mmsg: false,
            ordered: Lists::default(),
            in_force: Lists::default(),
            control,
            collected: Stats::new(SOCKETS),
            failed_at: [Duration::ZERO; SOCKETS],
            time: Duration::from_secs(1),
            memory_failures: 0,
            end: None,
        }
    }

    /// Adds a line to the story.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        let step = self.steps;
        if let Some(story) = &mut self.story {
            story.push(format!("{step:5}  {}", line()));
        }
    }

    pub fn has_done(&mut self, deed: &'static str) {
        *self.coverage.entry(deed).or_default() += 1;
    }

    /// The worker calls the kernel: one step, in which anything may happen besides.
    pub fn step(&mut self, call: &str) {
        self.steps += 1;
        self.choices.begin();
        self.tell(|| call.to_owned());
        let most = self.steps_max + ENDING_MAX;
        assert!(self.steps < most, "the worker ends when it is told to");
        if self.end.is_some() {
            return;
        }
        self.pass_time();
        for _ in 0..self.choices.below(4) {
            if self.fates.waiting() < WAITING_MAX {
                self.arrive();
            }
        }
        if self.is_ready {
            self.order();
        }
    }

    /// All that the worker has counted of each socket, of which `stats` has not been handed over.
    pub fn counters(&mut self, stats: &Stats) -> Vec<Counters> {
        self.control.counters.collect(&mut self.collected);
        let mut counters = self.collected.sockets().to_vec();
        (counters.iter_mut().zip(stats.sockets())).for_each(|(sum, more)| sum.add(more));
        counters
    }

    fn pass_time(&mut self) {
        let ms = match self.choices.below(200) {
            0..150 => 0,
            150..199 => self.choices.below(100),
            _ => {
                self.has_done("let everything be forgotten");
                11_000
            }
        };
        if ms > 0 {
            let passed = Duration::from_millis(ms as u64);
            self.time += passed;
            clock::pass(passed);
            self.tell(|| format!("  {ms} ms pass"));
        }
    }

    /// Gives an order now and then, the last of which ends the worker.
    fn order(&mut self) {
        if self.steps >= self.steps_max || self.choices.is_over() {
            for _ in 0..self.choices.below(9) {
                self.arrive();
            }
            let end = match self.choices.chance(100) {
                true => Command::Leave,
                false => Command::Drain,
            };
            self.end = Some(end);
            self.tell(|| format!("  order: {end:?}"));
            return self.control.command(end);
        }
        match self.choices.below(200) {
            190..196 => {
                self.ordered = Lists::some(&mut self.choices);
                let lists = self.ordered.clone();
                self.tell(|| format!("  order: {lists:?}"));
                self.has_done("changed the lists");
                self.control.set_guard(lists.guard());
            }
            196 => {
                self.tell(|| "  order: hand over the counters".to_owned());
                self.has_done("asked for counters");
                self.control.request_counters();
            }
            197 => {
                let net = self.choices.one_of(&["10.0.0.0/30", "10.0.0.0/8"]);
                let mtus = RouteMtus::new([(net.parse().expect("a prefix"), 50)]);
                let mut routes = self.routes.clone();
                routes.mtus = match self.choices.below(2) {
                    0 => RouteMtus::default(),
                    _ => mtus,
                };
                self.tell(|| format!("  order: {:?}", routes.mtus));
                self.has_done("changed the routes");
                self.control.set_routes(routes);
            }
            198 => self.control.ask_for_life(),
            199 if self.choices.chance(200) => {
                self.tell(|| "  order: go on without the ring".to_owned());
                self.has_done("took the ring away");
                self.control.command(Command::RunWithoutRing);
            }
            _ => {}
        }
    }

    /// Lets a datagram or a train arrive.
    fn arrive(&mut self) {
        let choices = &mut self.choices;
        let socket = choices.below(SOCKETS);
        let peer = match socket {
            2 => choices.one_of(&PEERS_V6),
            _ => choices.one_of(&PEERS_V4),
        };
        let peer: SocketAddr = peer.parse().expect("an address");
        let local = choices.one_of(&match socket {
            0 => ["192.0.2.1", "192.0.2.2"],
            1 => ["127.0.0.1"; 2],
            _ => ["2001:db8::1", "2001:db8::2"],
        });
        let local: IpAddr = local.parse().expect("an address");
        let oddity = match choices.below(40) {
            37 if WILDCARDS[socket] => Some(DropReason::NoPktinfo),
            38 if WILDCARDS[socket] => Some(DropReason::NotUnicast),
            39 => Some(DropReason::Truncated),
            _ => None,
        };
        let hops = choices.one_of(&[None, Some(64), Some(2), Some(1), Some(0)]);
        let segment_len = ID_LEN + choices.below(36);
        let count = match choices.below(2) {
            0 => 1,
            _ => 2 + choices.below(18),
        };
        let is_empty = count == 1 && choices.chance(100);
        let last_len = match (is_empty, count) {
            (true, _) => 0,
            (false, 1) => segment_len,
            _ => ID_LEN + choices.below(segment_len - ID_LEN + 1),
        };
        let mut ids = Vec::new();
        let mut payload = Vec::new();
        for segment in 1..=count {
            let len = if segment == count {
                last_len
            } else {
                segment_len
            };
            let id = self.fates.add(Datagram {
                peer,
                local,
                socket,
                len,
                hops,
                unanswerable: oddity,
                fate: Fate::Queued,
                reply: Reply::default(),
            });
            payload.extend(replies::request(id, len));
            ids.push(id);
        }
        let mut control = Vec::new();
        if count > 1 {
            let len = segment_len as i32;
            push(
                &mut control,
                libc::SOL_UDP,
                libc::UDP_GRO,
                &len.to_ne_bytes(),
            );
        }
        if WILDCARDS[socket] && oddity != Some(DropReason::NoPktinfo) {
            push_pktinfo(&mut control, local, oddity == Some(DropReason::NotUnicast));
        }
        if let Some(hops) = hops {
            let (level, kind) = match local {
                IpAddr::V4(_) => (libc::SOL_IP, libc::IP_TTL),
                IpAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_HOPLIMIT),
            };
            push(&mut control, level, kind, &i32::from(hops).to_ne_bytes());
        }
        let flags = match oddity {
            Some(DropReason::Truncated) => libc::MSG_TRUNC,
            _ => 0,
        };
        self.tell(|| {
            let (first, last) = (ids[0], ids[count - 1]);
            format!(
                "  arrives at socket {socket}: {first}..={last} of {peer} to {local}, {} bytes{}",
                payload.len(),
                oddity.map_or(String::new(), |it| format!(", {}", it.name()))
            )
        });
        self.queues[socket].push_back(Inbound {
            ids,
            peer,
            payload,
            control,
            flags,
        });
    }

    /// Whether a receive from `socket` lacks memory; too rarely for the worker to give it up.
    pub fn is_without_memory(&mut self, socket: usize) -> bool {
        let is_rare = self.time - self.failed_at[socket] > Duration::from_millis(200);
        // A drain is short, and has to live through it as well.
        let per_mille = if self.end.is_some() { 150 } else { 10 };
        let fails = self.is_ready && self.choices.chance(per_mille) && is_rare;
        if fails {
            self.failed_at[socket] = self.time;
            self.memory_failures += 1;
            self.has_done("failed a receive");
            self.tell(|| format!("  a receive from socket {socket} fails: ENOMEM"));
            // Or it would wait for the real time.
            self.control.wake().wake();
        }
        fails
    }

    /// The kernel fills the buffer at `address` with what is next in the queue of `socket`.
    pub fn fill(&mut self, socket: usize, address: usize) -> Inbound {
        self.assert_is_free(address);
        let inbound = self.queues[socket].pop_front().expect("it is not empty");
        self.held.insert(address, inbound.ids.clone());
        self.tell(|| format!("  receives {:?}", inbound.ids));
        inbound
    }

    /// Nothing in the buffer at `address` is still to be answered.
    pub fn assert_is_free(&self, address: usize) {
        for &id in self.held.get(&address).into_iter().flatten() {
            let fate = self.fates.get(id).fate;
            assert!(
                !fate.is_open(),
                "the kernel gets the buffer of datagram {id}, which is {fate:?}"
            );
        }
    }

    /// The buffer at `address` is looked at.
    pub fn take(&mut self, address: usize) {
        for id in self.held[&address].clone() {
            self.fates.take(id);
        }
    }
}

/// Appends a control message.
fn push(control: &mut Vec<u8>, level: i32, kind: i32, value: &[u8]) {
    control.resize(control.len().next_multiple_of(8), 0);
    control.extend((16 + value.len()).to_ne_bytes());
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(value);
}

/// Appends where a datagram was sent to: `local`, or all those of its network.
fn push_pktinfo(control: &mut Vec<u8>, local: IpAddr, is_to_others: bool) {
    let interface = 3_u32.to_ne_bytes();
    match local {
        IpAddr::V4(specific) => {
            let others = [192, 0, 2, 255];
            let destination = if is_to_others {
                others
            } else {
                specific.octets()
            };
            let value = [interface, specific.octets(), destination].concat();
            push(control, libc::SOL_IP, libc::IP_PKTINFO, &value);
        }
        IpAddr::V6(destination) => {
            let mut octets = destination.octets();
            if is_to_others {
                octets[0] = 0xff;
            }
            let value = [&octets[..], &interface].concat();
            push(control, libc::SOL_IPV6, libc::IPV6_PKTINFO, &value);
        }
    }
}
