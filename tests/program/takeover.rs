//! Upgrades: the next process takes the sockets over.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{self, Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use reflector_netlab::topology::{DockerHost, Namespace, in_namespaces, skip};
use reflector_testkit::{
    Client, Engine, LISTEN, Reflector, at, command, document, http, on_both_engines, run_to_end,
    text, train, wait_until,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recvmsg, sendmsg, socket_with,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{FAILED, assert_refused, count};

/// Where a test's processes meet. Removed at its end.
struct Meeting(PathBuf);

impl Meeting {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("reflector-takeover-{}-{number}", process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn start(&self, host: &Namespace, engine: Engine, args: &[&str]) -> Reflector {
        let all = [&["--takeover", self.path()], args].concat();
        Reflector::start(host, engine, &all)
    }
}

impl Drop for Meeting {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Asserts that `old` has ended in order by itself; what it has received.
#[track_caller]
fn relieved(old: Reflector) -> u64 {
    let (summary, log, status) = old.wait();
    assert!(status.success(), "{status}: {log}");
    assert_eq!(summary["type"], "summary", "{log}");
    count(&summary["received"])
}

/// A load that is lost nothing of, or says so, until it is ended.
fn load(from: &Namespace, asked: SocketAddr) -> Child {
    let asked = asked.to_string();
    // Each answer lets the next datagram go, so that no machine is too slow for it.
    let args = [
        "load",
        &asked,
        "--window",
        "32",
        "--timeout",
        "20",
        "-d",
        "60",
        "--json",
    ];
    from.run(|| command(&args).spawn()).unwrap()
}

/// What the load has measured until now.
fn end(load: Child) -> Value {
    kill_process(Pid::from_child(&load), Signal::INT).unwrap();
    let output = load.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let summary = text(&output.stdout).lines().last().unwrap();
    document("load", summary)
}

/// A process that takes over and gets no further than a test wants.
struct Asking(OwnedFd);

impl Asking {
    fn connect(meeting: &Meeting) -> Self {
        let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(&meeting.0).unwrap()).unwrap();
        Self(socket)
    }

    fn say(&self, line: &str) {
        let mut nothing = SendAncillaryBuffer::default();
        let line = [IoSlice::new(line.as_bytes())];
        sendmsg(&self.0, &line, &mut nothing, SendFlags::NOSIGNAL).unwrap();
    }

    fn hear(&self) -> (Value, Vec<OwnedFd>) {
        let (mut line, mut space) = ([0; 65536], [MaybeUninit::uninit(); 4096]);
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut line)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let len = recvmsg(&self.0, &mut parts, &mut control, flags)
            .unwrap()
            .bytes;
        let fds = control.drain().flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Vec::from_iter(fds),
            _ => Vec::new(),
        });
        let fds = Vec::from_iter(fds);
        (serde_json::from_slice(&line[..len]).unwrap(), fds)
    }

    /// Asks; the label of each socket, with the socket.
    fn ask(&self) -> Vec<(Value, OwnedFd)> {
        self.say(r#"{"takeover":1,"type":"ask"}"#);
        let (message, fds) = self.hear();
        let labels = message["sockets"].as_array().expect("sockets come");
        assert_eq!(message["of"], labels.len());
        // The first descriptor is that of the Unix socket itself.
        assert_eq!(fds.len(), 1 + labels.len());
        labels
            .iter()
            .cloned()
            .zip(fds.into_iter().skip(1))
            .collect()
    }
}

