//! `reflector wait`: until it answers, or for as long as is given.

use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::targets::{Fault, Target};
use reflector_testkit::{Reflector, command, document, on_both_engines, text};

use super::{run, run_json};

on_both_engines! {
    fn one_that_answers_is_not_waited_for(engine: Engine) {
        let host = Namespace::new().unwrap();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let reflector = Reflector::start(&host, engine, &["--listen", listen]);
            let asked = reflector.listen(0);
            let (exit, said) = run(&host, &format!("wait {asked}"));
            // On a busy machine the first try may be over before the answer is there.
            let begin = format!("{asked} answers");
            assert!(exit == 0 && said.starts_with(&begin), "{exit} {said}");
            reflector.stop();
        }
    }

    /// Nobody listens when the wait begins.
    fn one_that_starts_later_is_waited_for(engine: Engine) {
        let host = Namespace::new().unwrap();
        let waiting = command(&["wait", "127.0.0.1:5151", "--for", "60s", "--json"]);
        let waiting = host.run(move || { let mut waiting = waiting; waiting.spawn() }).unwrap();
        // By then it has been refused, but for a machine that starts no program in that time.
        thread::sleep(Duration::from_millis(100));
        let reflector = Reflector::start(&host, engine, &["--listen", "127.0.0.1:5151"]);
        let output = waiting.wait_with_output().unwrap();
        let object = document("wait", text(&output.stdout));
        assert!(output.status.success(), "{object}");
        assert_eq!((&object["verdict"], &object["received"]), (&"ok".into(), &1.into()));
        let outcomes = object["outcomes"].as_object().unwrap();
        let tries: u64 = outcomes.values().map(|it| it.as_u64().unwrap()).sum();
        assert_eq!(object["tries"], tries, "{object}");
        assert_eq!(outcomes["ok"], 1, "{object}");
        assert!(outcomes.keys().all(|it| it == "ok" || it == "refused"), "{object}");
        reflector.stop();
    }
}

#[test]
fn what_never_answers_is_told_by_what_was_seen() {
    let name = "waiting::what_never_answers_is_told_by_what_was_seen";
    in_namespaces(name, || {
        let host = Namespace::new().unwrap();
        let closed = "127.0.0.1:5151";
        let [silent, elsewhere] =
            [Fault::Silence, Fault::OtherPort].map(|it| host.run(|| Target::start(it)));
        for (target, word, code) in [
            (closed.to_owned(), "refused", 6),
            (silent.addr.to_string(), "timeout", 3),
            (elsewhere.addr.to_string(), "wrong-source", 4),
            ("192.0.2.1:7".to_owned(), "unreachable", 7),
            ("no-such-name.invalid".to_owned(), "unresolved", 7),
        ] {
            let (exit, object) = run_json(&host, &format!("wait {target} --for 300ms"));
            assert_eq!((exit, &object["verdict"]), (code, &word.into()), "{object}");
            let outcomes = object["outcomes"].as_object().unwrap();
            assert_eq!(outcomes.len(), 1, "{object}");
            // 20, 40, 80, 160 ms, and the rest: less a quarter each, it is one or two more.
            let tries = outcomes[word].as_u64().unwrap();
            assert!((1..=6).contains(&tries), "{object}");
        }
        let (_, said) = run(&host, &format!("wait {closed} --for 1ms"));
        assert!(
            said.contains(" does not answer for 0.0") && said.ends_with(" refused\n"),
            "{said}"
        );
    });
}

#[test]
fn a_dns_server_and_any_other_are_asked_their_questions() {
    let name = "waiting::a_dns_server_and_any_other_are_asked_their_questions";
    in_namespaces(name, || {
        let host = Namespace::new().unwrap();
        let server = host.run(|| UdpSocket::bind("127.0.0.1:53").unwrap());
        let answering = thread::spawn(move || {
            let mut bytes = [0; 512];
            for _ in 0..2 {
                let (len, from) = server.recv_from(&mut bytes).unwrap();
                // An answer is a query with this bit set.
                bytes[2] |= 0x80;
                server.send_to(&bytes[..len], from).unwrap();
            }
            let (len, from) = server.recv_from(&mut bytes).unwrap();
            assert_eq!(text(&bytes[..len]), "ping");
            server.send_to(b"pong", from).unwrap();
        });
        for line in [
            "wait 127.0.0.1 --dns example.com",
            "probe 127.0.0.1 --dns example.com --connected",
            "wait 127.0.0.1:53 --payload-hex 70696e67",
        ] {
            let (code, said) = run(&host, line);
            assert_eq!(code, 0, "{said}");
        }
        answering.join().unwrap();
    });
}
