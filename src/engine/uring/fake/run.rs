//! One life of a worker in the world, from its start to its drain.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::rc::Rc;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Once};
use std::time::Duration;

use super::calls::FakeCalls;
use super::choices::{Choices, Row};
use super::replies::Answering;
use super::ring::FakeRing;
use super::rules::Lists;
use super::sends::Neighbours;
use super::watched::{Mistake, Watched};
use super::world::{BUFFERS, Exit, SOCKETS, WILDCARDS, World};
use crate::clock;
use crate::egress::{self, Detours, LANES, Routes};
use crate::engine::look::Look;
use crate::engine::mmsg::Mmsg;
use crate::engine::settings::{Kind, Resources, Settings, Waiting};
use crate::engine::uring::{Uring, buffers};
use crate::engine::{Engine, Moves};
use crate::guard::Limit;
use crate::guard::limiter::Limiter;
use crate::mode::Mode;
use crate::socket::{self, Socket, SocketPair};
use crate::stats::Stats;
use crate::stats::counters::Counters;
use crate::worker::Worker;
use crate::worker::control::{Command, Control, Reports};
use reflector_udp::wake::Wake;

/// A worker that is about to live, and its world.
pub struct Life {
    pub worker: Worker<Answering>,
    pub engine: Watched,
    pub world: Rc<RefCell<World>>,
}

impl Life {
    /// Whatever `choices` make of it, told to drain after so many steps.
    pub fn new(mut choices: Choices, steps_max: usize, mistake: Option<Mistake>) -> Self {
        let is_mmsg = choices.below(2) == 1;
        let settings = Settings {
            kind: if is_mmsg { Kind::Mmsg } else { Kind::Uring },
            may_fall_back: false,
            buffers: BUFFERS,
            waiting: choices.one_of(&[
                Waiting::Block,
                Waiting::Adaptive,
                Waiting::Adaptive,
                Waiting::Spin,
            ]),
            restricted: false,
            busy_receive: !choices.chance(150),
            egress: egress::Settings {
                gso: !choices.chance(150),
                segments_max: choices.one_of(&[128, 128, 5]),
                latency: false,
                wire: false,
            },
        };
        let has_learnt = choices.chance(500);
        let coalesce = choices.one_of(&[0, 0, 0, 1]);
        let limit = choices.one_of(&[None, None, Some(false), Some(true)]);
        let limit = limit.map(|is_dry_run| Limit {
            burst: 20,
            lens_v4: vec![32],
            lens_v6: vec![128],
            is_dry_run,
            ..Limit::new(50)
        });
        let lists = Lists::some(&mut choices);
        let mut modes = Mode::ALL.iter().copied().map(Some).collect::<Vec<_>>();
        modes.push(None);
        let modes = [(); SOCKETS].map(|()| choices.one_of(&modes));
        let control = Arc::new(Control::open(SOCKETS).expect("an eventfd"));
        let world = World::new(choices, steps_max, Arc::clone(&control));
        let world = Rc::new(RefCell::new(world));
        let resources = resources(&mut world.borrow_mut(), control.wake());
        {
            let mut world = world.borrow_mut();
            world.is_odd = modes.map(|mode| mode.is_none());
            world.is_mmsg = is_mmsg;
            world.ordered = lists.clone();
        }
        let calls = FakeCalls(Rc::clone(&world));
        let look = match has_learnt {
            true => Look::looking(clock::monotonic()),
            false => Look::default(),
        };
        let engine = match settings.kind {
            Kind::Mmsg => {
                let engine = Mmsg::open_with(calls, &settings, resources.clone());
                let mut engine = engine.expect("memory");
                engine.look = look;
                Engine::Mmsg(engine)
            }
            Kind::Uring => {
                let leases = buffers::carve(BUFFERS).expect("memory");
                let ring = FakeRing::new(Rc::clone(&world), leases, settings.busy_receive);
                let mut engine = Uring::with(calls, ring, &settings, resources.clone());
                engine.look = look;
                Engine::Uring(engine)
            }
        };
        let (sender, receiver) = sync_channel(1);
        // Those who report do not wait for anybody who has gone.
        drop(receiver);
        let worker = Worker {
            index: 0,
            core: None,
            engine: settings,
            resources,
            confine: None,
            coalesce: Duration::from_nanos(coalesce),
            guard: lists.guard(),
            limiter: (limit.as_ref()).map(|it| Limiter::new(it, (1, 2), clock::monotonic())),
            responders: modes.map(Answering::new).into(),
            reports: Reports::new(sender, control.wake()),
            control,
        };
        let engine = Watched::new(engine, Rc::clone(&world), limit, mistake);
        Self {
            worker,
            engine,
            world,
        }
    }

