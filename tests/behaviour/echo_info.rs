//! `--echo-info`: who asks is told how it is seen, and nothing else changes.

use std::net::SocketAddr;

use reflector_measure::echo_info::{self, BLOCK_LEN, EchoInfo};
use reflector_netlab::topology::DockerHost;
use reflector_testkit::train::Client;
use reflector_testkit::{ASKED, Reflector, at, on_both_engines};

use super::start;

/// A question of `len` bytes.
fn question(len: usize, run: u64, sequence: u64) -> Vec<u8> {
    let mut bytes = vec![0x6a; len];
    echo_info::ask(&mut bytes, run, sequence);
    bytes
}

/// The only answer to come, to a question, which has not changed besides.
fn answered(client: &mut Client, asked: &[u8]) -> EchoInfo {
    client.send(asked);
    let [answer] = &client.datagrams(1)[..] else {
        panic!("one answer");
    };
    told(answer, asked)
}

fn told(answer: &[u8], asked: &[u8]) -> EchoInfo {
    assert!(echo_info::is_answer_to(answer, asked) && answer.len() == asked.len());
    echo_info::told(answer).expect("it is told")
}

on_both_engines! {
    fn who_asks_is_told_how_it_is_seen(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--echo-info", "--cores", "1"]);
        assert_eq!(reflector.ready["mode"], "echo-info");
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            client.set_hop_limit(9);
            let mut name = None;
            for (sequence, len) in [(0, BLOCK_LEN), (1, 1400), (4, 200)] {
                let info = answered(&mut client, &question(len, 7, sequence));
                assert_eq!((info.peer, info.local), (client.addr(), at(ip)));
                assert_eq!((info.run, info.sequence, info.hops), (7, sequence, Some(9)));
                assert!(!info.is_again && !info.is_late);
                // What the IPv4 socket counted before, the IPv6 socket does not know.
                assert_eq!(name.get_or_insert(info.count.name), &info.count.name);
                assert_eq!((info.count.first, info.count.count), (0, sequence.min(2) + 1));
            }
            let again = answered(&mut client, &question(100, 7, 4));
            let late = answered(&mut client, &question(100, 7, 3));
            assert!(again.is_again && again.count.count == 3);
            assert!(late.is_late && !late.is_again && late.count.count == 4);
        }
        reflector.stop();
    }

    /// In a train, each gets the verdict of its own.
    fn what_does_not_ask_goes_back_as_it_came(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let reflector = start(&picture.host, engine, &["--echo-info", "--cores", "1"]);
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            let mut answer = question(120, 1, 0);
            client.send(&answer);
            answer = client.datagrams(1).remove(0);
            let cut = question(120, 1, 1)[40..].to_vec();
            for bytes in [answer, cut, b"".to_vec(), b"hello".to_vec(), vec![0; 2000]] {
                client.send(&bytes);
                client.expect_back(&[bytes]);
            }
            let train = [question(120, 2, 0), vec![5; 120], question(120, 2, 1)];
            client.send_train(&train.concat(), 120);
            let answers = client.datagrams(3);
            let count = |answer: &[u8], asked: &[u8]| told(answer, asked).count.count;
            assert_eq!(count(&answers[0], &train[0]), 1);
            assert_eq!(answers[1], train[1]);
            assert_eq!(count(&answers[2], &train[2]), 2);
        }
        let summary = reflector.stop();
        assert_eq!(summary["bytes_replied"], summary["bytes_received"], "{summary}");
    }

    fn without_the_option_a_question_is_an_echo(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let listen = ["0.0.0.0:5151/echo", "[::]:5151/echo", "127.0.0.1:5152/echo-info"];
        let args: Vec<_> = listen.iter().flat_map(|it| ["--listen", it]).collect();
        let reflector = Reflector::start(&picture.host, engine, &args);
        assert_eq!(reflector.ready["mode"], "echo,echo-info");
        for ip in ASKED {
            let mut client = Client::any(&picture.container, at(ip));
            let asked = question(300, 3, 0);
            client.send(&asked);
            client.expect_back(&[asked]);
        }
        let told_at: SocketAddr = "127.0.0.1:5152".parse().unwrap();
        let mut client = Client::any(&picture.host, told_at);
        assert_eq!(answered(&mut client, &question(300, 3, 0)).local, told_at);
        reflector.stop();
    }
}
