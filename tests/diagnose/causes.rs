//! Full tables, NAT on the server's host, docker-proxy: each beside what looks most like it.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};

use reflector_netlab::observe::udp_sockets;
use reflector_netlab::topology::{DockerHost, Namespace, in_force, in_namespaces, nft, skip};
use reflector_testkit::{Engine, LISTEN, PORT, Reflector, conntrack, wait_until};
use serde_json::Value;

use super::{BRIEF, PATIENT, SHORT, ask, diagnose, kinds, outcomes};

/// The shell commands of a diagnosis, or of a check of the machine.
fn commands(object: &Value) -> Vec<&str> {
    let list = object.get("remedies").unwrap_or(&object["checks"]);
    let list = list.as_array().unwrap().iter();
    list.filter_map(|it| it["command"].as_str()).collect()
}

fn shell(namespace: &Namespace, line: &str) -> String {
    let output = namespace.run(|| Command::new("sh").args(["-c", line]).output());
    let output = output.unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_full_table_is_told_here_and_suspected_there() {
    let name = "causes::a_full_table_is_told_here_and_suspected_there";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        // What is sent by 172.17.0.1 as a flow of its own is given another source, which is how an
        // answer would leave from there if only the question went untracked.
        let rules = nft(
            &docker.host,
            "table inet nat {
                chain postrouting {
                    type nat hook postrouting priority srcnat;
                    udp sport 9007 oifname \"docker0\" masquerade;
                }
            }",
        );
        if !in_force(name, rules) || !conntrack::fill_table(name, &docker.host) {
            return;
        }
        let listen = ["--listen", "0.0.0.0:9007"];
        let reflector = Reflector::start(&docker.host, Engine::Mmsg, &listen);
        let idle = docker
            .outside
            .run(|| UdpSocket::bind("0.0.0.0:9007").unwrap());

        // Here: the kernel says so.
        let (exit, object) = diagnose(&docker.host, &[&SHORT[..], &["172.16.13.2"]].concat());
        assert_eq!(
            (exit, &object["verdict"]),
            (1, &"unsent".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["table_full"]);
        assert!(object["conntrack_drops"].as_u64().unwrap() >= 4, "{object}");
        assert_eq!(outcomes(&object), ["unsent"; 4]);
        assert_eq!(object["attempts"][0]["error"], "EPERM");
        drop(idle);

        // There: silence, as of a server that is not interested.
        let asking = [&SHORT[..], &["172.16.13.13"]].concat();
        let (exit, object) = diagnose(&docker.container, &asking);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"silent".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["nothing_seen"]);
        let text = object["findings"][0]["text"].as_str().unwrap();
        assert!(text.contains("table on the server's host"), "{text}");

        // The check of the machine says what could not be tried, and its remedy works.
        let (exit, object) = diagnose(&docker.host, &[]);
        assert_eq!(exit, 1);
        let checks = object["checks"].as_array().unwrap();
        let check = |name: &str| checks.iter().find(|it| it["name"] == name).unwrap();
        let trains = check("UDP_GRO, UDP_SEGMENT");
        let found = trains["found"].as_str().unwrap();
        assert!(
            found.contains("could not be tried") && trains["is_ok"] == true,
            "{trains}"
        );
        let conntrack = check("conntrack");
        assert!(
            conntrack["found"].as_str().unwrap().starts_with("full, "),
            "{conntrack}"
        );
        shell(&docker.host, conntrack["command"].as_str().unwrap());
        let asking = [&PATIENT[..], &["172.16.13.13"]].concat();
        let (exit, object) = diagnose(&docker.container, &asking);
        assert_eq!(exit, 0, "{object}");
        reflector.stop();
    });
}

