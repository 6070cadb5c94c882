//! Nothing is allocated on the datagram path: the workers of a server in this process are watched
//! by the allocator while every kind of traffic goes through them.

#![deny(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reflector::responder::echo::Echo;
use reflector::responder::{Request, Responder};
use reflector::{DropReason, Verdict};
use reflector_netlab::topology::DockerHost;
use reflector_testkit::in_process::{InProcess, on_port};
use reflector_testkit::random::Random;
use reflector_testkit::train::Client;
use reflector_testkit::{Engine, on_both_engines};
use rustix::thread::gettid;
use serde_json::Value;

/// The system's allocator, which counts what the watched thread asks of it.
struct Counting;

/// The thread that is watched; 0 for none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    let watched = WATCHED.load(Ordering::Relaxed);
    if watched != 0 && gettid().as_raw_nonzero().get() == watched {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every method hands its arguments to the same method of the system's allocator and
// returns what that returns, so it keeps the contract as that does. `note` touches two atomics and
// makes a system call; it neither allocates nor unwinds.
#[expect(unsafe_code, reason = "only an allocator sees every allocation")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise about `layout` is the one that is asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, len: usize) -> *mut u8 {
        note();
        // SAFETY: `block` came from `System` through one of these methods, with this layout, as
        // the caller promises.
        unsafe { System.realloc(block, layout, len) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(block, layout) }
    }
}

const PORT: u16 = 5151;
/// Clients that make the worker go every way it has.
struct Traffic {
    clients: Vec<Client>,
    /// Its source port is one that gets no answer.
    refused: Client,
    broadcast: UdpSocket,
    random: Random,
}

impl Traffic {
    fn new(picture: &DockerHost) -> Self {
        // Trains of long datagrams to the container are refused for their MTU.
        picture.host.set_mtu("docker0", 1300).unwrap();
        let at = |ip: Ipv4Addr| SocketAddr::from((ip, PORT));
        let v6 = SocketAddr::from((DockerHost::HOST_V6, PORT));
        let broadcast = picture
            .container
            .run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        broadcast.set_broadcast(true).unwrap();
        broadcast.connect(("172.17.255.255", PORT)).unwrap();
        let port_of_chargen = (Ipv4Addr::UNSPECIFIED, 19);
        Self {
            clients: vec![
                Client::any(&picture.container, at(DockerHost::HOST)),
                Client::any(&picture.container, at(DockerHost::DOCKER0)),
                Client::any(&picture.container, v6),
                Client::any(&picture.outside, at(DockerHost::HOST)),
            ],
            refused: Client::connect(&picture.container, port_of_chargen, at(DockerHost::HOST)),
            broadcast,
            random: Random::new(1),
        }
    }

    /// Sends more than five hundred datagrams of all kinds, and waits for as many answers of each
    /// client as `count_replies` says to its datagrams.
    fn round(&mut self, count_replies: impl Fn(&[Vec<u8>]) -> usize) {
        let mut sent = vec![Vec::new(); self.clients.len()];
        for _ in 0..20 {
            for (client, sent) in self.clients.iter().zip(&mut sent) {
                let len = self.random.one_of(&[0, 1, 64, 64, 64, 1400]);
                sent.push(self.random.bytes(len));
                client.send(sent.last().expect("just pushed"));
            }
            self.refused.send(b"refused");
            self.broadcast.send(b"everybody").unwrap();
        }
        for (client, sent) in self.clients.iter().zip(&mut sent) {
            sent.extend(client.send_train(&self.random.bytes(64 * 100 - 1), 64));
            sent.extend(client.send_train(&self.random.bytes(1400 * 10), 1400));
            sent.push(self.random.bytes(40_000));
            client.send(sent.last().expect("just pushed"));
        }
        for (client, sent) in self.clients.iter_mut().zip(&sent) {
            client.datagrams(count_replies(sent));
        }
    }
}

/// One test at a time: there is one allocator, and it watches one thread.
static SERIAL: Mutex<()> = Mutex::new(());

/// What the worker of a server with `responder` allocates during thousands of datagrams, after a
/// first few, and the server's summary.
fn watch<R: Responder + Send + 'static>(
    engine: Engine,
    responder: impl Fn() -> R + Send + 'static,
    count_replies: impl Fn(&[Vec<u8>]) -> usize,
) -> (u64, Value) {
    let _serial = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let picture = DockerHost::new().unwrap();
    // One worker to watch. The reports are part of the path: the worker hands over its counts.
    let builder = on_port(engine, PORT)
        .cores(1)
        .interval(Some(Duration::from_millis(10)));
    let others = worker_threads();
    let server = InProcess::start(&picture.host, builder, responder);
    let ours: Vec<_> = worker_threads().difference(&others).copied().collect();
    let [worker] = ours[..] else {
        panic!("{ours:?} is not one worker")
    };
    let mut traffic = Traffic::new(&picture);
    traffic.round(&count_replies);
    ALLOCATIONS.store(0, Ordering::Relaxed);
    WATCHED.store(worker, Ordering::Relaxed);
    for _ in 0..10 {
        traffic.round(&count_replies);
    }
    WATCHED.store(0, Ordering::Relaxed);
    (ALLOCATIONS.load(Ordering::Relaxed), server.stop())
}

/// Thread ids of all workers in this process, by their name.
fn worker_threads() -> BTreeSet<i32> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let tasks = tasks.filter_map(|task| {
        let task = task.ok()?;
        // One that has just ended has no name any more.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        name.starts_with("worker-")
            .then(|| task.file_name().to_str()?.parse().ok())?
    });
    tasks.collect()
}

fn assert_everything_happened(summary: &Value) {
    for count in ["trains_received", "trains_sent", "trains_refused"] {
        assert!(summary[count].as_u64() > Some(0), "{count}: {summary}");
    }
    for reason in ["not_unicast", "source_port"] {
        assert!(
            summary["dropped"][reason].as_u64() > Some(0),
            "{reason}: {summary}"
        );
    }
    assert!(summary["received"].as_u64() > Some(5_000), "{summary}");
}

on_both_engines! {
    fn echo_allocates_nothing(engine: Engine) {
        let (allocations, summary) = watch(engine, || Echo, <[_]>::len);
        assert_everything_happened(&summary);
        assert_eq!(allocations, 0);
    }

    fn verdicts_on_each_datagram_allocate_nothing(engine: Engine) {
        let answered = |sent: &[Vec<u8>]| sent.iter().filter(|it| !is_odd(it)).count();
        let (allocations, summary) = watch(engine, || Even, answered);
        assert_everything_happened(&summary);
        assert!(summary["dropped"]["malformed"].as_u64() > Some(0), "{summary}");
        assert_eq!(allocations, 0);
    }

    /// The control: an allocation on the datagram path is seen.
    fn a_responder_that_allocates_is_caught(engine: Engine) {
        let (allocations, summary) = watch(engine, || Copying, <[_]>::len);
        assert!(allocations > 5_000, "{allocations}: {summary}");
    }
}

fn is_odd(payload: &[u8]) -> bool {
    payload.first().is_some_and(|byte| byte % 2 == 1)
}

/// Answers datagrams that begin with an even byte.
struct Even;

impl Responder for Even {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        if is_odd(payload) {
            Verdict::Drop(DropReason::Malformed)
        } else {
            Verdict::Reply { len: payload.len() }
        }
    }
}

/// Makes a copy, as a responder must not.
struct Copying;

impl Responder for Copying {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        let copy = std::hint::black_box([&[0], &payload[..]].concat());
        Verdict::Reply {
            len: copy.len() - 1,
        }
    }
}
