//! Responders of others: what they are told, what they say, and those that err.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reflector::responder::{Needs, Request, Responder};
use reflector::{Attributes, DropReason, Verdict};
use reflector_netlab::topology::DockerHost;
use reflector_testkit::in_process::{InProcess, on_port};
use reflector_testkit::queue::Delivered;
use reflector_testkit::random::Random;
use reflector_testkit::train::{Client, Message};
use reflector_testkit::{ASKED, PORT, at, on_both_engines, wait_until};

use super::dropped;

on_both_engines! {
    fn a_reply_longer_than_its_request_is_not_sent(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let server = InProcess::start(&picture.host, on_port(engine, PORT), || Boastful);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let datagrams: Vec<_> = [&b"long"[..], b"ok", b"", b"long"].map(<[u8]>::to_vec).into();
        let delivered = Delivered::count(&picture.host);
        datagrams.iter().for_each(|datagram| client.send(datagram));
        client.send_train(b"longlongok", 4);
        delivered.wait_for(5);
        client.expect_back(&[b"ok", b"ok"].map(|it| it.to_vec()));
        let summary = server.stop();
        assert_eq!(dropped(&summary, "reply_too_long"), 5, "{summary}");
        assert_eq!(summary["replied"], 2);
        assert!(client.leftover().is_empty());
    }

    /// Reports go on, and the end comes when it is due, with the reason.
    fn nobody_waits_for_a_worker_that_is_stuck(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(1).interval(Some(Duration::from_millis(5)));
        let builder = builder.drain_timeout(Duration::from_millis(50));
        let (release, is_released) = channel::<()>();
        let gate = Arc::new(Mutex::new(is_released));
        let stuck = move || Stuck(Arc::clone(&gate));
        let server = InProcess::start(&picture.host, builder, stuck);
        let client = Client::any(&picture.container, at(DockerHost::HOST));
        client.send(b"hold");
        let before = server.intervals();
        wait_until("another report has come", || server.intervals() > before);
        server.handle().stop();
        let error = server.end().unwrap_err().to_string();
        assert_eq!(error, "the drain was cut short after 50ms: worker 0 has not ended");
        drop(release);
    }

    fn a_responder_that_panics_ends_the_server_with_an_error(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).cores(2);
        let server = InProcess::start(&picture.host, builder, || Panicking);
        let client = Client::any(&picture.container, at(DockerHost::HOST));
        client.send(b"boo");
        let error = server.end().unwrap_err().to_string();
        assert!(error.contains("died: it panicked"), "{error}");
    }

    fn each_datagram_of_a_train_gets_the_verdict_of_the_responder(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let server = InProcess::start(&picture.host, on_port(engine, PORT), || Picky);
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            let mut bytes = Random::new(11).bytes(64 * 30);
            (0..30).for_each(|index| bytes[64 * index] = index as u8);
            let mut expected = vec![Message::new(Vec::new(), 64)];
            for datagram in client.send_train(&bytes, 64) {
                let mut reply = datagram;
                let Verdict::Reply { len } = Picky::decide(&mut reply) else { continue };
                let last = expected.last_mut().expect("there is always one");
                last.bytes.extend(&reply[..len]);
                // A shorter datagram ends a train, and the next one opens another.
                if len < 64 {
                    expected.push(Message::new(Vec::new(), 64));
                }
            }
            for message in expected {
                assert_eq!(client.receive(), message);
            }
        }
        let summary = server.stop();
        assert_eq!(summary["dropped"]["malformed"], 2 * 10, "{summary}");
        assert_eq!(summary["replied"], 2 * 20);
        assert_eq!(summary["trains_received"], 2);
    }

    /// Datagrams that differ in their type of service are told apart, and so are their replies.
    fn a_responder_is_told_what_it_needs_and_says_how_its_replies_leave(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let server = InProcess::start(&picture.host, on_port(engine, PORT), || Telling);
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            client.watch_hop_limits();
            client.watch_tos();
            client.set_hop_limit(77);
            // Neither ECN nor class selector: nothing on the way changes it.
            for (tos, count) in [(0xb8, 3), (0x28, 1), (0xb8, 2)] {
                client.set_tos(tos);
                client.send_train(&vec![0; 64 * count], 64);
                let message = client.receive();
                assert_eq!(message.segment_len, 64);
                assert_eq!((message.tos, message.hop_limit), (Some(tos), Some(99)));
                let told: Vec<_> = (0..count as u8)
                    .map(|index| [77, tos, index, count as u8, 1, 1])
                    .collect();
                let seen = message.bytes.chunks(64).map(|it| it[..6].to_vec());
                assert_eq!(seen.collect::<Vec<_>>(), told);
            }
        }
        server.stop();
    }
}

/// Waits, as a responder must not, until the other end of its channel has gone.
struct Stuck(Arc<Mutex<Receiver<()>>>);

impl Responder for Stuck {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        let gate = self.0.lock().expect("nobody panics");
        gate.recv().expect_err("nothing is sent");
        Verdict::Reply { len: payload.len() }
    }
}

/// Claims that every reply but "ok" is longer than its request.
struct Boastful;

impl Responder for Boastful {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        let boast = usize::from(payload != b"ok");
        Verdict::Reply {
            len: payload.len() + boast,
        }
    }
}

/// Cannot bear any datagram.
struct Panicking;

impl Responder for Panicking {
    fn respond(&mut self, _request: &Request, _payload: &mut [u8]) -> Verdict {
        panic!("a bug in a responder")
    }
}

/// Writes what it was told into the replies, which leave as the requests came, with 99 hops.
struct Telling;

impl Responder for Telling {
    fn needs(&self) -> Needs {
        Needs::NONE
            .with_receive_stamps()
            .with_hop_limit()
            .with_tos()
    }

    fn attributes(&mut self, request: &Request) -> Attributes {
        Attributes::NONE
            .with_hop_limit(99)
            .with_tos(request.tos.expect("asked for"))
    }

    fn respond(&mut self, request: &Request, payload: &mut [u8]) -> Verdict {
        let is_asked = ASKED.contains(&request.local.ip()) && request.local.port() == PORT;
        let told = [
            request.hop_limit.unwrap_or(0),
            request.tos.unwrap_or(0),
            request.index as u8,
            request.count as u8,
            u8::from(request.received_ns.is_some()),
            u8::from(is_asked),
        ];
        payload[..told.len()].copy_from_slice(&told);
        Verdict::Reply { len: payload.len() }
    }
}

/// Drops every third datagram, shortens every fifth, and edits what it answers. The first byte
/// says which one it is.
struct Picky;

impl Picky {
    fn decide(payload: &mut [u8]) -> Verdict {
        let number = payload[0];
        if number % 3 == 2 {
            return Verdict::Drop(DropReason::Malformed);
        }
        payload[1] = !payload[1];
        let len = if number % 5 == 4 {
            payload.len() / 2
        } else {
            payload.len()
        };
        Verdict::Reply { len }
    }
}

impl Responder for Picky {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        Self::decide(payload)
    }
}
