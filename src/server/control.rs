//! What the server waits for: orders of whoever holds its handle, and reports of its workers. Two
//! channels, one place to wait at.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;

use super::inherited::Inherited;
use crate::engine::RouteMtus;
use crate::guard::Rules;
use crate::stats::snapshot::Snapshot;
use crate::worker::control::{Reports, WorkerReport};
use reflector_measure::clock;
use reflector_udp::wake::Wake;

/// Controls a running server. From any thread; it outlives the server.
#[derive(Clone, Debug)]
pub struct Handle {
    orders: Sender<Order>,
    wake: Arc<Wake>,
}

/// What a server is told.
#[derive(Debug)]
pub enum Order {
    /// Drain and end, after the delay if there is one; a second one is in no need of it.
    Stop,
    /// Answer by these rules from now on.
    SetRules(Rules),
    /// The routes have these MTUs.
    SetRouteMtus(RouteMtus),
    /// An interface is another one under its old name.
    Rebind(String),
    /// Say how it goes.
    Snapshot(SyncSender<Snapshot>),
    /// Hand out descriptors of all sockets, and shut none of them from now on.
    HandOut(SyncSender<io::Result<Vec<Inherited>>>),
    /// Nobody else has the sockets any more.
    TakeBack,
    /// Somebody else goes on with the sockets: answer what was received, and end.
    LeaveSockets,
}

impl Handle {
    /// Asks the server to answer what it has received, and to end. Asked a second time, it ends at
    /// once; where it still waits for [`drain_delay`](crate::config::Builder::drain_delay), it
    /// answers first.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Replaces the rules of who is answered, at each worker between two of its batches.
    pub fn set_rules(&self, rules: Rules) {
        self.order(Order::SetRules(rules));
    }

    /// Tells the MTUs in bytes of the IPv4 routes that have one of their own (`mtu`, ip-route(8)),
    /// instead of those that were told before: replies that are longer leave in fragments of that
    /// size.
    pub fn set_route_mtus(&self, routes: impl IntoIterator<Item = (Ipv4Net, u32)>) {
        self.order(Order::SetRouteMtus(RouteMtus::new(routes)));
    }

    /// Binds those sockets anew that are bound to `interface`, by its name: it has been deleted and
    /// made again, so that they would hear nothing any more. The others notice nothing. Where that
    /// is not permitted the server ends with an error.
    pub fn rebind(&self, interface: &str) {
        self.order(Order::Rebind(interface.to_owned()));
    }

    /// Asks the server how it is doing. The answer comes once its workers have handed over their
    /// counters, a quarter of a second later at most; none comes while the server starts or drains.
    pub fn snapshot(&self) -> Receiver<Snapshot> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.order(Order::Snapshot(sender));
        receiver
    }

    /// Asks for descriptors of all sockets, for another server to go on with
    /// ([`Server::adopt`](crate::server::Server::adopt)). Until they are [taken
    /// back](Self::take_back) this one, however it ends, leaves to the other what is queued and
    /// what is new. None come while the server starts or drains.
    pub fn hand_out(&self) -> Receiver<io::Result<Vec<Inherited>>> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.order(Order::HandOut(sender));
        receiver
    }

    /// Says that the other server is no more, and with it the descriptors that were handed out.
    pub fn take_back(&self) {
        self.order(Order::TakeBack);
    }

    /// Ends the server without a delay, when another one receives from its sockets: what it has
    /// received is answered, and what is queued is the other's.
    pub fn leave_sockets(&self) {
        self.order(Order::LeaveSockets);
    }

    pub(super) fn order(&self, order: Order) {
        // One that has ended needs no orders.
        let _ = self.orders.send(order);
        self.wake.wake();
    }
}

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// An order from outside.
    Order(Order),
    /// A worker has reported.
    Report(WorkerReport),
    /// A worker has published counters, or the wait was over early for no reason.
    Woken,
    /// The time has come.
    TimedOut,
}

/// The server's end of both channels.
#[derive(Debug)]
pub struct Mailbox {
    wake: Arc<Wake>,
    orders: (Sender<Order>, Receiver<Order>),
    reports: (SyncSender<WorkerReport>, Receiver<WorkerReport>),
}

impl Mailbox {
    /// Empty, with room for `reports_max` reports that have not been read.
    ///
    /// # Errors
    /// What eventfd(2) says: EMFILE, ENFILE, ENOMEM.
    pub fn open(reports_max: usize) -> io::Result<Self> {
        Ok(Self {
            wake: Arc::new(Wake::open()?),
            orders: mpsc::channel(),
            reports: mpsc::sync_channel(reports_max),
        })
    }

    /// The end of whoever controls the server.
    pub fn handle(&self) -> Handle {
        Handle {
            orders: self.orders.0.clone(),
            wake: Arc::clone(&self.wake),
        }
    }

    /// The workers' end.
    pub fn reports(&self) -> Reports {
        Reports::new(self.reports.0.clone(), Arc::clone(&self.wake))
    }

    /// The next event; orders come before reports. Waits until `until`, or for good.
    pub fn next(&self, until: Option<Instant>) -> Event {
        if let Some(event) = self.queued() {
            return event;
        }
        let timeout = until.map(|until| until.saturating_duration_since(clock::monotonic()));
        if timeout == Some(Duration::ZERO) {
            return Event::TimedOut;
        }
        let is_woken = self.wake.wait(timeout);
        // Cleared before the queues are looked at again: what is queued afterwards wakes anew.
        self.wake.clear();
        match self.queued() {
            Some(event) => event,
            None if is_woken => Event::Woken,
            None => Event::TimedOut,
        }
    }

    fn queued(&self) -> Option<Event> {
        let order = self.orders.1.try_recv().ok().map(Event::Order);
        order.or_else(|| self.reports.1.try_recv().ok().map(Event::Report))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn orders_come_before_reports_and_none_is_lost() {
        let mailbox = Mailbox::open(2).unwrap();
        let died = |worker| WorkerReport::Died {
            worker,
            reason: String::new(),
        };
        assert!(mailbox.reports().try_send(died(0)));
        assert!(mailbox.reports().try_send(died(1)));
        assert!(!mailbox.reports().try_send(died(2)), "there is no room");
        mailbox.handle().stop();
        let next = || mailbox.next(Some(clock::monotonic()));
        assert!(matches!(next(), Event::Order(Order::Stop)));
        for expected in 0..2 {
            let Event::Report(WorkerReport::Died { worker, .. }) = next() else {
                panic!("a report")
            };
            assert_eq!(worker, expected);
        }
        assert!(matches!(next(), Event::TimedOut));
    }

    #[test]
    fn a_sleeping_server_is_woken_from_another_thread() {
        let mailbox = Mailbox::open(1).unwrap();
        let handle = mailbox.handle();
        let reports = mailbox.reports();
        thread::scope(|scope| {
            scope.spawn(|| handle.stop());
            assert!(matches!(mailbox.next(None), Event::Order(Order::Stop)));
            scope.spawn(|| reports.published());
            while !matches!(mailbox.next(None), Event::Woken) {}
        });
    }
}