/// A NAT on the server's host that takes a right answer for a flow of its own, and what mends it.
#[test]
fn nat_on_the_servers_host_is_named_and_its_remedy_works() {
    let name = "causes::nat_on_the_servers_host_is_named_and_its_remedy_works";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let rules = nft(
            &docker.host,
            "table inet nat {
                chain prerouting {
                    type filter hook prerouting priority raw;
                    udp dport 5151 notrack;
                }
                chain postrouting {
                    type nat hook postrouting priority srcnat;
                    udp sport 5151 oifname \"docker0\" masquerade;
                }
            }",
        );
        if !in_force(name, rules) {
            return;
        }
        let reflector = Reflector::start(&docker.host, Engine::Mmsg, LISTEN);
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &BRIEF);
        assert_eq!(exit, 4, "{object}");
        assert_eq!(
            kinds(&object),
            ["gateway", "possible_causes", "connected_socket"]
        );
        let said = object.to_string();
        assert!(
            said.contains("docker-proxy") && said.contains("masquerade"),
            "{said}"
        );
        let commands = commands(&object);
        let listening = shell(&docker.host, commands[0]);
        assert!(listening.contains("reflector"), "{listening}");
        // From the right source to the client, and back to another address.
        let entries = shell(&docker.host, commands[2]);
        let is_told = |it: &str| {
            let from = it.find("src=172.16.13.13 dst=172.17.0.3 sport=5151");
            from.is_some() && it.contains("dst=172.17.0.1 sport=")
        };
        assert!(entries.lines().any(is_told), "{entries}");
        shell(&docker.host, commands[3]);
        shell(&docker.host, &format!("{} || true", commands[4]));
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &PATIENT);
        assert_eq!(exit, 0, "{object}");
        reflector.stop();
    });
}

/// The real docker-proxy, as Docker starts it for a published port.
struct DockerProxy(Child);

impl DockerProxy {
    fn start(namespace: &Namespace, to: Ipv4Addr) -> Self {
        // It says on descriptor 3 that it is ready, and closes it.
        let line = format!(
            "exec docker-proxy -proto udp -host-ip 0.0.0.0 -host-port {PORT} -container-ip {to} \
             -container-port {PORT} 3> /dev/null"
        );
        let mut proxy = Command::new("sh");
        proxy.args(["-c", &line]).stderr(Stdio::null());
        let proxy = Self(namespace.run(|| proxy.spawn()).unwrap());
        wait_until("docker-proxy listens", || {
            let sockets = udp_sockets(namespace).unwrap();
            sockets.iter().any(|it| it.port() == PORT)
        });
        proxy
    }
}

impl Drop for DockerProxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// docker-proxy holds the port; a flow that was begun before Docker's NAT rule still goes to it.
#[test]
fn docker_proxy_and_a_flow_that_is_stale_because_of_it_are_told_apart() {
    let name = "causes::docker_proxy_and_a_flow_that_is_stale_because_of_it_are_told_apart";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        if !in_force(name, docker.masquerade()) {
            return;
        }
        let found = Command::new("sh")
            .args(["-c", "command -v docker-proxy"])
            .output();
        if !found.unwrap().status.success() {
            return skip(name, "docker", "the program docker-proxy is missing");
        }
        let reflector = Reflector::start(&docker.outside, Engine::Mmsg, LISTEN);
        let proxy = DockerProxy::start(&docker.host, DockerHost::OUTSIDE);
        // No rule yet: every flow is the proxy's, so none is stale.
        let options = [&BRIEF[..], &["--source-port", "40000"]].concat();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(exit, 4, "{object}");
        assert_eq!(
            kinds(&object),
            ["gateway", "possible_causes", "connected_socket"]
        );
        let listening = shell(&docker.host, commands(&object)[0]);
        assert!(listening.contains("docker-proxy"), "{listening}");

        let published = nft(
            &docker.host,
            "table inet published {
                chain prerouting {
                    type nat hook prerouting priority dstnat;
                    ip daddr 172.16.13.13 udp dport 5151 dnat ip to 172.16.13.2;
                }
            }",
        );
        assert!(in_force(name, published));
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(
            (exit, &object["verdict"]),
            (4, &"wrong_source".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["stale_flow", "gateway"]);
        assert_eq!(outcomes(&object), ["answered"; 4]);
        let said = object["remedies"].to_string();
        assert!(
            said.contains("udp_timeout_stream") && !said.contains("--listen"),
            "{said}"
        );
        shell(&docker.host, commands(&object)[0]);
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(exit, 0, "{object}");
        drop(proxy);
        reflector.stop();
    });
}
