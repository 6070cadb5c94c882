//! The server, or one worker of it, inside the test program: for responders of the tests' own,
//! and for sockets that a test has its hands on.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reflector::Error;
use reflector::config::{Builder, Config, EngineChoice};
use reflector::internals::engine::Resources;
use reflector::internals::guard::Guard;
use reflector::internals::socket::{Socket, SocketPair};
use reflector::internals::stats::Stats;
use reflector::internals::worker::Worker;
use reflector::internals::worker::control::{Command, Control, Reports};
use reflector::report::{Report, Summary};
use reflector::responder::Responder;
use reflector::responder::echo::Echo;
use reflector::server::{Handle, Inherited, Server};
use reflector_netlab::topology::Namespace;
use serde_json::Value;

use crate::server::assert_counts_add_up;
use crate::{Engine, PATIENCE};

/// Settings with `engine`.
pub fn on(engine: Engine) -> Builder {
    Config::builder().engine(match engine {
        Engine::Uring => EngineChoice::Uring,
        Engine::Mmsg => EngineChoice::Mmsg,
    })
}

/// Settings with `engine`, and a socket of each family on `port`.
pub fn on_port(engine: Engine, port: u16) -> Builder {
    on(engine)
        .listen((Ipv4Addr::UNSPECIFIED, port).into())
        .listen((Ipv6Addr::UNSPECIFIED, port).into())
}

/// The same without a socket.
pub fn config(engine: Engine) -> Config {
    on(engine).build().expect("settings that agree")
}

/// A server on threads of this process.
pub struct InProcess {
    /// The addresses that it listens on.
    pub listen: Vec<SocketAddr>,
    handle: Handle,
    thread: JoinHandle<Result<Summary, Error>>,
    intervals: Arc<AtomicU64>,
}

impl InProcess {
    /// Starts a server in `namespace` and waits until every worker is armed.
    pub fn start<R: Responder + Send + 'static>(
        namespace: &Namespace,
        builder: Builder,
        responder: impl Fn() -> R + Send + 'static,
    ) -> Self {
        Self::adopt(namespace, builder, Vec::new(), responder)
    }

    /// The same, with the sockets of another server.
    pub fn adopt<R: Responder + Send + 'static>(
        namespace: &Namespace,
        builder: Builder,
        inherited: Vec<Inherited>,
        responder: impl Fn() -> R + Send + 'static,
    ) -> Self {
        let config = builder.build().expect("settings that agree");
        let (ready, is_ready) = sync_channel(1);
        let intervals = Arc::new(AtomicU64::new(0));
        let seen = Arc::clone(&intervals);
        let (listen, handle, thread) = namespace.run(move || {
            let server = Server::adopt(config, inherited, |_| responder());
            let server = server.expect("the port is free");
            let (listen, handle) = (server.listen_addrs(), server.handle());
            let observe = move |report: Report<'_>| match report {
                Report::Ready(_) => ready.send(()).expect("the test waits"),
                Report::Interval(_) => _ = seen.fetch_add(1, Ordering::Relaxed),
                _ => {}
            };
            // Threads stay in the namespace of the thread that makes them.
            let thread = thread::spawn(move || server.run(observe));
            (listen, handle, thread)
        });
        is_ready.recv_timeout(PATIENCE).expect("it gets ready");
        Self {
            listen,
            handle,
            thread,
            intervals,
        }
    }

    /// Intervals that have been reported.
    pub fn intervals(&self) -> u64 {
        self.intervals.load(Ordering::Relaxed)
    }

    /// Controls the server.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Drains and ends it; returns the summary, whose counts must add up.
    pub fn stop(self) -> Value {
        self.handle.stop();
        self.summary()
    }

    /// Waits until it ends in order; returns the summary, whose counts must add up.
    pub fn summary(self) -> Value {
        let summary = self.end().expect("it ends as it was asked to");
        let summary = serde_json::to_value(&summary).expect("it is made to be serialised");
        assert_counts_add_up(&summary);
        summary
    }

    /// Waits until it ends by itself.
    pub fn end(self) -> Result<Summary, Error> {
        self.thread
            .join()
            .expect("the server's thread does not panic")
    }
}

/// A socket as a single worker of the server opens it, bound to `addr` in `namespace`.
pub fn open_socket(namespace: &Namespace, config: &Config, addr: &str) -> Socket {
    let addr = addr.parse().expect("an address and a port");
    namespace
        .run(|| Socket::open(addr, true, config.parts().0))
        .expect("the port is free")
}

/// Runs a worker on `socket` that is told to end before it starts: it answers what is queued.
pub fn answer_queued(config: &Config, socket: Socket) -> Stats {
    let control = Arc::new(Control::open(1).expect("an eventfd"));
    control.command(Command::Drain);
    let (sender, _heard) = sync_channel(16);
    let pair = SocketPair {
        receiver: socket,
        sender: None,
    };
    let (_, engine, rules) = config.parts();
    let worker = Worker {
        index: 0,
        core: None,
        engine: engine.clone(),
        resources: Resources {
            sockets: Arc::from([pair]),
            detours: Arc::default(),
            wake: control.wake(),
        },
        confine: None,
        coalesce: Duration::ZERO,
        guard: Guard::new(rules, []),
        limiter: None,
        responders: vec![Echo],
        reports: Reports::new(sender, control.wake()),
        control,
    };
    let mut stats = Stats::new(1);
    worker.run(&mut stats).expect("the engine works");
    stats
}
