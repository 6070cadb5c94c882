//! Behind NAT and filters that keep state.

use reflector_netlab::naive::Wildcard;
use reflector_netlab::observe::{ConntrackEntry, conntrack, counter};
use reflector_netlab::topology::{DockerHost, Namespace, in_force};
use reflector_testkit::asking::{Question, beside_naive_server, watch};
use reflector_testkit::{PORT, Reflector, on_both_engines, wait_until};

use super::IPV4;

on_both_engines! {
    /// The answer to a translated question must fit the entry that the question has made.
    fn behind_masquerade_the_answer_fits_the_conntrack_entry(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        if !in_force("behind_masquerade", docker.masquerade()) {
            return;
        }
        let asked = DockerHost::OUTSIDE_SECOND;
        let ask = || Question::ask(&docker.container, asked, PORT);

        let (question, wire) = watch(&docker.host, "eth0", || {
            beside_naive_server(&docker.outside, Wildcard::Ipv4, PORT, || {
                let question = ask();
                wait_until("the host refuses the answer", || {
                    counter(&docker.host, "Icmp", "OutDestUnreachs").unwrap() == 1
                });
                question
            })
        });
        assert!(question.is_unanswered());
        let port = question.client.port();
        assert_eq!(wire, [
            format!("172.16.13.13.{port} > 172.16.13.3.5151: UDP, length 4"),
            format!("172.16.13.2.5151 > 172.16.13.13.{port}: UDP, length 4"),
            format!("172.16.13.13 > 172.16.13.2: ICMP udp port {port} unreachable"),
        ]);
        let entries = entries_of(&docker.host, port);
        assert_eq!(entries.len(), 2, "{entries:?}");
        assert!(entries.iter().all(|entry| !entry.is_replied), "{entries:?}");

        let reflector = Reflector::start(&docker.outside, engine, IPV4);
        let (question, wire) = watch(&docker.host, "eth0", || {
            let question = ask();
            question.assert_answered();
            question
        });
        let port = question.client.port();
        assert_eq!(wire, [
            format!("172.16.13.13.{port} > 172.16.13.3.5151: UDP, length 4"),
            format!("172.16.13.3.5151 > 172.16.13.13.{port}: UDP, length 4"),
        ]);
        let entries = entries_of(&docker.host, port);
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert!(entry.is_replied, "{entry:?}");
        assert_eq!(entry.original.source, question.client);
        assert_eq!(entry.original.destination, question.asked);
        reflector.stop();
    }

    /// A filter that lets in only answers to what went out lets the right answer in.
    fn a_stateful_filter_lets_the_answer_through(engine: Engine) {
        let docker = DockerHost::new().unwrap();
        if !in_force("a_stateful_filter", docker.stateful_filter()) {
            return;
        }
        let ask = || Question::ask(&docker.container, DockerHost::OUTSIDE_SECOND, PORT);

        let ((question, astray), wire) = watch(&docker.host, "docker0", || {
            watch(&docker.host, "eth0", || {
                beside_naive_server(&docker.outside, Wildcard::Ipv4, PORT, || {
                    let question = ask();
                    wait_until("the naive server answers", || {
                        counter(&docker.outside, "Udp", "OutDatagrams").unwrap() == 1
                    });
                    question
                })
            })
        });
        assert!(question.is_unanswered());
        assert_eq!(wire, [question.request()]);
        let reply = question.reply_from(DockerHost::OUTSIDE.into());
        assert_eq!(astray, [question.request(), reply]);
        let entries = entries_of(&docker.host, question.client.port());
        assert!(entries.iter().all(|entry| !entry.is_replied), "{entries:?}");

        let reflector = Reflector::start(&docker.outside, engine, IPV4);
        let (question, wire) = watch(&docker.host, "docker0", || {
            let question = ask();
            question.assert_answered();
            question
        });
        assert_eq!(wire, [question.request(), question.reply()]);
        let entries = entries_of(&docker.host, question.client.port());
        let [entry] = &entries[..] else { panic!("{entries:?}") };
        assert!(entry.is_replied, "{entry:?}");
        reflector.stop();
    }
}

/// What connection tracking in `namespace` knows of the flow that uses the client's `port`.
fn entries_of(namespace: &Namespace, port: u16) -> Vec<ConntrackEntry> {
    let mut entries = conntrack(namespace).unwrap();
    entries.retain(|entry| {
        let ends = [entry.original.source, entry.original.destination];
        entry.protocol == "udp" && ends.iter().any(|end| end.port() == port)
    });
    entries
}
