//! `reflector --accelerate`: what the program makes of it, in its sandbox.

use std::fs;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Command, Output};

use reflector_netlab::topology::{Namespace, net};
use reflector_testkit::{
    Client, Engine, LISTEN, PATIENCE, Reflector, at, http, join, program, text, to_end, wait_until,
};
use rustix::process::Signal;
use serde_json::Value;

use crate::stage::ask_all;
use crate::{engines, in_namespaces};

pub fn two() -> (Namespace, Namespace) {
    let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    join(&server, &peer, "wire");
    (server, peer)
}

pub fn start(server: &Namespace, engine: Engine, args: &[&str]) -> Reflector {
    let all = [LISTEN, &["--cores", "1", "--accelerate", "wire"], args].concat();
    Reflector::start(server, engine, &all)
}

fn client(peer: &Namespace) -> Client {
    Client::connect_from(peer, "10.9.0.2:0".parse().unwrap(), at([10, 9, 0, 1]))
}

/// What it said, which is the warning that firewalls are passed by, and nothing else.
pub fn stop(reflector: Reflector) -> Value {
    let (summary, log) = reflector.stop_with_log();
    let warnings = log
        .lines()
        .filter(|it| it.starts_with(" WARN ") || it.starts_with("ERROR "));
    let warnings: Vec<_> = warnings
        .filter(|it| !it.contains(" workers share "))
        .collect();
    let [warning] = warnings.as_slice() else {
        panic!("one warning, not {warnings:?}");
    };
    assert!(warning.contains("at wire passes by netfilter"), "{warning}");
    summary
}

/// A program is loaded in the first user namespace only, so these do not run again in another.
macro_rules! on_engines {
    ($($name:ident => $body:ident;)*) => {$(
        #[test]
        fn $name() {
            in_namespaces(concat!("program::", stringify!($name)), || {
                for engine in engines(concat!("program::", stringify!($name))) {
                    $body(engine);
                }
            });
        }
    )*};
}

on_engines! {
    what_is_answered_in_the_kernel_is_reported => all_is_accelerated;
    lists_read_again_count_in_the_kernel_too => lists_are_read_again;
    addresses_are_followed => addresses_come_and_go;
}

fn all_is_accelerated(engine: Engine) {
    let (server, peer) = two();
    let reflector = start(
        &server,
        engine,
        &["--interval", "10ms", "--metrics", "10.9.0.1:9100"],
    );
    let count = ask_all(&peer, "10.9.0.1") + ask_all(&peer, "fd09::1");
    let mut reported = 0;
    reflector.wait_for_report("intervals add up", |interval| {
        reported += interval["accelerated"]["datagrams"].as_u64().unwrap();
        reported == count as u64
    });
    let (addr, path) = ("10.9.0.1:9100".parse().unwrap(), "/metrics");
    let (_, page) = peer.run(|| http::get(addr, path, PATIENCE)).unwrap();
    let line = format!("reflector_accelerated_datagrams_total {count}\n");
    assert!(page.contains(&line), "{page}");
    let summary = stop(reflector);
    let accelerated = &summary["accelerated"];
    assert_eq!(accelerated["datagrams"], count, "{summary}");
    assert_eq!(accelerated["trains"], 4, "{summary}");
    assert_eq!(
        accelerated["bytes"],
        2 * (65 + 1400 + 3200 + 44 * 1400),
        "{summary}"
    );
    assert!(
        accelerated["residence_us"]["count"].as_u64() > Some(0),
        "{summary}"
    );
    assert_eq!(summary["received"], 0, "{summary}");
}

fn lists_are_read_again(engine: Engine) {
    let (server, peer) = two();
    let list = File::new("lists", "");
    let path = list.0.to_str().unwrap();
    let reflector = start(&server, engine, &["--deny-file", path]);
    let client = client(&peer);
    client.ask(b"allowed");
    fs::write(&list.0, "10.9.0.2\n").unwrap();
    reflector.signal(Signal::HUP);
    // Passed is what is denied in the kernel; a socket may answer it once, until it hears as well.
    wait_until("the peer is denied", || {
        client.send(b"denied?");
        reflector.signal(Signal::USR1);
        let mut report = reflector.next_report();
        while report["type"] != "snapshot" {
            report = reflector.next_report();
        }
        report["dropped"]["not_allowed"].as_u64() > Some(0)
    });
    let summary = stop(reflector);
    assert!(
        summary["accelerated"]["datagrams"].as_u64() >= Some(1),
        "{summary}"
    );
}

