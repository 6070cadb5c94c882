//! `--netns`: sockets in another namespace, of a process that stays where it is.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::process::Command;
use std::time::Duration;
use std::{fs, io};

use reflector_netlab::topology::{Mtu, Namespace, Route, in_namespaces, net};
use reflector_testkit::{
    Client, Engine, LISTEN, PATIENCE, PORT, Reflector, command, http, join, on_both_engines,
    program, run_to_end, text, wait_until,
};

use super::sandbox::assert_confined;
use super::{FAILED, assert_refused};

/// Longer than what a peer's device takes.
const LONG: usize = 4000;

on_both_engines! {
    fn it_answers_there_and_not_here(engine: Engine) {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let reflector = start(&here, &there, engine, &[LISTEN, &["--metrics", "9188"]].concat());
        for asked in ["127.0.0.1:5151", "[::1]:5151"] {
            let asked = asked.parse().unwrap();
            Client::connect(&there, asked).ask(b"there");
            let lost = here.run(|| {
                let socket = UdpSocket::bind(SocketAddr::new(asked.ip(), 0)).unwrap();
                socket.connect(asked).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.send(b"here").unwrap();
                socket.recv(&mut [0; 8]).unwrap_err()
            });
            assert_eq!(lost.kind(), io::ErrorKind::ConnectionRefused);
        }
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 9188));
        let page = there.run(|| http::get(metrics, "/metrics", PATIENCE)).unwrap();
        assert!(page.1.contains("reflector_ready 1.0\n"));
        here.run(|| http::get(metrics, "/metrics", PATIENCE)).unwrap_err();

        // By which it is known: the process is where it was, and its threads are not.
        let at = |path: &str| {
            let path = format!("/proc/{}/{path}/ns/net", reflector.pid());
            std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap())
        };
        assert_eq!(at("."), here.inode().unwrap());
        let tasks = fs::read_dir(format!("/proc/{}/task", reflector.pid())).unwrap();
        let tasks = tasks.map(|task| task.unwrap().file_name().into_string().unwrap());
        let own = reflector.pid().to_string();
        for task in tasks.filter(|task| *task != own) {
            assert_eq!(at(&format!("task/{task}")), there.inode().unwrap());
        }
        assert_confined(&reflector);
        assert_eq!(reflector.stop()["replied"], 2);
    }

    /// Sockets that are opened or bound anew long after the start, and what tells of the changes.
    fn what_it_opens_later_is_there_as_well(engine: Engine) {
        let (here, link) = (Namespace::new().unwrap(), Link::new());
        let listen = ["--listen", "0.0.0.0:5151,[::]:5151,[fe80::9%v0]:5152"];
        let args = [&listen[..], &["--device", "v0", "--cores", "1"]].concat();
        let reflector = start(&here, &link.there, engine, &args);
        assert!(link.is_answered("10.9.0.1", b"ping") && link.is_answered("fe80::9", b"ping"));
        // A reply by a route with an MTU leaves by a socket of its own.
        link.there.set_mtu("v0", 9000).unwrap();
        assert!(!link.is_answered("10.9.0.1", &[7; LONG]));
        let to_peer = Route::to(net("10.9.0.2/32")).device("v0").mtu(1500, Mtu::Discovered);
        link.there.add_route(&to_peer).unwrap();
        wait_until("the route's MTU counts", || link.is_answered("10.9.0.1", &[7; LONG]));
        link.there.delete_link("v0").unwrap();
        link.make();
        for ip in ["10.9.0.1", "fd09::1", "fe80::9"] {
            wait_until("it is listened on again", || link.is_answered(ip, b"ping"));
        }
        reflector.stop_with_log();
    }

    fn a_name_is_one_of_ip_netns(engine: Engine) {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        // Mounts of its own, in which the directory of names can be made.
        let script = "mount -t tmpfs none /run && mkdir /run/netns && touch /run/netns/there && \
                      mount --bind \"$1\" /run/netns/there && shift && exec \"$@\"";
        let mut named = Command::new("unshare");
        named.args(["--mount", "sh", "-c", script, "sh", &there.path()]).arg(program());
        let args = [LISTEN, &["--engine", engine.name(), "--json", "--netns", "there"]].concat();
        let inner = command(&args);
        named.args(inner.get_args()).env_remove("REFLECTOR_REQUIRE");
        named.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let reflector = Reflector::attach(here.run(|| named.spawn()).unwrap());
        Client::connect(&there, "127.0.0.1:5151".parse().unwrap()).ask(b"there");
        assert_eq!(reflector.stop()["replied"], 1);
    }

    fn every_command_that_asks_does_so_from_there(engine: Engine) {
        let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let reflector = Reflector::start(&there, engine, LISTEN);
        let commands: [&[&str]; 6] = [
            &["healthcheck", "127.0.0.1:5151"],
            &["load", "127.0.0.1:5151", "-n", "20", "-r", "1k", "-t", "100ms"],
            &["diagnose", "127.0.0.1:5151", "-n", "1", "-t", "100ms"],
            &["probe", "127.0.0.1:5151", "-n", "1", "-t", "100ms"],
            &["wait", "127.0.0.1:5151", "--for", "100ms"],
            &["watch", "127.0.0.1:5151", "-n", "5", "-t", "100ms"],
        ];
        for args in commands {
            let path = there.path();
            let output = run_to_end(&here, &[args, &["--netns", &path]].concat());
            assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
            // The control: without it, nobody answers.
            assert!(!run_to_end(&here, args).status.success(), "{args:?}");
        }
        assert!(reflector.stop()["replied"].as_u64() >= Some(22));
    }
}

