//! One server goes on with the sockets of another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use reflector::Verdict;
use reflector::responder::echo::Echo;
use reflector::responder::{Needs, Request, Responder};
use reflector::server::{Inherited, SocketRole};
use reflector_netlab::topology::DockerHost;
use reflector_testkit::in_process::{InProcess, on_port};
use reflector_testkit::queue::Delivered;
use reflector_testkit::train::Client;
use reflector_testkit::{PATIENCE, PORT, at, on_both_engines};
use serde_json::Value;

fn replied(summary: &Value) -> u64 {
    summary["replied"].as_u64().expect("a count")
}

fn handed_out(server: &InProcess) -> Vec<Inherited> {
    let sockets = server.handle().hand_out().recv_timeout(PATIENCE);
    sockets.expect("it runs").expect("descriptors are there")
}

fn receivers(sockets: &[Inherited]) -> usize {
    let is_receiver = |it: &&Inherited| matches!(it.label.role, SocketRole::Receiver { .. });
    sockets.iter().filter(is_receiver).count()
}

/// Answers the first datagram when it is let go, the others at once.
struct Held {
    is_first: Arc<AtomicBool>,
    gate: Arc<Barrier>,
}

impl Responder for Held {
    fn needs(&self) -> Needs {
        Needs::NONE
    }

    fn respond(&mut self, _: &Request, datagram: &mut [u8]) -> Verdict {
        if self.is_first.swap(false, Ordering::Relaxed) {
            self.gate.wait();
            self.gate.wait();
        }
        Verdict::Reply {
            len: datagram.len(),
        }
    }
}

on_both_engines! {
    /// The old one stands still with one datagram in its hands, and others queued.
    fn each_datagram_is_answered_once_by_one_of_the_two(engine: Engine) {
        const QUEUED: u64 = 50;
        let picture = DockerHost::new().unwrap();
        let (is_first, gate) = (Arc::new(AtomicBool::new(true)), Arc::new(Barrier::new(2)));
        let held = {
            let gate = Arc::clone(&gate);
            move || Held {
                is_first: Arc::clone(&is_first),
                gate: Arc::clone(&gate),
            }
        };
        let old = InProcess::start(&picture.host, on_port(engine, PORT).cores(1), held);
        let sockets = handed_out(&old);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        let payloads: Vec<_> = (0..=QUEUED).map(|it| it.to_be_bytes().to_vec()).collect();
        client.send(&payloads[0]);
        gate.wait();
        payloads[1..].iter().for_each(|it| client.send(it));
        delivered.wait_for(payloads.len() as u64);
        old.handle().leave_sockets();
        gate.wait();
        let by_old = replied(&old.summary());
        let builder = on_port(engine, PORT).cores(1);
        let next = InProcess::adopt(&picture.host, builder, sockets, || Echo);
        let mut answered = client.datagrams(payloads.len());
        answered.sort();
        assert_eq!(answered, payloads);
        assert!(client.leftover().is_empty());
        let by_next = replied(&next.stop());
        assert!(by_old >= 1, "what it had in its hands");
        assert_eq!(by_old + by_next, 1 + QUEUED);
    }

    fn fewer_workers_have_all_sockets_and_more_have_new_ones(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let mut running = InProcess::start(&picture.host, on_port(engine, PORT).cores(3), || Echo);
        // By both families: three sockets of each, however many workers there are, then five.
        for (workers, expected) in [(1, 6), (2, 6), (5, 10), (3, 10)] {
            let sockets = handed_out(&running);
            let builder = on_port(engine, PORT).cores(workers);
            let next = InProcess::adopt(&picture.host, builder, sockets, || Echo);
            running.handle().leave_sockets();
            running.summary();
            running = next;
            let again = handed_out(&running);
            assert_eq!(receivers(&again), expected, "{workers} workers");
            drop(again);
            running.handle().take_back();
            // So many flows that each socket has some, but for a chance of 10 × 0.9⁶⁴.
            for host in [at(DockerHost::HOST), at(DockerHost::HOST_V6)] {
                for _ in 0..64 {
                    let mut client = Client::any(&picture.container, host);
                    client.send(b"to whom?");
                    client.expect_back(&[b"to whom?".to_vec()]);
                }
            }
        }
        // Nobody else has them now, so they are shut, and the queue is answered.
        assert_eq!(running.stop()["replied"], 128);
    }
}
