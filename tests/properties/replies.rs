//! Never more than was asked: a reply has no byte that its request had not, and there is one at
//! most.

use std::net::IpAddr;

use proptest::prelude::*;
use reflector::Verdict;
use reflector::mode::Mode;
use reflector::responder::{Request, Responder};
use reflector_netlab::topology::DockerHost;
use reflector_testkit::in_process::{InProcess, on_port};
use reflector_testkit::random::Random;
use reflector_testkit::train::Client;
use reflector_testkit::{PORT, Reflector, at, on_both_engines};

/// The longest datagram over IPv4.
const LONGEST: usize = 65_507;
/// What fills the buffers before they are used again, and is in no other datagram.
const SECRET: u8 = 0xa5;
/// Datagrams that are on their way at once: as many as fit the receive buffers.
const AT_ONCE: usize = 16;

/// So many random bytes, none of them the secret.
fn payload(random: &mut Random, len: usize) -> Vec<u8> {
    let mut bytes = random.bytes(len);
    for byte in &mut bytes {
        *byte ^= u8::from(*byte == SECRET);
    }
    bytes
}

/// Fills each buffer of the server with what must not come out again.
fn fill_with_secrets(client: &mut Client) {
    let secret = vec![SECRET; LONGEST];
    for _ in 0..32 {
        (0..4).for_each(|_| client.send(&secret));
        client.expect_back(&vec![secret.clone(); 4]);
    }
}

/// Every length up to 2000, longer ones by chance, in any order.
fn lens(random: &mut Random, count: usize) -> Vec<usize> {
    let mut lens: Vec<usize> = (0..count)
        .map(|number| match number {
            0..2000 => number,
            _ => {
                let bits = 1 + random.below(16);
                random.below(1 << bits).min(LONGEST)
            }
        })
        .collect();
    for last in (1..count).rev() {
        lens.swap(last, random.below(last + 1));
    }
    lens
}

on_both_engines! {
    /// In every mode, singles and trains, over buffers that held something else before.
    fn a_reply_has_the_bytes_of_its_request_and_no_other(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let mut random = Random::new(5);
        for mode in Mode::ALL {
            for (bound, host) in [
                ("0.0.0.0", IpAddr::from(DockerHost::HOST)),
                ("[::]", DockerHost::HOST_V6.into()),
            ] {
                let listen = format!("{bound}:{PORT}/{}", mode.name());
                let args = ["--cores", "1", "--listen", &listen];
                let reflector = Reflector::start(&picture.host, engine, &args);
                let mut client = Client::any(&picture.container, at(host));
                fill_with_secrets(&mut client);
                let mut sent = 32 * 4;
                for lens in lens(&mut random, 5000).chunks(AT_ONCE) {
                    let asked: Vec<_> = lens.iter().map(|&it| payload(&mut random, it)).collect();
                    asked.iter().for_each(|datagram| client.send(datagram));
                    match mode {
                        Mode::Echo => expect_in_any_order(&mut client, asked.clone()),
                        _ => expect_no_more(&client.datagrams(asked.len()), &asked),
                    }
                    sent += asked.len();
                }
                for _ in 0..200 {
                    let segment_len = 1 + random.below(1400);
                    let count = 1 + random.below((64_000 / segment_len).min(64));
                    // The last is shorter, or is not.
                    let len = segment_len * count - random.below(segment_len);
                    let train = client.send_train(&payload(&mut random, len), segment_len);
                    client.expect_back(&train);
                    sent += train.len();
                }
                let summary = reflector.stop();
                assert_eq!(client.leftover(), [], "nothing that was not asked for");
                for key in ["received", "replied"] {
                    assert_eq!(summary[key], sent, "{key}: {summary}");
                }
                assert_eq!(summary["bytes_replied"], summary["bytes_received"], "{summary}");
            }
        }
    }

    /// A responder sees nothing but its datagram, and what it may say is no longer than that.
    fn a_responder_is_shown_only_its_datagram_and_cannot_reply_with_more(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let server = InProcess::start(&picture.host, on_port(engine, PORT).cores(1), || Greedy);
        let mut client = Client::any(&picture.container, at(DockerHost::HOST));
        let mut random = Random::new(6);
        let secret = vec![SECRET; LONGEST];
        for _ in 0..128 {
            // Asks for all that there is.
            client.send(&secret);
            client.expect_back(std::slice::from_ref(&secret));
        }
        let (mut sent, mut expected) = (128, 128_u64);
        for lens in lens(&mut random, 3000).chunks(AT_ONCE) {
            let asked: Vec<_> = lens.iter().map(|&it| payload(&mut random, it)).collect();
            let replies: Vec<_> = asked.iter().filter_map(|it| allowed(it)).collect();
            asked.iter().for_each(|datagram| client.send(datagram));
            expected += replies.len() as u64;
            expect_in_any_order(&mut client, replies);
            sent += asked.len() as u64;
        }
        let summary = server.stop();
        assert_eq!(client.leftover(), []);
        assert_eq!((&summary["received"], &summary["replied"]), (&sent.into(), &expected.into()));
        assert_eq!(summary["dropped"]["reply_too_long"], sent - expected, "{summary}");
        assert!(sent - expected > 500 && expected > 500, "{summary}");
    }
}