on_both_engines! {
    fn upgrades_lose_no_datagram_and_reply_from_the_address_asked(engine: Engine) {
        let (picture, meeting) = (DockerHost::new().unwrap(), Meeting::new());
        let start = |workers: &str| {
            let args = [LISTEN, &["--interval", "0", "--cores", workers]].concat();
            meeting.start(&picture.host, engine, &args)
        };
        let mut running = start("2");
        let load = load(&picture.container, at(DockerHost::HOST));
        let mut received = 0;
        // As many, more, fewer, more than ever: with several sockets for each worker meanwhile.
        for workers in ["2", "3", "1", "2", "4"] {
            let mut client = train::Client::any(&picture.container, at(DockerHost::HOST_V6));
            let mut ask = |payload: &[u8]| {
                client.send(payload);
                client.expect_back(&[payload.to_vec()]);
            };
            ask(b"the old one");
            let next = start(workers);
            received += relieved(std::mem::replace(&mut running, next));
            ask(b"the new one");
        }
        let measured = end(load);
        let summary = running.stop_with_log().0;
        received += count(&summary["received"]);
        assert!(count(&measured["sent"]) > 0);
        for nothing in ["lost", "duplicated", "corrupt", "foreign", "refused"] {
            assert_eq!(measured[nothing], 0, "{nothing}: {measured}");
        }
        assert_eq!(measured["wrong_source"]["total"], 0, "{measured}");
        assert_eq!(received, count(&measured["sent"]) + 10);
        assert!(!meeting.0.exists(), "the last one removes the file");
    }

    fn who_dies_before_it_is_ready_leaves_the_old_one_as_it_was(engine: Engine) {
        let (host, meeting) = (Namespace::new().unwrap(), Meeting::new());
        let args = ["--listen", "127.0.0.1:5151", "--cores", "2"];
        let old = meeting.start(&host, engine, &args);
        let client = Client::connect(&host, old.listen(0));
        let mut asked = 0;
        let mut is_served = || {
            asked += 1;
            client.ask(b"still there");
        };
        let bad = [
            r#"{"takeover":7,"type":"ask"}"#,
            r#"{"takeover":1,"type":"armed"}"#,
            "GET / HTTP/1.1",
        ];
        drop(Asking::connect(&meeting));
        is_served();
        for bad in bad {
            let asking = Asking::connect(&meeting);
            asking.say(bad);
            assert_eq!(asking.hear().0["type"], "refused", "{bad}");
            is_served();
        }
        for _ in 0..2 {
            let asking = Asking::connect(&meeting);
            let sockets = asking.ask();
            let roles = |role| sockets.iter().filter(|(it, _)| it["role"] == role).count();
            assert_eq!((roles("receiver"), roles("detour")), (2, 4));
            is_served();
            drop((asking, sockets));
            is_served();
        }
        // One that has the sockets, and then finds that it cannot serve.
        let hdr = [&args[..], &["--takeover", meeting.path(), "--hdr", "/nowhere/x"]].concat();
        let output = run_to_end(&host, &hdr);
        assert_eq!(output.status.code(), Some(FAILED));
        assert!(text(&output.stderr).contains("/nowhere/x"));
        is_served();
        let next = meeting.start(&host, engine, &args);
        assert_eq!(relieved(old), asked);
        client.ask(b"and the next one");
        assert_eq!(next.stop()["received"], 1);
    }

    /// Nothing is shut that another process has as well, and what is queued is its own.
    fn one_that_is_stopped_meanwhile_leaves_its_sockets_to_the_other(engine: Engine) {
        let (host, meeting) = (Namespace::new().unwrap(), Meeting::new());
        let old = meeting.start(&host, engine, &["--listen", "127.0.0.1:5151", "--cores", "1"]);
        let client = Client::connect(&host, old.listen(0));
        client.ask(b"to the old one");
        let asking = Asking::connect(&meeting);
        let mut sockets = asking.ask();
        old.signal(Signal::TERM);
        assert_eq!(relieved(old), 1);
        client.send(b"in between");
        let first = sockets.swap_remove(0);
        assert_eq!(first.0["listen"], "127.0.0.1:5151");
        let receiver = UdpSocket::from(first.1);
        receiver.set_nonblocking(false).unwrap();
        receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut bytes = [0; 16];
        let len = receiver.recv(&mut bytes).expect("what came in between");
        assert_eq!(&bytes[..len], b"in between");
        assert!(meeting.0.exists(), "the other one may listen there");
    }

    fn metrics_follow_when_the_old_one_has_gone(engine: Engine) {
        let (host, meeting) = (Namespace::new().unwrap(), Meeting::new());
        let args = ["--listen", "127.0.0.1:5151", "--cores", "1", "--metrics", "9188"];
        let old = meeting.start(&host, engine, &args);
        Client::connect(&host, old.listen(0)).ask(b"ping");
        let next = meeting.start(&host, engine, &args);
        assert_eq!(relieved(old), 1);
        let get = || http::get(([127, 0, 0, 1], 9188).into(), "/metrics", Duration::from_secs(20));
        let mut page = String::new();
        wait_until("metrics are answered", || match host.run(get) {
            Ok((200, it)) => {
                page = it;
                true
            }
            _ => false,
        });
        let labels = "worker=\"0\",listener=\"127.0.0.1:5151\"";
        let received = format!("\nreflector_received_datagrams_total{{{labels}}} 0\n");
        assert!(page.contains(&received), "{page}");
        next.stop_with_log();
    }
}