fn addresses_come_and_go(engine: Engine) {
    let (server, peer) = two();
    let reflector = start(&server, engine, &["--interval", "10ms"]);
    server.add_address("wire", net("10.9.0.77/24")).unwrap();
    let later = Client::connect_from(&peer, "10.9.0.2:0".parse().unwrap(), at([10, 9, 0, 77]));
    // Until the kernel has told of it, the sockets answer.
    reflector.wait_for_report("it is answered in the kernel", |interval| {
        later.ask(b"new here");
        interval["accelerated"]["datagrams"].as_u64() > Some(0)
    });
    server.delete_address("wire", net("10.9.0.77/24")).unwrap();
    let socket = peer.run(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
    socket.set_nonblocking(true).unwrap();
    wait_until("it is answered at no more", || {
        while socket.recv(&mut [0; 16]).is_ok() {}
        socket.send_to(b"gone", at([10, 9, 0, 77])).unwrap();
        client(&peer).ask(b"what comes behind it has been through");
        matches!(socket.recv(&mut [0; 16]), Err(error) if error.kind() == ErrorKind::WouldBlock)
    });
    stop(reflector);
}

/// A file of one test. Gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("accelerate-{name}-{}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// No socket and no program is there any more, so that the kernel says so.
#[test]
fn a_killed_reflector_leaves_nothing_attached() {
    in_namespaces("program::killed", || {
        let (server, peer) = two();
        let reflector = start(&server, Engine::Mmsg, &[]);
        let asked = at([10, 9, 0, 1]);
        let socket = peer.run(|| UdpSocket::bind("10.9.0.2:0")).unwrap();
        socket.connect(asked).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"alive").unwrap();
        socket.recv(&mut [0; 16]).unwrap();
        reflector.signal(Signal::KILL);
        let (_, _, status) = reflector.wait();
        assert!(!status.success());
        socket.send(b"dead").unwrap();
        let error = socket.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

/// The next one attaches before it says that it is ready, the old one lets go after that.
#[test]
fn a_takeover_under_load_loses_nothing() {
    in_namespaces("program::takeover", || {
        let (server, peer) = two();
        let path = std::env::temp_dir().join(format!("accelerate-{}.sock", std::process::id()));
        let args = ["--takeover", path.to_str().unwrap()];
        let mut reflector = start(&server, Engine::Mmsg, &args);
        let mut accelerated = 0;
        let mut asked = 0;
        let client = client(&peer);
        for _ in 0..3 {
            let next = std::thread::scope(|scope| {
                let next = scope.spawn(|| start(&server, Engine::Mmsg, &args));
                while !next.is_finished() {
                    client.ask(b"while they change places");
                    asked += 1;
                }
                next.join().unwrap()
            });
            let (summary, _, status) = std::mem::replace(&mut reflector, next).wait();
            assert!(status.success(), "{summary}");
            accelerated += summary["accelerated"]["datagrams"].as_u64().unwrap();
            assert_eq!(summary["received"], 0, "{summary}");
        }
        let (summary, _) = reflector.stop_with_log();
        accelerated += summary["accelerated"]["datagrams"].as_u64().unwrap();
        assert_eq!(accelerated, asked);
        let _ = fs::remove_file(&path);
    });
}

fn run(server: &Namespace, before: &[&str], args: &[&str]) -> Output {
    let program = program();
    let program = program.to_str().unwrap();
    let words = [
        before,
        &[program, "--accelerate", "wire", "--duration", "0"],
        args,
    ]
    .concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_remove("REFLECTOR_REQUIRE");
    to_end(server, command)
}

#[test]
fn missing_rights_are_named_with_what_gives_them() {
    in_namespaces("program::rights", || {
        let (server, _peer) = two();
        let with_rights = |rights| {
            let before = ["setpriv", "--bounding-set", rights, "--inh-caps", rights];
            let output = run(&server, &before, &["--listen", "127.0.0.1:7007"]);
            (output.status.code(), text(&output.stderr).to_owned())
        };
        for (rights, missing) in [
            ("-all", "CAP_BPF and CAP_NET_ADMIN are missing"),
            ("-all,+net_admin", "CAP_BPF is missing"),
        ] {
            let (code, said) = with_rights(rights);
            assert_eq!(code, Some(1), "{said}");
            for word in ["cannot load", missing, "--cap-add"] {
                assert!(said.contains(word), "{word}: {said}");
            }
        }
        // No more than two are needed; the third has the kernel verify the program less strictly.
        for rights in ["-all,+bpf,+net_admin", "-all,+bpf,+net_admin,+perfmon"] {
            let (code, said) = with_rights(rights);
            assert_eq!(code, Some(0), "{rights}: {said}");
        }
    });
}

#[test]
fn what_does_not_go_with_it_is_wrong_usage() {
    in_namespaces("program::usage", || {
        let (server, _peer) = two();
        for (args, word) in [
            (&["--rate-limit", "100"][..], "cannot be used with"),
            (&["--share-port"], "cannot be used with"),
            (&["--df"], "cannot be used with"),
            (&["--device", "lo"], "hear nothing from wire"),
        ] {
            let output = run(&server, &[], args);
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
            assert!(said.contains(word), "{args:?}: {said}");
        }
        let output = run(&server, &[], &["--accelerate", "nowhere"]);
        let said = text(&output.stderr);
        assert!(said.contains("there is no such device"), "{said}");
        assert_eq!(output.status.code(), Some(1), "{said}");
    });
}
