//! Asking servers of every sort, in this process.

use std::net::Ipv4Addr;

use super::*;

fn plan(asked: SocketAddr) -> Plan {
    Plan::new(asked, Question::Echo, Duration::from_millis(100))
}

#[test]
fn a_closed_port_refuses_and_an_idle_one_is_silent() {
    for host in ["127.0.0.1", "::1"] {
        let idle = UdpSocket::bind((host, 0)).unwrap();
        let addr = idle.local_addr().unwrap();
        for attempt in plan(addr).try_once(1).unwrap() {
            assert_eq!(attempt.outcome, Outcome::Silent);
            assert_eq!(attempt.local.ip(), addr.ip());
        }
        drop(idle);
        for attempt in plan(addr).try_once(1).unwrap() {
            let Outcome::Refused(refusal) = attempt.outcome else {
                panic!("{attempt:?}")
            };
            assert_eq!(refusal.by, Some(addr.ip()));
            assert_eq!(refusal.is_v6, addr.is_ipv6());
        }
    }
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let asked = SocketAddr::from((Ipv4Addr::LOCALHOST, addr.port()));
    let error = plan(asked).ask_from(addr.port()).unwrap_err().to_string();
    assert!(error.contains("ss -unp"), "{error}");
}

#[test]
fn an_answer_that_comes_late_is_none_to_the_next_question_of_its_port() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = plan(server.local_addr().unwrap());
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    assert_eq!(plan.ask_from(port).unwrap().outcome, Outcome::Silent);
    let answers = thread::spawn(move || {
        // The first has waited in the queue.
        for _ in 0..2 {
            let mut bytes = [0; 64];
            let (len, from) = server.recv_from(&mut bytes).unwrap();
            server.send_to(&bytes[..len], from).unwrap();
        }
    });
    let patient = Plan {
        timeout: Duration::from_secs(20),
        ..plan
    };
    let outcome = patient.ask_from(port).unwrap().outcome;
    let is_right = matches!(
        outcome,
        Outcome::Answered {
            answer: Answer::Expected,
            ..
        }
    );
    assert!(is_right, "{outcome:?}");
    answers.join().unwrap();
}

/// A server that waits for both questions and then sends what `datagrams` says: of which question,
/// to whom of those that asked.
fn serve_both(datagrams: &'static [(usize, usize)]) -> (SocketAddr, thread::JoinHandle<()>) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let answers = thread::spawn(move || {
        let questions = [(); 2].map(|()| {
            let mut bytes = [0; 64];
            let (len, from) = server.recv_from(&mut bytes).unwrap();
            (bytes[..len].to_vec(), from)
        });
        for &(question, peer) in datagrams {
            server
                .send_to(&questions[question].0, questions[peer].1)
                .unwrap();
        }
    });
    (addr, answers)
}

/// How many of both get the answer to the other's question; each gets one.
fn mixed_up(datagrams: &'static [(usize, usize)]) -> usize {
    let (addr, answers) = serve_both(datagrams);
    let patient = Plan::new(addr, Question::Echo, Duration::from_secs(20));
    let attempts = patient.try_once(1).unwrap();
    answers.join().unwrap();
    let answers = attempts.map(|it| match it.outcome {
        Outcome::Answered { answer, .. } => answer,
        outcome => panic!("{outcome:?}"),
    });
    let is_to_another = |it: &&Answer| matches!(it, Answer::ToAnother(Some(_)));
    answers.iter().filter(is_to_another).count()
}

#[test]
fn an_answer_to_anothers_question_counts_beside_the_own_one() {
    // The last is an own one, so that nothing is still to come when both are done.
    assert_eq!(mixed_up(&[(0, 0), (1, 0), (1, 1)]), 1);
    assert_eq!(mixed_up(&[(1, 1), (0, 1), (0, 0)]), 1);
    assert_eq!(mixed_up(&[(0, 0), (0, 0), (0, 0), (1, 0), (1, 1)]), 1);
    assert_eq!(mixed_up(&[(0, 1), (1, 0)]), 2, "as when they come alone");
    // Duplicates look like it.
    assert_eq!(mixed_up(&[(0, 0), (0, 0), (1, 1)]), 0);
    assert_eq!(mixed_up(&[(1, 1), (1, 1), (0, 0), (0, 0)]), 0);
}

/// What becomes of a socket that has its answer to question 1 when `bytes` come after it, where
/// question 0 was asked from the same port or from another.
fn read_after(bytes: &dyn Fn(&Plan) -> Vec<u8>, is_same_port: bool) -> Answer {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = plan(server.local_addr().unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = socket.local_addr().unwrap();
    let earlier = if is_same_port {
        local.port()
    } else {
        local.port() ^ 1
    };
    plan.ports().extend([(0, earlier), (1, local.port())]);
    plan.count.store(2, Ordering::Relaxed);
    server.send_to(&bytes(&plan), local).unwrap();
    let outcome = Outcome::Answered {
        from: server.local_addr().unwrap(),
        after: Duration::ZERO,
        answer: Answer::Expected,
    };
    let mut asked = [Asked {
        attempt: Attempt {
            number: 1,
            socket: SocketKind::Unconnected,
            local,
            outcome,
        },
        socket,
        serial: 1,
        sent: clock::monotonic(),
    }];
    plan.read_on(&mut asked).unwrap();
    match asked[0].attempt.outcome {
        Outcome::Answered { answer, .. } => answer,
        ref outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn what_comes_late_or_is_no_answer_is_not_mixed_up() {
    let of = |serial| move |plan: &Plan| plan.question.payload(plan.first, serial);
    let to_another = Answer::ToAnother(Some(0));
    assert_eq!(read_after(&of(0), false), to_another);
    assert_eq!(read_after(&of(0), true), Answer::Expected, "late");
    assert_eq!(read_after(&of(1), false), Answer::Expected, "a duplicate");
    let other = |_: &Plan| b"hello".to_vec();
    assert_eq!(read_after(&other, false), Answer::Expected);
    // That of another client.
    let foreign = |plan: &Plan| plan.question.payload(plan.first ^ (1 << 40), 0);
    assert_eq!(read_after(&foreign, false), Answer::ToAnother(None));
}