#[test]
fn a_namespace_that_cannot_be_entered_is_refused_with_what_is_missing() {
    in_namespaces(
        "netns::a_namespace_that_cannot_be_entered_is_refused_with_what_is_missing",
        || {
            let (here, there) = (Namespace::new().unwrap(), Namespace::new().unwrap());
            let cannot = "ERROR cannot open sockets in the network namespace";
            for (name, said) in [
                (
                    "nobody-has-made-this",
                    "/run/netns/nobody-has-made-this: No such file or directory (os error 2); \
                     `ip netns list` names those that there are, `ip netns add` makes one",
                ),
                (
                    "/proc/0/ns/net",
                    "/proc/0/ns/net: No such file or directory (os error 2); a process that has \
                     ended has none any more",
                ),
                ("/dev/null", "/dev/null: it is not a regular file"),
                (
                    "/proc/self/cmdline",
                    "/proc/self/cmdline: enter a network namespace: Invalid argument (os error \
                     22); the file is no network namespace",
                ),
            ] {
                let output = run_to_end(&here, &["--netns", name]);
                assert_refused(&output, FAILED, &format!("{cannot} {said}"));
            }
            let path = there.path();
            let mut without = Command::new("setpriv");
            let dropped = ["--inh-caps=-sys_admin", "--bounding-set=-sys_admin"];
            without
                .args(dropped)
                .arg(program())
                .args(["-d", "1ms", "--netns", &path]);
            without.env_remove("REFLECTOR_REQUIRE");
            let output = here.run(|| without.output()).unwrap();
            let said = format!(
                "{cannot} {path}: enter a network namespace: Operation not permitted (os error \
                 1); CAP_SYS_ADMIN is missing: run as root, or in a container with --cap-add \
                 SYS_ADMIN"
            );
            assert_refused(&output, FAILED, &said);
        },
    );
}

/// A reflector in `here` that serves `there`.
fn start(here: &Namespace, there: &Namespace, engine: Engine, args: &[&str]) -> Reflector {
    let path = there.path();
    Reflector::start(here, engine, &[args, &["--netns", &path]].concat())
}

/// A namespace that is served and a peer, with one link between them, `v0` at both ends.
struct Link {
    there: Namespace,
    peer: Namespace,
}

impl Link {
    fn new() -> Self {
        let (there, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        let link = Self { there, peer };
        link.make();
        link
    }

    fn make(&self) {
        join(&self.there, &self.peer, "v0");
        self.there.add_address("v0", net("fe80::9/64")).unwrap();
        self.there.wait_ready("v0").unwrap();
    }

    /// Whether the peer gets `payload` back within a moment, from `ip`.
    fn is_answered(&self, ip: &str, payload: &[u8]) -> bool {
        let asked = match ip.parse().unwrap() {
            std::net::IpAddr::V6(ip) if ip.is_unicast_link_local() => {
                let scope = self.peer.interface_index("v0").unwrap();
                SocketAddrV6::new(ip, PORT + 1, 0, scope).into()
            }
            ip => SocketAddr::new(ip, PORT),
        };
        let any = if asked.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let client = self.peer.run(|| UdpSocket::bind(any).unwrap());
        let moment = Duration::from_millis(50);
        client.set_read_timeout(Some(moment)).unwrap();
        // Refused while nobody listens there.
        client.connect(asked).is_ok()
            && client.send(payload).is_ok()
            && client.recv(&mut [0; LONG]).is_ok()
    }
}
