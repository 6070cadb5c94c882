//! What `--metrics` answers: figures for Prometheus, whether the reflector is alive, and whether
//! peers may be sent to it.

mod figures;

use std::net::TcpListener;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics;
use reflector::Rules;
use reflector::report::{Ready, Report, Snapshot};
use reflector::server::Handle;
use reflector_measure::error::Error;
use reflector_metrics::http::Response;
use reflector_metrics::page::Page;

use super::accelerate::InKernel;

/// How long the server may take to say how it goes: it waits a quarter of a second for its workers.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known besides the counters.
#[derive(Default)]
struct State {
    ready: Option<Ready>,
    is_stopping: bool,
    ready_unix_seconds: f64,
    /// The newest, for when there is none any more.
    last: Option<Arc<Snapshot>>,
    lists: Lists,
}

/// The lists that are gone by, and how often they have been read again.
#[derive(Clone, Copy, Default)]
struct Lists {
    allow: usize,
    deny: usize,
    deny_ports: usize,
    /// When they were read, the last time that it succeeded.
    read_unix_seconds: f64,
    succeeded: u64,
    failed: u64,
}

impl Lists {
    /// `rules` have just been read.
    fn set(&mut self, rules: &Rules) {
        self.allow = rules.allow.len();
        self.deny = rules.deny.len();
        self.deny_ports = rules.deny_ports.len();
        self.read_unix_seconds = now_unix_seconds();
    }
}

fn now_unix_seconds() -> f64 {
    reflector_measure::clock::realtime_ns() as f64 / 1e9
}

/// What the endpoint is told while the server runs.
#[derive(Clone)]
pub struct Metrics {
    state: Arc<Mutex<State>>,
    in_kernel: Option<Arc<InKernel>>,
}

impl Metrics {
    /// Of a server that goes by `rules`, which have just been read, and is not ready; beside it
    /// there may be who answers `in_kernel`.
    pub fn new(rules: &Rules, in_kernel: Option<Arc<InKernel>>) -> Self {
        let mut state = State::default();
        state.lists.set(rules);
        Self {
            state: Arc::new(Mutex::new(state)),
            in_kernel,
        }
    }

    /// Answers at `listener`, on threads of its own, by what `server` says.
    ///
    /// # Errors
    /// EAGAIN where there may be no more threads.
    pub fn serve(&self, listener: TcpListener, server: Handle) -> Result<(), Error> {
        let state = self.clone();
        let answer = move |path: &str, accepted: &str| state.answer(path, accepted, &server);
        metrics::serve(listener, answer)
    }

    /// Takes note of what the server reports.
    pub fn report(&self, report: Report<'_>) {
        match report {
            Report::Ready(ready) => {
                let mut state = self.state();
                state.ready = Some(ready.clone());
                state.ready_unix_seconds = now_unix_seconds();
            }
            Report::Stopping => self.state().is_stopping = true,
            _ => {}
        }
    }

    /// Takes note of lists that were read again, or could not be.
    pub fn read_again(&self, rules: Option<&Rules>) {
        let lists = &mut self.state().lists;
        match rules {
            Some(rules) => {
                lists.succeeded += 1;
                lists.set(rules);
            }
            None => lists.failed += 1,
        }
    }

    fn answer(&self, path: &str, accepted: &str, server: &Handle) -> Response {
        match path {
            "/metrics" => {
                let snapshot = self.snapshot(server);
                self.page(snapshot.as_deref())
                    .response("reflector", accepted)
            }
            "/livez" => self.is_alive(server),
            "/readyz" => self.is_ready(),
            _ => Response::line(404, "there are /metrics, /livez and /readyz"),
        }
    }

    fn is_alive(&self, server: &Handle) -> Response {
        let state = self.state();
        if state.ready.is_none() || state.is_stopping {
            return Response::line(200, "starting or ending");
        }
        drop(state);
        match server.snapshot().recv_timeout(PATIENCE) {
            Ok(snapshot) if snapshot.is_complete => Response::line(200, "alive"),
            Ok(_) => Response::line(503, "a worker gives no sign of life"),
            Err(_) => Response::line(503, "the server gives no sign of life"),
        }
    }

    fn is_ready(&self) -> Response {
        let state = self.state();
        match (&state.ready, state.is_stopping) {
            (None, _) => Response::line(503, "starting"),
            (_, true) => Response::line(503, "ending"),
            _ => Response::line(200, "ready"),
        }
    }

    /// How it goes now; or how it went when there was an answer last.
    fn snapshot(&self, server: &Handle) -> Option<Arc<Snapshot>> {
        match server.snapshot().recv_timeout(PATIENCE) {
            Ok(snapshot) => {
                let snapshot = Some(Arc::new(snapshot));
                self.state().last.clone_from(&snapshot);
                snapshot
            }
            Err(_) => self.state().last.clone(),
        }
    }

    fn page(&self, snapshot: Option<&Snapshot>) -> Page {
        let state = self.state();
        let mut page = Page::default();
        metrics::build(&mut page);
        let is_ready = state.ready.is_some() && !state.is_stopping;
        page.gauge("ready", "1 while peers may be sent here, else 0")
            .push((vec![], f64::from(u8::from(is_ready))));
        let start = page.gauge("start_time_seconds", "When it was ready, in Unix time");
        // No sample before: a zero between two starts would look like a start more.
        if state.ready.is_some() {
            start.push((vec![], state.ready_unix_seconds));
        }
        let Lists {
            allow,
            deny,
            deny_ports,
            read_unix_seconds,
            succeeded,
            failed,
        } = state.lists;
        let list = |name: &str, len: usize| (vec![("list", name.to_owned())], len as f64);
        page.gauge("list_entries", "Prefixes and ports in the lists")
            .extend([
                list("allow", allow),
                list("deny", deny),
                list("deny_port", deny_ports),
            ]);
        page.gauge(
            "lists_read_time_seconds",
            "When the lists were read, the last time that it succeeded, in Unix time",
        )
        .push((vec![], read_unix_seconds));
        let result = |result: &str| vec![("result", result.to_owned())];
        page.counter("list_reloads", "Times that lists were read again at SIGHUP")
            .extend([(result("succeeded"), succeeded), (result("failed"), failed)]);
        if let Some(ready) = &state.ready {
            figures::describe(ready, &mut page);
        }
        if let Some(snapshot) = snapshot {
            figures::count(snapshot, &mut page);
        }
        if let Some(in_kernel) = &self.in_kernel {
            figures::count_accelerated(&in_kernel.total(), &mut page);
        }
        page
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
