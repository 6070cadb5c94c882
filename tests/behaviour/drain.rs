//! The end: what was received is answered, and nothing else.

use std::net::UdpSocket;
use std::time::Duration;

use reflector::responder::echo::Echo;
use reflector_netlab::topology::DockerHost;
use reflector_testkit::in_process::{InProcess, answer_queued, config, on, on_port, open_socket};
use reflector_testkit::queue::{Delivered, stop};
use reflector_testkit::random::Random;
use reflector_testkit::train::Client;
use reflector_testkit::{PORT, at, on_both_engines};
use rustix::process::Signal;

use super::{EVERYBODY, shout, start};

on_both_engines! {
    fn sigterm_answers_all_that_was_received_and_frees_the_port(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--cores", "2", "--buffers", "16"]);
        let mut clients: Vec<_> = [&picture.container, &picture.container, &picture.outside]
            .into_iter()
            .map(|namespace| Client::any(namespace, at(DockerHost::HOST)))
            .collect();
        let mut random = Random::new(4);
        let mut sent = vec![Vec::new(); clients.len()];
        stop(&reflector);
        let delivered = Delivered::count(&picture.host);
        for _ in 0..100 {
            for (client, sent) in clients.iter().zip(&mut sent) {
                let len = random.one_of(&[0, 64, 64, 300]);
                sent.push(random.bytes(len));
                client.send(sent.last().unwrap());
            }
        }
        delivered.wait_for(300);
        reflector.signal(Signal::TERM);
        reflector.signal(Signal::CONT);
        let (summary, log, status) = reflector.wait();
        // At once: no ring holds the socket any more.
        picture.host.run(|| UdpSocket::bind(("0.0.0.0", PORT)).map(drop)).unwrap();
        assert!(status.success(), "{status}: {log}");
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["replied"], 300);
        for (client, sent) in clients.iter_mut().zip(&sent) {
            client.expect_back(sent);
            assert!(client.leftover().is_empty());
        }
    }

    /// A worker that waits for more does not wait on when it is told to drain.
    fn datagrams_in_hand_are_answered_at_once(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let builder = on_port(engine, PORT).coalesce(Duration::from_secs(10));
        let server = InProcess::start(&picture.host, builder, || Echo);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        client.send(b"in hand");
        delivered.wait_for(1);
        let summary = server.stop();
        assert_eq!(summary["replied"], 1);
        client.expect_back(&[b"in hand".to_vec()]);
    }

    fn what_comes_after_the_drain_has_begun_is_not_received(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let config = config(engine);
        let socket = open_socket(&picture.host, &config, "0.0.0.0:5151");
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        (0..10).for_each(|_| client.send(b"before"));
        delivered.wait_for(10);
        socket.reject_new().unwrap();
        (0..10).for_each(|_| client.send(b"after"));
        delivered.wait_for(20);
        let stats = answer_queued(&config, socket);
        assert_eq!((stats.counters().received, stats.counters().replied), (10, 10));
        client.expect_back(&[b"before"; 10].map(|it| it.to_vec()));
        assert!(client.leftover().is_empty());
    }

    /// Buffers full of what cannot be answered are not the end of the queue.
    fn the_drain_looks_behind_datagrams_that_get_no_answer(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let config = on(engine).buffers(4).build().unwrap();
        let socket = open_socket(&picture.host, &config, "0.0.0.0:5151");
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let delivered = Delivered::count(&picture.host);
        let shouted: u64 = (0..10).map(|_| shout(&picture, &EVERYBODY[..3])).sum();
        (0..10).for_each(|_| client.send(b"ping"));
        delivered.wait_for(shouted + 10);
        let stats = answer_queued(&config, socket);
        assert_eq!(stats.counters().received, shouted + 10);
        assert_eq!(stats.counters().replied, 10);
        client.expect_back(&[b"ping"; 10].map(|it| it.to_vec()));
    }
}
