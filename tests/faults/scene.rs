//! A server, a peer and the switch between them; a load that runs while something breaks.

use std::env;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use reflector_netlab::topology::{Namespace, net};
use reflector_testkit::{Engine, PORT, Reflector, command, document, own_lines, wait_until};
use serde_json::Value;

/// Where the server is asked, of either family.
pub const SERVER: [&str; 2] = ["10.9.0.1", "fd09::1"];
/// What each load sends a second. One that is not answered in three seconds is lost.
const LOAD: &str = "--rate 1k --timeout 3s --interval 0";
/// How long a load runs before something breaks, and how long that lasts.
pub const CALM: Duration = Duration::from_millis(300);

/// Two hosts at a switch, which stays when one of them loses its link.
pub struct Scene {
    pub server: Namespace,
    pub peer: Namespace,
    switch: Namespace,
}

impl Scene {
    pub fn new() -> Self {
        let [server, peer, switch] = [(); 3].map(|()| Namespace::new().unwrap());
        // A bridge for each network: a host answers for all of its addresses at each (arp_ignore).
        for bridge in ["bridge0", "bridge1"] {
            switch.add_bridge(bridge).unwrap();
            switch.set_up(bridge).unwrap();
        }
        let scene = Self {
            server,
            peer,
            switch,
        };
        scene.plug_in(&scene.server, "v0", "server", "0", 1);
        scene.plug_in(&scene.peer, "v0", "peer", "0", 2);
        scene
    }

    /// Connects `host` to the switch by `name`, there called `port`, with addresses that end in
    /// `number`: 10.9.0.1 and fd09::1 of the network 0.
    pub fn plug_in(&self, host: &Namespace, name: &str, port: &str, network: &str, number: u8) {
        host.add_veth(name, &self.switch, port).unwrap();
        let bridge = format!("bridge{network}");
        self.switch.set_master(port, &bridge).unwrap();
        self.switch.set_up(port).unwrap();
        let v6 = if network == "0" { "fd09" } else { "fd0a" };
        let addresses = |number: u8| {
            [
                format!("10.9.{network}.{number}/24"),
                format!("{v6}::{number}/64"),
                format!("fe80::{number}/64"),
            ]
        };
        for address in &addresses(number) {
            host.add_address(name, net(address)).unwrap();
        }
        host.set_up(name).unwrap();
        host.wait_ready(name).unwrap();
        self.switch.wait_ready(port).unwrap();
        // The hosts of a network are 1 and 2.
        announce(host, name, &addresses(number), &addresses(3 - number));
    }

    /// The server with what is `asked` of it, on two workers.
    pub fn start(&self, engine: Engine, args: &[&str]) -> Reflector {
        let reflector = Reflector::start(&self.server, engine, &with_listen(args));
        self.find(&SERVER.map(at));
        reflector
    }

    /// Asks each of `asked` until it answers, so that no load looks for its neighbour.
    pub fn find(&self, asked: &[SocketAddr]) {
        for &asked in asked {
            wait_until("it answers", || self.is_answered(asked));
        }
    }

    /// Whether a fresh peer is answered within a moment.
    pub fn is_answered(&self, asked: SocketAddr) -> bool {
        let any = if asked.is_ipv4() {
            "0.0.0.0:0"
        } else {
            "[::]:0"
        };
        let socket = self.peer.run(|| UdpSocket::bind(any).unwrap());
        let timeout = Some(Duration::from_millis(200));
        socket.set_read_timeout(timeout).unwrap();
        socket.connect(asked).is_ok()
            && socket.send(b"is anybody there").is_ok()
            && socket.recv(&mut [0; 64]).is_ok()
    }

    /// Begins to load `asked`, for as long as `seconds` says.
    pub fn load(&self, asked: &str, seconds: f64) -> Load {
        let seconds = seconds.to_string();
        let args = ["load", asked, "--json", "--duration", &seconds];
        let all: Vec<_> = args.into_iter().chain(LOAD.split(' ')).collect();
        self.load_with(&all)
    }

    pub fn load_with(&self, args: &[&str]) -> Load {
        Load(self.peer.run(|| command(args).spawn().unwrap()))
    }

    /// Plays a fault: the server is asked all the while at `asked` of the peer, `fault` happens in
    /// the middle, and fresh peers are answered after it.
    pub fn play(
        &self,
        reflector: Reflector,
        asked: &str,
        seconds: f64,
        fault: impl FnOnce(&Reflector),
    ) -> Played {
        let load = self.load(asked, seconds);
        thread::sleep(CALM);
        fault(&reflector);
        let load = load.end();
        self.find(&[SERVER[0]].map(at));
        Played::end(load, reflector)
    }
}

/// Has `host` look for each of `others` from one of `addresses`, as what sets up an interface does:
/// the neighbour learns that they have another hardware address now.
fn announce(host: &Namespace, name: &str, addresses: &[String], others: &[String]) {
    let scope = host.interface_index(name).unwrap();
    let socket_addr = |address: &String, port| match net(address).addr() {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => {
            SocketAddrV6::new(ip, port, 0, scope).into()
        }
        ip => SocketAddr::new(ip, port),
    };
    for (own, other) in addresses.iter().zip(others) {
        let socket = host.run(|| UdpSocket::bind(socket_addr(own, 0)).unwrap());
        // The other host may not be there yet.
        let _ = socket.send_to(b"here", socket_addr(other, PORT));
    }
}