/// Receives as many as there are, which must be the same. A train that the kernel refuses, since it
/// does not fit the MTU, leaves behind what came after it.
fn expect_in_any_order(client: &mut Client, mut expected: Vec<Vec<u8>>) {
    let mut replies = client.datagrams(expected.len());
    replies.sort_unstable();
    expected.sort_unstable();
    let wrong = replies
        .iter()
        .zip(&expected)
        .find(|(reply, expected)| reply != expected);
    let lens = wrong.map(|(reply, expected)| (reply.len(), expected.len()));
    assert_eq!(
        lens, None,
        "lengths of a reply that differs, and of its request"
    );
}

/// As many as were asked or fewer, the longest no longer than the longest that was asked, and so
/// forth.
fn expect_no_more(replies: &[Vec<u8>], asked: &[Vec<u8>]) {
    let sorted = |them: &[Vec<u8>]| {
        let mut lens: Vec<_> = them.iter().map(Vec::len).collect();
        lens.sort_unstable_by(|a, b| b.cmp(a));
        lens
    };
    assert!(replies.len() <= asked.len());
    assert!(
        sorted(replies)
            .iter()
            .zip(sorted(asked))
            .all(|(reply, asked)| *reply <= asked)
    );
}

/// Wants to reply with as many bytes as its datagram says, which may be more than that has.
struct Greedy;

/// What it wants: of short ones all, of others what their first two bytes say.
fn wanted(payload: &[u8]) -> usize {
    match payload {
        [first, second, _, ..] if *first != SECRET => {
            usize::from(u16::from_be_bytes([*first, *second])) % (2 * payload.len())
        }
        _ => payload.len(),
    }
}

fn allowed(payload: &[u8]) -> Option<Vec<u8>> {
    payload.get(..wanted(payload)).map(<[u8]>::to_vec)
}

impl Responder for Greedy {
    fn respond(&mut self, _request: &Request, payload: &mut [u8]) -> Verdict {
        let is_secret = payload.len() == LONGEST && payload.iter().all(|it| *it == SECRET);
        assert!(
            is_secret || !payload.contains(&SECRET),
            "what another datagram had"
        );
        Verdict::Reply {
            len: wanted(payload),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mode_replies_with_more_than_it_was_asked(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        port in any::<u16>(),
    ) {
        for mode in Mode::ALL {
            let request = Request::new(([10, 0, 0, 1], port).into(), ([10, 0, 0, 2], PORT).into());
            let mut payload = bytes.clone();
            if let Verdict::Reply { len } = mode.responder().respond(&request, &mut payload) {
                prop_assert!(len <= bytes.len(), "{}: {len}", mode.name());
            }
        }
    }
}
