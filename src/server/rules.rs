//! What workers go by: who is answered, and how much of it.

use std::io;
use std::sync::Arc;

use super::Server;
use crate::guard::limiter::Limiter;
use crate::guard::{Guard, Rules};
use crate::responder::Responder;
use crate::worker::control::Control;
use reflector_measure::clock;

impl<R: Responder + Send + 'static> Server<R> {
    pub(super) fn guard(&self, rules: &Rules) -> Guard {
        let listeners = self.sockets.listeners.iter();
        Guard::new(rules, listeners.map(|it| it.addr.port()))
    }

    pub(super) fn limiter(&self) -> io::Result<Option<Limiter>> {
        let limit = self.config.rate_limit.as_ref();
        let open = |limit| Limiter::open(limit, clock::monotonic());
        limit.map(open).transpose()
    }

    /// Hands each worker a guard that applies `rules`.
    pub(super) fn set_rules(&self, rules: &Rules, controls: &[Arc<Control>]) {
        if rules.loop_guard {
            self.sockets.tell_hop_limits();
        }
        let guard = self.guard(rules);
        controls.iter().for_each(|it| it.set_guard(guard.clone()));
    }
}
