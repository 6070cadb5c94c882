//! What the kernel's counters make of a train, as COUNTERS.md says: each row is measured.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, UdpSocket};

use reflector_measure::snmp;
use reflector_netlab::capture::Capture;
use reflector_netlab::ethtool;
use reflector_netlab::observe::{counter, counter6};
use reflector_netlab::topology::{Namespace, in_force, in_namespaces, net, nft};
use reflector_netlink::{Netlink, Queue};
use reflector_testkit::train::Client;
use reflector_testkit::{packets_counted, tc, wait_until};
use reflector_udp::sockopt;

const TEST_NAME: &str = "the_table_of_counters_is_what_is_measured";
/// Trains that are sent, and datagrams of each.
const TRAINS: u64 = 7;
const LEN: u64 = 10;
/// Bytes of a datagram.
const DATAGRAM_LEN: usize = 100;

const COUNT: &str = "table inet m { counter seen { }; chain c { type filter hook HOOK priority 0;
                     udp dport 5151 counter name seen; }; }";
const LIMIT: &str = "table inet l { chain c { type filter hook input priority 1;
                     udp dport 5151 limit rate 1/day burst 1 packets accept;
                     udp dport 5151 drop; }; }";

/// What was counted, by the row of the table.
type Rows = BTreeMap<&'static str, u64>;

/// A sender and a receiver at the two ends of a link.
struct Link {
    sender: Namespace,
    receiver: Namespace,
    server: SocketAddr,
}

/// A socket that receives.
struct Receiver(UdpSocket);

#[test]
fn the_table_of_counters_is_what_is_measured() {
    in_namespaces(TEST_NAME, || {
        let text = fs::read_to_string("COUNTERS.md").unwrap();
        let table = table(&text);
        for server in ["10.9.0.1:5151", "[fd09::1]:5151"] {
            let measured = [false, true].map(|is_cut| {
                let link = Link::new(server.parse().unwrap(), is_cut);
                link.measure(is_cut)
            });
            let [Some(whole), Some(cut)] = measured else {
                return;
            };
            for (row, &count) in &whole {
                let cells = [cell(count), cell(cut[row])];
                assert_eq!(
                    table.get(row),
                    Some(&cells),
                    "{row}, {server}: {count} {}",
                    cut[row]
                );
            }
            let is_all = whole.len() == table.len() || server.starts_with('[');
            assert!(is_all, "every row is measured: {table:?}");
        }
    });
}

/// The rows of the table, each with its two cells.
fn table(text: &str) -> BTreeMap<&str, [String; 2]> {
    let (_, below) = text
        .split_once("<!-- measured: one train -->\n")
        .expect("a table");
    let lines = below
        .lines()
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    lines
        .map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [row, whole, cut] = cells[..] else {
                panic!("three columns: {line}");
            };
            (row, [whole.to_owned(), cut.to_owned()])
        })
        .collect()
}

/// What all trains together were counted as, for one of them.
fn cell(count: u64) -> String {
    match count {
        TRAINS => "1".to_owned(),
        _ if count == TRAINS * LEN => "n".to_owned(),
        _ => format!("{count} of {TRAINS} trains"),
    }
}

impl Link {
    fn new(server: SocketAddr, is_cut: bool) -> Self {
        let (sender, receiver) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        sender.add_veth("eth0", &receiver, "eth0").unwrap();
        let addresses = match server {
            SocketAddr::V4(_) => ["10.9.0.2/24", "10.9.0.1/24"],
            SocketAddr::V6(_) => ["fd09::2/64", "fd09::1/64"],
        };
        for (namespace, address) in [&sender, &receiver].into_iter().zip(addresses) {
            if server.is_ipv4() {
                // Nor is there anything else that IPv6 would send by itself.
                let _ = namespace.set_sysctl("ipv6/conf/all/disable_ipv6", "1");
                let _ = namespace.set_sysctl("ipv6/conf/default/disable_ipv6", "1");
            }
            let _ = namespace.set_sysctl("ipv6/conf/eth0/router_solicitations", "0");
            namespace.set_up("eth0").unwrap();
            namespace.add_address("eth0", net(address)).unwrap();
        }
        sender.wait_ready("eth0").unwrap();
        let switch = || ethtool::set_feature("eth0", "tx-udp-segmentation", !is_cut);
        sender.run(switch).unwrap();
        Self {
            sender,
            receiver,
            server,
        }
    }

