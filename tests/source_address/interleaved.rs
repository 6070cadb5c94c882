//! Many addresses asked in turn: batches and trains mix none of them up.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use reflector_netlab::naive::Wildcard;
use reflector_netlab::topology::{DockerHost, net};
use reflector_testkit::asking::{beside_naive_server, client};
use reflector_testkit::{Engine, PORT, Reflector, on_both_engines};
use reflector_udp::sockopt;
use serde_json::Value;

use super::{DUAL_STACK, IPV4, ip};

on_both_engines! {
    fn of_64_addresses_interleaved_none_is_mistaken_in_100_000_datagrams(engine: Engine) {
        let (docker, addresses) = with_addresses("10.64.0", "10.64.0", 64);
        let client = client(&docker.container, ip("0.0.0.0"));
        beside_naive_server(&docker.host, Wildcard::Ipv4, PORT, || {
            assert_eq!(ask_all(&client, &addresses, 1), addresses.len(), "all are mistaken");
        });
        assert_none_is_mistaken(engine, &docker, IPV4, &client, &addresses, 1, 100_000);
    }

    /// Requests come in trains of eight, so that a buffer holds several as well.
    fn of_64_addresses_none_is_mistaken_in_100_000_datagrams_of_trains(engine: Engine) {
        let (docker, addresses) = with_addresses("10.64.0", "10.64.0", 64);
        let client = client(&docker.container, ip("0.0.0.0"));
        sockopt::set_int(&client, libc::SOL_UDP, libc::UDP_SEGMENT, SERIAL_LEN as i32).unwrap();
        let summary =
            assert_none_is_mistaken(engine, &docker, IPV4, &client, &addresses, 8, 100_000);
        assert!(summary["trains_received"].as_u64().unwrap() > 0, "{summary}");
    }

    fn of_64_addresses_of_both_families_none_is_mistaken_on_one_socket(engine: Engine) {
        let (docker, addresses) = with_addresses("10.64.0", "fd64:", 64);
        // A dual-stack client as well: it writes and reads IPv4 addresses v4-mapped.
        let client = client(&docker.container, ip("::"));
        let mapped: Vec<SocketAddr> = addresses.iter().map(mapped).collect();
        beside_naive_server(&docker.host, Wildcard::DualStack, PORT, || {
            assert_eq!(ask_all(&client, &mapped, 1), mapped.len(), "all are mistaken");
        });
        assert_none_is_mistaken(engine, &docker, DUAL_STACK, &client, &mapped, 1, 20_000);
    }
}

/// Bytes of payload: which address is asked, and which datagram of the window it is.
const SERIAL_LEN: usize = 4;

/// The picture with `count` more addresses on the host's eth0, every other with each prefix; and
/// these, with the port.
fn with_addresses(even: &str, odd: &str, count: usize) -> (DockerHost, Vec<SocketAddr>) {
    let docker = DockerHost::new().unwrap();
    let address = |index: usize| {
        let prefix = if index.is_multiple_of(2) { even } else { odd };
        let number = index + 1;
        if prefix.contains(':') {
            net(&format!("{prefix}:{number:x}/64"))
        } else {
            net(&format!("{prefix}.{number}/24"))
        }
    };
    let addresses: Vec<_> = (0..count).map(address).collect();
    for &address in &addresses {
        docker.host.add_address("eth0", address).unwrap();
    }
    let with_port = |address: &ipnet::IpNet| SocketAddr::new(address.addr(), PORT);
    let addresses = addresses.iter().map(with_port).collect();
    (docker, addresses)
}

fn mapped(address: &SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => *address,
    }
}

/// Asks each of `addresses` for `train_len` datagrams with one send, and then waits for as many
/// replies as there were datagrams; how many of them came from another address than was asked.
fn ask_all(client: &UdpSocket, addresses: &[SocketAddr], train_len: usize) -> usize {
    // Few enough for the client's receive buffer: none is lost, so that every reply is seen.
    let window = 128 / train_len;
    let mut mistaken = 0;
    for (first, asked) in addresses.chunks(window).enumerate() {
        for (index, address) in asked.iter().enumerate() {
            let serial = |segment| [(first * window + index) as u8, segment as u8, 0, 0];
            let train: Vec<u8> = (0..train_len).flat_map(serial).collect();
            client.send_to(&train, address).unwrap();
        }
        let mut unanswered = vec![true; 256 * train_len];
        for _ in 0..asked.len() * train_len {
            let mut bytes = [0; 2 * SERIAL_LEN];
            let (len, source) = client.recv_from(&mut bytes).expect("none is lost");
            let (index, segment) = (usize::from(bytes[0]), usize::from(bytes[1]));
            assert_eq!(len, SERIAL_LEN);
            assert!(
                std::mem::take(&mut unanswered[index * train_len + segment]),
                "answered twice"
            );
            mistaken += usize::from(source.ip() != addresses[index].ip());
        }
    }
    mistaken
}

/// A reflector with `args` answers at least `count_min` datagrams of `client`, each from the
/// address asked; its summary.
fn assert_none_is_mistaken(
    engine: Engine,
    docker: &DockerHost,
    args: &[&str],
    client: &UdpSocket,
    addresses: &[SocketAddr],
    train_len: usize,
    count_min: usize,
) -> Value {
    let args = [args, &["--cores", "1"]].concat();
    let reflector = Reflector::start(&docker.host, engine, &args);
    let per_round = addresses.len() * train_len;
    let rounds = count_min.div_ceil(per_round);
    for _ in 0..rounds {
        assert_eq!(ask_all(client, addresses, train_len), 0);
    }
    let summary = reflector.stop();
    let count = |key: &str| summary[key].as_u64().unwrap();
    assert_eq!(count("replied"), (rounds * per_round) as u64, "{summary}");
    // Neighbours in time never ask the same address, so a batch of two holds two addresses.
    assert!(
        count("batches") < count("received") / train_len as u64,
        "{summary}"
    );
    summary
}