/// Whether all is to be tried, as the script does; a test like others is over in seconds.
pub fn is_thorough() -> bool {
    env::var_os("REFLECTOR_FAULTS").is_some()
}

/// All of `variants` of a case, or the first.
pub fn some_of<T>(variants: &[T]) -> &[T] {
    &variants[..if is_thorough() { variants.len() } else { 1 }]
}

/// `program`, started by another one: `starter ARGS… PROGRAM…`.
pub fn started_by(starter: &str, args: &[&str], program: &Command) -> Command {
    let mut command = Command::new(starter);
    command
        .args(args)
        .arg(program.get_program())
        .args(program.get_args());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// The arguments of every server here, and `args`.
pub fn with_listen<'a>(args: &[&'a str]) -> Vec<&'a str> {
    let mut all = args.to_vec();
    if !args.contains(&"--listen") {
        all.extend(["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"]);
    }
    if !args.contains(&"--cores") && !args.contains(&"--cpus") {
        all.extend(["--cores", "2"]);
    }
    all
}

/// Where `ip` is asked.
pub fn at(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().expect("an address"), PORT)
}

pub fn count(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is no count"))
}

/// What is counted by reason or errno.
pub fn sum(counts: &Value) -> u64 {
    counts
        .as_object()
        .expect("counts by name")
        .values()
        .map(count)
        .sum()
}

/// A `reflector load` that runs.
pub struct Load(pub Child);

impl Load {
    /// Waits for its end; its summary, whose counters must add up.
    pub fn end(self) -> Value {
        let output = self.0.wait_with_output().expect("it is our child");
        summary_of(&output)
    }
}

pub fn summary_of(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().last().unwrap_or_else(|| panic!("{said}"));
    let summary = document("load", last);
    let at = |key: &str| count(&summary[key]);
    assert_eq!(at("sent"), at("received") + at("lost"), "{summary}");
    let missing = &summary["missing"];
    let bound = |which: &str| {
        let parts = ["queue", "own_sockets", "elsewhere"].map(|part| match &missing[part] {
            Value::Null => 0,
            part => count(&part[which]),
        });
        count(&missing["answered_otherwise"]) + parts.iter().sum::<u64>()
    };
    assert!(bound("least") <= at("lost"), "{summary}");
    assert!(at("lost") <= bound("most"), "{summary}");
    assert_eq!(at("refused"), count(&missing["refused"]), "{summary}");
    assert_eq!(summary["wrong_source"]["total"], 0, "{summary}");
    summary
}

/// What both sides say of a fault.
pub struct Played {
    pub load: Value,
    pub server: Value,
    pub log: String,
}

impl Played {
    /// Ends the server in order; that its counters add up is asserted there.
    pub fn end(load: Value, reflector: Reflector) -> Self {
        let (server, log) = reflector.stop_with_log();
        let played = Self { load, server, log };
        // What came back was sent.
        assert!(played.at("received") <= count(&played.server["replied"]));
        played
    }

    /// A count of the generator's.
    pub fn at(&self, key: &str) -> u64 {
        count(&self.load[key])
    }

    /// What the server says of itself.
    pub fn said(&self) -> Vec<&str> {
        own_lines(&self.log).collect()
    }

    /// Writes the row of the table: to stderr, where the script reads it.
    pub fn tell(&self, case: &str, engine: Engine) {
        let server = &self.server;
        let cells = [
            case.to_owned(),
            engine.name().to_owned(),
            self.at("sent").to_string(),
            self.at("received").to_string(),
            self.at("lost").to_string(),
            self.at("refused").to_string(),
            server["received"].to_string(),
            server["replied"].to_string(),
            not_replied(server),
            self.said().join(" / "),
        ];
        tell_cells(&cells);
    }
}

/// What a server says became of what it has not replied to.
pub fn not_replied(server: &Value) -> String {
    let mut not_replied = Vec::new();
    for key in ["dropped", "send_errors"] {
        let counts = server[key].as_object().expect("counts by name");
        let counts = counts.iter().filter(|(_, count)| **count != 0);
        not_replied.extend(counts.map(|(name, count)| format!("{name} {count}")));
    }
    for key in ["kernel_drops", "sndbuf_errors", "queue_drops"] {
        if let Some(count) = server[key].as_u64().filter(|&count| count > 0) {
            not_replied.push(format!("{key} {count}"));
        }
    }
    not_replied.join(", ")
}

/// A row of the table, in the order of its columns.
pub fn tell_cells(cells: &[String]) {
    let cells: Vec<_> = cells
        .iter()
        .map(|it| if it.is_empty() { "-" } else { it })
        .collect();
    eprintln!("fault\t{}", cells.join("\t"));
}