    /// All rows, for all trains together; `None` where a program is missing.
    fn measure(&self, is_cut: bool) -> Option<Rows> {
        let has_counters = [(&self.sender, "output"), (&self.receiver, "input")]
            .into_iter()
            .all(|(it, hook)| in_force(TEST_NAME, nft(it, &COUNT.replace("HOOK", hook))));
        if !has_counters
            || !tc(
                TEST_NAME,
                &self.sender,
                "qdisc add dev eth0 root pfifo limit 99",
            )
        {
            return None;
        }
        // Finds the neighbour.
        let socket = self.open(true, 1 << 20);
        Client::any(&self.sender, self.server).send(b"first");
        wait_until("the first has come", || socket.take().0 > 0);

        let capture = Capture::start(&self.receiver, "eth0").unwrap();
        let before = self.counters();
        self.send_and_wait(is_cut);
        let mut rows = self.counters();
        for (row, count) in &mut rows {
            // In IPv6 there is more than trains, and never less.
            *count = (*count - before[row]).min(TRAINS * LEN);
        }
        assert_eq!(socket.take().1, TRAINS * LEN);
        let packets = capture.stop().unwrap();
        let udp = packets.iter().filter(|it| it.is_about_udp());
        rows.insert("receiver: capture, packets", udp.count() as u64);

        let in_trains = self.received(&socket, is_cut);
        rows.insert(
            "receiver: `Udp: InDatagrams`, socket with UDP_GRO",
            in_trains,
        );
        drop(socket);
        let singly = self.received(&self.open(false, 1 << 20), is_cut);
        rows.insert("receiver: `Udp: InDatagrams`, socket without", singly);
        for (row, has_gro) in [
            (
                "receiver: full buffer, `RcvbufErrors`, `SO_MEMINFO` drops, socket with UDP_GRO",
                true,
            ),
            (
                "receiver: full buffer, `RcvbufErrors`, `SO_MEMINFO` drops, socket without",
                false,
            ),
        ] {
            rows.insert(row, self.dropped(has_gro, is_cut));
        }
        rows.insert(
            "sender: `tc -s qdisc`, dropped; `SndbufErrors`: a full queue that takes trains whole",
            self.refused(),
        );
        nft(&self.receiver, LIMIT).unwrap();
        let socket = self.open(true, 1 << 20);
        self.send_and_wait(is_cut);
        rows.insert(
            "receiver: datagrams that a limit of one packet lets pass",
            socket.take().1 * TRAINS,
        );
        Some(rows)
    }

    /// The counters of rows that need nothing special.
    fn counters(&self) -> Rows {
        let sum = |namespace: &Namespace, group: &str, names: &[&str]| -> u64 {
            let file = match (self.server, group) {
                (SocketAddr::V6(_), _) => "snmp6",
                (_, "IpExt") => "netstat",
                _ => "snmp",
            };
            let text = namespace.run(|| snmp::read(file)).unwrap();
            let find = |name: &&str| match self.server {
                SocketAddr::V4(_) => snmp::find(&text, group, name),
                SocketAddr::V6(_) => {
                    snmp::find6(&text, &format!("{}6{name}", group.trim_end_matches("Ext")))
                }
            };
            names
                .iter()
                .map(|name| find(name).expect("the kernel counts it"))
                .sum()
        };
        let Self {
            sender, receiver, ..
        } = self;
        let marks = ["InNoECTPkts", "InECT0Pkts", "InECT1Pkts", "InCEPkts"];
        let mut rows = Rows::from([
            (
                "sender: nft output, packets",
                packets_counted(sender, "seen"),
            ),
            (
                "receiver: nft input, packets",
                packets_counted(receiver, "seen"),
            ),
            (
                "receiver: `IpExt: InNoECTPkts` and its kin",
                sum(receiver, "IpExt", &marks),
            ),
        ]);
        if self.server.is_ipv6() {
            // What follows counts what hosts with IPv6 send by themselves as well.
            return rows;
        }
        let both = |namespace, names: [(&str, &str); 2]| {
            let [one, other] = names.map(|(group, name)| sum(namespace, group, &[name]));
            assert_eq!(one, other, "{names:?}");
            one
        };
        let queue = queue(sender);
        rows.extend([
            (
                "sender: `Udp: OutDatagrams`, `Ip: OutRequests`",
                both(sender, [("Udp", "OutDatagrams"), ("Ip", "OutRequests")]),
            ),
            (
                "receiver: `Ip: InReceives`, `Ip: InDelivers`",
                both(receiver, [("Ip", "InReceives"), ("Ip", "InDelivers")]),
            ),
            ("sender: `tc -s qdisc`, packets sent", queue.packets.into()),
            ("sender: `ip -s link`, TX packets", device(sender, 9)),
            ("receiver: `ip -s link`, RX packets", device(receiver, 1)),
        ]);
        rows
    }

