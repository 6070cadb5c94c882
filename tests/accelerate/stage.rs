//! Devices that answer, in namespaces.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use reflector::ipnet::IpNet;
use reflector_accelerate::{Accelerator, Counters, Device, Framing, Local, Routes, Rules, Way};
use reflector_netlab::topology::{Namespace, net};
use reflector_testkit::PORT;
use reflector_testkit::train::Client;

/// What each test asks: nothing, a byte, a little, and what fills a frame.
pub const LENS: [usize; 4] = [0, 1, 64, 1400];
/// Trains: datagrams, and bytes of each.
pub const TRAINS: [(usize, usize); 2] = [(32, 100), (44, 1400)];

/// The program at a device of a namespace, without sockets of its own.
pub struct Accelerated<'a> {
    namespace: &'a Namespace,
    pub program: Accelerator,
}

impl<'a> Accelerated<'a> {
    /// Answers at `device`, which way is said, on `port` of `addrs`, by `rules`.
    pub fn at(
        namespace: &'a Namespace,
        (device, way): (&str, Way),
        addrs: &[&str],
        port: u16,
        rules: Rules,
    ) -> Self {
        let listeners = ["0.0.0.0", "::"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port));
        let program = Accelerator::load(rules, listeners.to_vec()).unwrap();
        let mut accelerated = Self { namespace, program };
        accelerated.set_addresses(device, addrs);
        accelerated.attach(device, way, None);
        accelerated
    }

    /// Has `addrs`, of `device` where that matters, from now on.
    pub fn set_addresses(&mut self, device: &str, addrs: &[&str]) {
        let ifindex = self.namespace.interface_index(device).unwrap();
        let local = |addr: &&str| Local {
            addr: addr.parse().unwrap(),
            ifindex,
        };
        let broadcasts = vec![Ipv4Addr::new(10, 9, 0, 255)];
        let own = addrs.iter().map(local).collect();
        self.program.set_addresses(own, broadcasts).unwrap();
    }

    /// Attaches to one more device.
    pub fn attach(&mut self, device: &str, way: Way, other: Option<[u8; 6]>) {
        let ifindex = self.namespace.interface_index(device).unwrap();
        self.program.set_routes(all_by(ifindex)).unwrap();
        let framing = match device {
            "tun0" => Framing::None,
            _ => Framing::Ethernet,
        };
        let device = Device {
            ifindex,
            routed_by: ifindex,
            way,
            framing,
            is_loopback: device == "lo",
            other,
        };
        let program = &mut self.program;
        self.namespace.run(|| program.attach(&device)).unwrap();
    }

    /// Lets go of a device.
    pub fn detach(&mut self, device: &str) {
        let ifindex = self.namespace.interface_index(device).unwrap();
        self.program.detach(ifindex).unwrap();
    }

    /// What it has answered.
    pub fn counted(&self) -> Counters {
        self.program.counters().unwrap()
    }
}

/// What rtnetlink has no method for here.
pub fn ip(namespace: &Namespace, args: &str) {
    let run = || Command::new("ip").args(args.split(' ')).status();
    assert!(namespace.run(run).unwrap().success(), "ip {args}");
}

/// All are reached by one device.
pub fn all_by(ifindex: u32) -> Routes {
    let nets = ["0.0.0.0/0", "::/0"].map(|net| (net.parse().unwrap(), vec![ifindex]));
    Routes(BTreeMap::from(nets))
}

/// Everybody may ask, from any port but those of reflectors.
pub fn everybody() -> Rules {
    rules(&["0.0.0.0/0", "::/0"], false)
}

/// Peers in `prefixes` may ask.
pub fn rules(prefixes: &[&str], has_loop_guard: bool) -> Rules {
    let parse = |text: &&str| text.parse::<IpNet>().unwrap();
    Rules {
        prefixes: prefixes.iter().map(parse).collect(),
        denied_ports: vec![0, PORT],
        has_loop_guard,
        hop_limit: 64,
        tos: 0,
    }
}

/// The MAC of the bridge of [`bridge_and_port`].
pub const BRIDGE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// A host with the bridge `br0` and its port `port`, behind which a peer is at `wire`.
pub fn bridge_and_port() -> (Namespace, Namespace) {
    let (server, peer) = (Namespace::new().unwrap(), Namespace::new().unwrap());
    server.add_bridge("br0").unwrap();
    server.add_veth("port", &peer, "wire").unwrap();
    server.set_master("port", "br0").unwrap();
    // Left alone, a bridge wears the address of its port.
    ip(&server, "link set br0 address 02:00:00:00:00:01");
    server.add_address("br0", net("10.9.0.1/24")).unwrap();
    peer.add_address("wire", net("10.9.0.2/24")).unwrap();
    for (namespace, link) in [(&server, "br0"), (&server, "port"), (&peer, "wire")] {
        namespace.set_up(link).unwrap();
    }
    for (namespace, link) in [(&server, "br0"), (&peer, "wire")] {
        namespace.wait_ready(link).unwrap();
    }
    (server, peer)
}

/// Asks `ip` from `peer` for all of [`LENS`] and [`TRAINS`]; each has to come back, from there.
/// Returns how many datagrams that were.
pub fn ask_all(peer: &Namespace, ip: &str) -> usize {
    let ip: IpAddr = ip.parse().unwrap();
    let mut client = Client::any(peer, SocketAddr::new(ip, PORT));
    client.watch_hop_limits();
    client.watch_tos();
    client.set_tos(0x28);
    client.set_hop_limit(7);
    for len in LENS {
        client.send(&vec![len as u8; len]);
        let answer = client.receive();
        assert_eq!(answer.bytes, vec![len as u8; len]);
        assert_eq!(
            (answer.hop_limit, answer.tos),
            (Some(64), Some(0)),
            "as a socket's"
        );
    }
    let mut count = LENS.len();
    for (datagrams, len) in TRAINS {
        let bytes: Vec<u8> = (0..datagrams * len).map(|it| it as u8).collect();
        let train = client.send_train(&bytes, len);
        client.expect_back(&train);
        count += datagrams;
    }
    assert!(client.leftover().is_empty(), "one reply each");
    count
}