    /// Lives, and leaves nothing unanswered.
    fn live(self) {
        let Self {
            worker,
            engine,
            world,
        } = self;
        let mut stats = Stats::new(SOCKETS);
        worker
            .reflect(engine, true, &mut stats)
            .expect("the worker goes on");
        let mut world = world.borrow_mut();
        let counters = world.counters(&stats);
        let waiting = world.fates.waiting();
        match world.end {
            Some(Command::Leave) => {}
            Some(Command::Drain) => assert_eq!(waiting, 0, "what is queued is answered"),
            end => panic!("the worker ends by itself: {end:?}"),
        }
        world.fates.check(&counters, true);
        let open: i64 = counters.iter().map(Counters::open).sum();
        let in_flight = world.collected.in_flight + stats.in_flight;
        assert_eq!(open, in_flight, "what is handed over adds up");
    }
}

/// The worker's sockets, real ones by which nothing is ever sent, and the others', which the world
/// knows by their descriptors.
fn resources(world: &mut World, wake: Arc<Wake>) -> Resources {
    let settings = socket::Settings::default();
    let addresses = ["0.0.0.0:0", "127.0.0.1:0", "[::]:0"];
    let open = |(index, address): (usize, &&str)| {
        let address: SocketAddr = address.parse().expect("an address");
        let receiver = Socket::open(address, true, &settings).expect("a socket");
        assert_eq!(receiver.endpoint().has_pktinfo, WILDCARDS[index]);
        SocketPair {
            receiver,
            sender: None,
        }
    };
    let sockets: Arc<[SocketPair]> = addresses.iter().enumerate().map(open).collect();
    for (index, pair) in sockets.iter().enumerate() {
        let fd = std::os::fd::AsFd::as_fd(&pair.receiver).as_raw_fd();
        world.exits.insert(fd, Exit::Own(index));
    }
    let mut other = |exit: Exit| {
        let fd: OwnedFd = File::open("/dev/null").expect("a descriptor").into();
        world.exits.insert(fd.as_raw_fd(), exit);
        fd
    };
    let detours = (0..SOCKETS).map(|socket| {
        let mut lanes = || (0..LANES).map(|_| other(Exit::Detour(socket))).collect();
        [lanes(), lanes()]
    });
    let detours = Arc::new(Detours::new(detours.collect(), Some(Box::new(Neighbours))));
    let fragmenters = (0..2).map(|socket| Some(Arc::new(other(Exit::Fragmenter(socket)))));
    world.routes = Routes {
        fragmenters: fragmenters.collect(),
        ..Routes::default()
    };
    Resources {
        sockets,
        detours,
        wake,
    }
}

/// How a life ended that should not have.
pub struct Failure {
    pub what: String,
    pub steps: usize,
    /// What was chosen until then.
    pub row: Row,
    pub story: Vec<String>,
}

/// What a life was like.
pub struct Lived {
    pub steps: usize,
    pub coverage: std::collections::BTreeMap<&'static str, usize>,
}

/// Lives once.
pub fn live(
    choices: Choices,
    steps_max: usize,
    mistake: Option<Mistake>,
    is_told: bool,
) -> Result<Lived, Box<Failure>> {
    let life = Life::new(choices, steps_max, mistake);
    let world = Rc::clone(&life.world);
    world.borrow_mut().story = is_told.then(Vec::new);
    let outcome = quietly(|| life.live());
    let mut world = world.borrow_mut();
    let steps = world.steps;
    match outcome {
        Ok(()) => Ok(Lived {
            steps,
            coverage: std::mem::take(&mut world.coverage),
        }),
        Err(what) => {
            let choices = std::mem::replace(&mut world.choices, Choices::again(Vec::new()));
            Err(Box::new(Failure {
                what,
                steps,
                row: choices.into_row(),
                story: world.story.take().unwrap_or_default(),
            }))
        }
    }
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Where it was that a quiet thread has panicked.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; says what it panicked with, which is printed nowhere else.
fn quietly(body: impl FnOnce()) -> Result<(), String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                return before(info);
            }
            let place = info.location().map(ToString::to_string);
            PLACE.set(place.unwrap_or_default());
        }));
    });
    IS_QUIET.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(body));
    IS_QUIET.set(false);
    outcome.map_err(|what| {
        let text = what.downcast_ref::<String>().cloned();
        text.or_else(|| what.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default()
            + &format!("\n({})", PLACE.take())
    })
}

/// An engine whose every receive ends with `errno`, armed.
pub fn arm_broken(choices: Choices, errno: Option<i32>) -> (io::Result<()>, Life, Stats) {
    let mut life = Life::new(choices, 100, None);
    let mut stats = Stats::new(SOCKETS);
    life.world.borrow_mut().broken = errno;
    let armed = life.engine.arm(&[], &mut stats);
    (armed, life, stats)
}