#[test]
fn the_file_is_for_its_user_and_one_that_is_left_is_replaced() {
    let body = || {
        let (host, meeting) = (Namespace::new().unwrap(), Meeting::new());
        // Nobody listens there any more.
        drop(UnixListener::bind(&meeting.0).unwrap());
        fs::set_permissions(&meeting.0, fs::Permissions::from_mode(0o777)).unwrap();
        let first = meeting.start(&host, Engine::Mmsg, &["--listen", "127.0.0.1:5151"]);
        let mode = fs::metadata(&meeting.0).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        first.stop();
        assert!(!meeting.0.exists());
    };
    in_namespaces(
        "takeover::the_file_is_for_its_user_and_one_that_is_left_is_replaced",
        body,
    );
}

#[test]
fn what_cannot_be_taken_over_is_said_and_stays() {
    let body = || {
        let (host, meeting) = (Namespace::new().unwrap(), Meeting::new());
        let path = meeting.path();
        let refused = |host: &Namespace, more: &[&str], said: &str| {
            let args = [
                "--listen",
                "127.0.0.1:5151",
                "--engine",
                "mmsg",
                "--takeover",
                path,
            ];
            let output = run_to_end(host, &[&args[..], more].concat());
            let sentence = format!("ERROR {said}");
            assert_refused(&output, FAILED, &sentence);
        };
        let cannot = format!("cannot take over from the reflector at {path}");
        fs::write(&meeting.0, "of another program").unwrap();
        refused(&host, &[], &format!("{cannot}: the file is no socket"));
        assert_eq!(
            fs::read_to_string(&meeting.0).unwrap(),
            "of another program"
        );
        fs::remove_file(&meeting.0).unwrap();

        let old = meeting.start(&host, Engine::Mmsg, &["--listen", "127.0.0.1:5151"]);
        let elsewhere = Namespace::new().unwrap();
        let other = format!("{cannot}: the other one is in another network namespace");
        refused(&elsewhere, &[], &other);
        Client::connect(&host, old.listen(0)).ask(b"still there");
        assert_eq!(old.stop_with_log().0["received"], 1);
    };
    in_namespaces(
        "takeover::what_cannot_be_taken_over_is_said_and_stays",
        body,
    );
}

/// Even where the file lets them in.
#[test]
fn other_users_get_nothing() {
    const NAME: &str = "takeover::other_users_get_nothing";
    let body = || {
        let (host, meeting) = (Namespace::new().unwrap(), Meeting::new());
        let other = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let may = Command::new("setpriv").args(other).arg("true").output();
        if !may.is_ok_and(|it| it.status.success()) {
            return skip(NAME, "clients", "this user cannot become another one");
        }
        let old = meeting.start(&host, Engine::Mmsg, &["--listen", "127.0.0.1:5151"]);
        fs::set_permissions(&meeting.0, fs::Permissions::from_mode(0o666)).unwrap();
        let ask =
            r#"printf %s '{"takeover":1,"type":"ask"}' | socat -t20 - UNIX-CONNECT:$0,type=5"#;
        let mut command = Command::new("setpriv");
        command.args(other).args(["sh", "-c", ask, meeting.path()]);
        let output = command.output().unwrap();
        assert_eq!(text(&output.stdout), "", "it is told nothing");
        Client::connect(&host, old.listen(0)).ask(b"still there");
        let (summary, log) = old.stop_with_log();
        assert_eq!(summary["received"], 1);
        let own = rustix::process::geteuid().as_raw();
        let said = format!(" WARN not taken over: the user 65534 asked, and this is {own}\n");
        assert!(log.contains(&said), "{log}");
    };
    in_namespaces(NAME, body);
}
