//! A trial, from the start of the server to its end.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use crate::case::Case;
use crate::judge;
use crate::process_group::ProcessGroups;
use crate::server::ServerUnderTest;
use crate::trial::{Heard, Question, Record, Trial, Verdict};
use reflector_measure::clock;
use reflector_measure::error::Error;
use reflector_netlab::capture::Capture;
use reflector_netlab::observe::conntrack;
use reflector_netlab::topology::DockerHost;

/// Holds the trial of `under_test` in `case`, in the fresh namespaces of `picture`.
///
/// # Errors
/// The lab itself could not ask or record; what the server does wrong is in the verdict.
pub(crate) fn hold(
    case: Case,
    picture: &DockerHost,
    under_test: &ServerUnderTest,
    question: &Question,
    process_groups: &ProcessGroups,
) -> Result<Trial, Error> {
    let listen = SocketAddr::new(case.bind(), question.port);
    let asked = SocketAddr::new(case.asked(), question.port);
    let namespace = case.server_namespace(picture);
    let unasked = |verdict, reason| Trial {
        listen,
        bound: Vec::new(),
        engine: None,
        record: None,
        verdict,
        reason,
    };
    // On one thread in the server's namespace from its start to its end: see `process_group`.
    namespace.run(|| {
        let mut server = match under_test.start(namespace, listen, process_groups) {
            Ok(server) => server,
            Err(reason) => return Ok(unasked(Verdict::Failed, reason)),
        };
        let bound = server.bound().to_vec();
        if let Some(reason) = server.lacks_family_of(asked) {
            let trial = unasked(Verdict::Skipped, reason);
            return Ok(Trial { bound, ..trial });
        }
        let record = record(case, picture, asked, question).map_err(|said| {
            Error::system(format!("cannot show the case {}", case.name()), &said)
        })?;
        let (verdict, reason) = judge::verdict(case, asked, &record, &mut server);
        let mut trial = Trial {
            bound,
            engine: server.engine().map(str::to_owned),
            record: Some(record),
            ..unasked(verdict, reason)
        };
        if let Err(reason) = server.stop() {
            trial.verdict = Verdict::Failed;
            trial.reason = reason;
        }
        Ok(trial)
    })
}

fn record(
    case: Case,
    picture: &DockerHost,
    asked: SocketAddr,
    question: &Question,
) -> io::Result<Record> {
    let captures = case
        .interfaces()
        .iter()
        .map(|interface| Ok((*interface, Capture::start(&picture.host, interface)?)))
        .collect::<io::Result<Vec<_>>>()?;
    let client = ask(case, picture, asked, question)?;
    let mut packets = Vec::new();
    for (interface, capture) in captures {
        let seen = capture.stop()?;
        packets.extend(seen.into_iter().map(|packet| (interface, packet)));
    }
    packets.sort_by_key(|(_, packet)| packet.at);
    let table = conntrack(&picture.host).map(|mut entries| {
        entries.retain(|entry| entry.protocol == "udp");
        // The question first; the kernel's order is that of a hash table.
        entries.sort_by_key(|entry| entry.original.destination != asked);
        entries
    });
    Ok(Record {
        packets: judge::conversation(asked, packets),
        conntrack: table.map_err(|error| no_conntrack(&error)),
        client,
    })
}

fn no_conntrack(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "not listed by this kernel (nf_conntrack not loaded, or no CONFIG_NF_CONNTRACK_PROCFS)"
                .to_owned()
        }
        _ => error.to_string(),
    }
}

/// What a connected socket in the container hears of `asked`.
fn ask(
    case: Case,
    picture: &DockerHost,
    asked: SocketAddr,
    question: &Question,
) -> io::Result<Heard> {
    let socket = picture.container.run(|| UdpSocket::bind(case.client()))?;
    socket.set_read_timeout(Some(question.timeout))?;
    socket.connect(asked)?;
    let start = clock::monotonic();
    socket.send(&question.payload)?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    match socket.recv(&mut buffer) {
        Ok(payload_len) => Ok(Heard::Answer {
            payload_len,
            rtt: clock::monotonic() - start,
        }),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => Ok(Heard::Refusal),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                Ok(Heard::Nothing(question.timeout))
            }
            _ => Err(error),
        },
    }
}
