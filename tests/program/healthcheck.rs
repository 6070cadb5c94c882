//! `reflector healthcheck`: what it takes for an answer.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{Reflector, on_both_engines, run_to_end, text};

use super::{FAILED, assert_refused};

on_both_engines! {
    fn one_that_answers_is_healthy(engine: Engine) {
        let host = Namespace::new().unwrap();
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let reflector = Reflector::start(&host, engine, &["--listen", listen]);
            let asked = reflector.listen(0).to_string();
            let output = run_to_end(&host, &["healthcheck", &asked]);
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert_eq!((text(&output.stdout), text(&output.stderr)), ("", ""));
            reflector.stop();
        }
    }
}

#[test]
fn one_that_does_not_answer_is_not() {
    in_namespaces("healthcheck::one_that_does_not_answer_is_not", || {
        let host = Namespace::new().unwrap();
        // By default, where nobody is.
        let refused = run_to_end(&host, &["healthcheck"]);
        let said = "ERROR 127.0.0.1:9007 does not answer: Connection refused (os error 111); \
                    `reflector diagnose 127.0.0.1:9007` says why";
        assert_refused(&refused, FAILED, said);

        let silent = host.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
        let asked = silent.local_addr().unwrap().to_string();
        let output = run_to_end(&host, &["healthcheck", &asked, "--timeout", "20ms"]);
        assert_eq!(output.status.code(), Some(FAILED));
        assert!(
            text(&output.stderr).contains("timed out"),
            "{}",
            text(&output.stderr)
        );
    });
}

#[test]
fn what_answers_something_else_is_not_healthy() {
    in_namespaces(
        "healthcheck::what_answers_something_else_is_not_healthy",
        || {
            let host = Namespace::new().unwrap();
            let other = host.run(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
            let asked = other.local_addr().unwrap().to_string();
            let answers = thread::spawn(move || {
                let mut bytes = [0; 64];
                let (_, from) = other.recv_from(&mut bytes).unwrap();
                other.send_to(b"something else", from).unwrap();
            });
            let output = run_to_end(&host, &["healthcheck", &asked, "--timeout", "100ms"]);
            assert_eq!(
                output.status.code(),
                Some(FAILED),
                "{}",
                text(&output.stderr)
            );
            answers.join().unwrap();
        },
    );
}
