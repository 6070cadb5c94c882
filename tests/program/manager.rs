//! What a service manager does: it opens the sockets, and hears how it goes. A stand-in for
//! systemd, which speaks its protocol.

use std::env;
use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::process::{self, Command, Stdio};

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{
    Client, Engine, PATIENCE, Reflector, on_both_engines, program, text, to_end, wait_until,
};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::Signal;
use socket2::{Domain, Protocol, Socket, Type};

use super::{FAILED, assert_refused, count};

/// A socket as systemd opens it with `ReusePort=yes`.
fn activated(host: &Namespace, addr: &str) -> UdpSocket {
    let addr: SocketAddr = addr.parse().unwrap();
    host.run(|| {
        let kind = Some(Protocol::UDP);
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, kind).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        if addr.is_ipv6() {
            socket.set_only_v6(true).unwrap();
        }
        socket.bind(&addr.into()).unwrap();
        socket.into()
    })
}

/// The program with `sockets` from descriptor 3 on, as execve(2) leaves them, and variables that
/// say so.
fn started(sockets: &[BorrowedFd<'_>], args: &[&str]) -> Command {
    for socket in sockets {
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
    }
    // First out of each other's way.
    let (mut away, mut there) = (String::new(), String::new());
    for (index, socket) in sockets.iter().enumerate() {
        let (from, between, to) = (socket.as_raw_fd(), 200 + index, 3 + index);
        away += &format!("exec {between}<&{from} {from}<&-; ");
        there += &format!("exec {to}<&{between} {between}<&-; ");
    }
    let script = format!("{away}{there}LISTEN_PID=$$ exec \"$0\" \"$@\"");
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(program()).args(args);
    command.env("LISTEN_FDS", sockets.len().to_string());
    command.env("LISTEN_FDNAMES", "reflector.socket:reflector.socket");
    command
        .env_remove("REFLECTOR_REQUIRE")
        .env_remove("NOTIFY_SOCKET");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Where the stand-in hears, and what NOTIFY_SOCKET says of it. An abstract name is one of the
/// network namespace.
fn ear(host: &Namespace, is_abstract: bool) -> (UnixDatagram, String) {
    let name = format!("reflector-manager-{}", process::id());
    let (addr, name) = if is_abstract {
        (
            UnixAddr::from_abstract_name(&name).unwrap(),
            format!("@{name}"),
        )
    } else {
        let path = env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        let addr = UnixAddr::from_pathname(&path).unwrap();
        (addr, path.to_str().unwrap().to_owned())
    };
    let ear = host.run(|| UnixDatagram::bind_addr(&addr)).unwrap();
    ear.set_read_timeout(Some(PATIENCE)).unwrap();
    (ear, name)
}

fn heard(ear: &UnixDatagram) -> String {
    let mut bytes = [0; 256];
    let len = ear.recv(&mut bytes).expect("it is told");
    text(&bytes[..len]).to_owned()
}

on_both_engines! {
    fn sockets_of_a_service_manager_are_served_and_a_restart_loses_nothing(engine: Engine) {
        let host = Namespace::new().unwrap();
        let addr = "127.0.0.1:5151";
        let sockets = [addr, addr, "[::1]:5151"].map(|addr| activated(&host, addr));
        let fds = sockets.each_ref().map(AsFd::as_fd);
        let (ear, name) = ear(&host, engine == Engine::Mmsg);
        let client = Client::connect(&host, addr.parse().unwrap());
        for payload in [b"before it starts", b"between two runs"] {
            client.send(payload);
            let mut command = started(&fds, &["--json", "--engine", engine.name()]);
            command.env("NOTIFY_SOCKET", &name).env("WATCHDOG_USEC", "30000");
            let reflector = Reflector::attach(host.run(|| command.spawn()).unwrap());
            assert_eq!(reflector.listen(0), addr.parse().unwrap());
            assert_eq!(reflector.listen(1), "[::1]:5151".parse().unwrap());
            assert_eq!(heard(&ear), "READY=1");
            client.expect(payload);
            Client::connect(&host, reflector.listen(1)).ask(b"the other family");
            // Alive again and again, by the counters of every worker.
            (0..3).for_each(|_| assert_eq!(heard(&ear), "WATCHDOG=1"));
            reflector.signal(Signal::TERM);
            wait_until("it stops", || match heard(&ear).as_str() {
                "STOPPING=1" => true,
                other => {
                    assert_eq!(other, "WATCHDOG=1");
                    false
                }
            });
            let (summary, log, status) = reflector.wait();
            assert!(status.success(), "{log}");
            assert_eq!(count(&summary["replied"]), 2);
            // What is fed on the way out does not count for the next.
            ear.set_nonblocking(true).unwrap();
            while ear.recv(&mut [0; 64]).is_ok() {}
            ear.set_nonblocking(false).unwrap();
        }
        // Nothing else would hear of a datagram that came now.
        client.send(b"to be kept");
        let mut bytes = [0; 32];
        let hears = |socket: &UdpSocket| {
            socket.set_nonblocking(true).unwrap();
            socket.recv(&mut bytes).is_ok()
        };
        assert_eq!(sockets.iter().map(hears).filter(|&it| it).count(), 1);
        let _ = fs::remove_file(name);
    }
}

#[test]
fn what_is_no_udp_socket_is_refused_and_what_is_anothers_is_not_looked_at() {
    let body = || {
        let host = Namespace::new().unwrap();
        let stream = host.run(|| TcpListener::bind("127.0.0.1:0")).unwrap();
        let output = to_end(&host, started(&[stream.as_fd()], &[]));
        let sentence = "ERROR cannot take the descriptor 3 (reflector.socket) of the service \
                        manager: it is no UDP socket; ListenDatagram= names UDP sockets, with a \
                        port";
        assert_refused(&output, FAILED, sentence);
        let (unix, _peer) = UnixDatagram::pair().unwrap();
        assert_refused(
            &to_end(&host, started(&[unix.as_fd()], &[])),
            FAILED,
            sentence,
        );

        // One more than there are.
        let udp = activated(&host, "127.0.0.1:5151");
        let mut command = started(&[udp.as_fd()], &[]);
        command.env("LISTEN_FDS", "2");
        let output = to_end(&host, command);
        assert_eq!(
            output.status.code(),
            Some(FAILED),
            "{}",
            text(&output.stderr)
        );
        assert!(text(&output.stderr).contains("cannot take the descriptor 4"));

        // Of the process that has started this one: its own sockets are opened then.
        let args = [
            "--duration",
            "1ms",
            "--listen",
            "127.0.0.1:5152",
            "--cores",
            "1",
        ];
        let mut command = reflector_testkit::command(&args);
        command.env("LISTEN_PID", "1").env("LISTEN_FDS", "1");
        let output = to_end(&host, command);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("ready: echo on 127.0.0.1:5152, "));
    };
    in_namespaces(
        "manager::what_is_no_udp_socket_is_refused_and_what_is_anothers_is_not_looked_at",
        body,
    );
}