    /// What `Udp: InDatagrams` counts when `socket` receives all trains.
    fn received(&self, socket: &Receiver, is_cut: bool) -> u64 {
        let before = self.of_udp(&self.receiver, "InDatagrams");
        self.send_and_wait(is_cut);
        assert_eq!(socket.take().1, TRAINS * LEN);
        self.of_udp(&self.receiver, "InDatagrams") - before
    }

    /// What a full buffer counts, for all trains: those that found room are counted as the others.
    fn dropped(&self, has_gro: bool, is_cut: bool) -> u64 {
        let socket = self.open(has_gro, 0);
        let before = self.of_udp(&self.receiver, "RcvbufErrors");
        self.send_and_wait(is_cut);
        let drops = self.of_udp(&self.receiver, "RcvbufErrors") - before;
        assert_eq!(u64::from(sockopt::drops(&socket.0).unwrap()), drops);
        let lost = TRAINS * LEN - socket.take().1;
        assert!(lost > 0 && drops > 0);
        drops * TRAINS * LEN / lost
    }

    /// What a queue without room counts.
    fn refused(&self) -> u64 {
        tc(
            TEST_NAME,
            &self.sender,
            "qdisc replace dev eth0 root pfifo limit 0",
        );
        let before = self.of_udp(&self.sender, "SndbufErrors");
        self.send();
        let errors = self.of_udp(&self.sender, "SndbufErrors") - before;
        let queue = queue(&self.sender);
        // Others' packets may be among them.
        assert!(
            (errors..errors + 3).contains(&u64::from(queue.drops)),
            "{queue:?}"
        );
        tc(TEST_NAME, &self.sender, "qdisc delete dev eth0 root");
        errors
    }

    fn of_udp(&self, namespace: &Namespace, name: &str) -> u64 {
        match self.server {
            SocketAddr::V4(_) => counter(namespace, "Udp", name).unwrap(),
            SocketAddr::V6(_) => counter6(namespace, &format!("Udp6{name}")).unwrap(),
        }
    }

    fn open(&self, has_gro: bool, buffer_len: i32) -> Receiver {
        let socket = self.receiver.run(|| UdpSocket::bind(self.server).unwrap());
        let set = |level, option, value| sockopt::set_int(&socket, level, option, value).unwrap();
        set(libc::SOL_UDP, libc::UDP_GRO, has_gro.into());
        set(libc::SOL_SOCKET, libc::SO_RCVBUF, buffer_len);
        socket.set_nonblocking(true).unwrap();
        Receiver(socket)
    }

    fn send(&self) {
        let client = Client::any(&self.sender, self.server);
        for _ in 0..TRAINS {
            client.send_train(&[7; DATAGRAM_LEN * LEN as usize], DATAGRAM_LEN);
        }
    }

    /// Sends all trains, and waits until they have arrived.
    fn send_and_wait(&self, is_cut: bool) {
        let before = packets_counted(&self.receiver, "seen");
        self.send();
        let expected = if is_cut { TRAINS * LEN } else { TRAINS };
        wait_until("all trains have arrived", || {
            packets_counted(&self.receiver, "seen") >= before + expected
        });
    }
}

impl Receiver {
    /// Takes what has come: buffers, and datagrams.
    fn take(&self) -> (u64, u64) {
        let mut buffer = [0; 65_535];
        let (mut buffers, mut datagrams) = (0, 0);
        while let Ok(len) = self.0.recv(&mut buffer) {
            buffers += 1;
            datagrams += len.div_ceil(DATAGRAM_LEN) as u64;
        }
        (buffers, datagrams)
    }
}

/// The counter of `eth0` in the column `at` of `/proc/net/dev`.
fn device(namespace: &Namespace, at: usize) -> u64 {
    let text = namespace.run(|| snmp::read("dev")).unwrap();
    let mut rows = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("eth0:"));
    let count = rows.next().and_then(|row| row.split_whitespace().nth(at));
    count.expect("a column").parse().expect("a count")
}

/// The queue of `eth0`.
fn queue(namespace: &Namespace) -> Queue {
    namespace.run(|| {
        let mut netlink = Netlink::open().unwrap();
        let index = netlink.link("eth0").unwrap().header.index;
        netlink
            .queue(index)
            .unwrap()
            .expect("the test has added it")
    })
}
