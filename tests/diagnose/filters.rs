//! With NAT, filters and a reverse path filter on the way.

use std::io;
use std::net::UdpSocket;

use reflector_netlab::naive::{NaiveServer, Wildcard};
use reflector_netlab::topology::{DockerHost, Route, in_force, in_namespaces, net, nft, skip};
use reflector_testkit::{PORT, at};

use super::{BRIEF, PATIENT, SHORT, ask, diagnose, kinds, outcomes};

#[test]
fn what_this_hosts_firewall_drops_is_told_from_silence() {
    let name = "filters::what_this_hosts_firewall_drops_is_told_from_silence";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let rules = nft(
            &docker.container,
            "table inet filter {
                chain input {
                    type filter hook input priority filter; policy accept;
                    meta l4proto udp ct state new drop;
                    udp sport 5152 drop;
                }
                chain output {
                    type filter hook output priority filter; policy accept;
                    udp dport 5153 drop;
                }
            }",
        );
        if !in_force(name, rules) {
            return;
        }
        let _server = NaiveServer::start(&docker.host, Wildcard::Ipv4, PORT).unwrap();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &SHORT);
        assert_eq!(
            (exit, &object["verdict"]),
            (4, &"wrong_source".into()),
            "{object}"
        );
        assert_eq!(
            kinds(&object),
            ["gateway", "possible_causes", "dropped_here"]
        );

        let _server = NaiveServer::start(&docker.host, Wildcard::Ipv4, 5152).unwrap();
        let target = [&SHORT[..], &["172.17.0.1:5152"]].concat();
        let (exit, object) = diagnose(&docker.container, &target);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"silent".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["dropped_here"]);

        // It tracks connections, and its table has room.
        let (exit, object) = diagnose(&docker.container, &["172.17.0.1:5153"]);
        assert_eq!(
            (exit, &object["verdict"]),
            (1, &"unsent".into()),
            "{object}"
        );
        assert_eq!(kinds(&object), ["not_permitted"]);
        let text = object["findings"][0]["text"].as_str().unwrap();
        assert!(
            text.contains("own firewall") && text.contains("is not why"),
            "{text}"
        );
        assert_eq!(object["remedies"][0]["command"], "nft list ruleset");
    });
}

#[test]
fn a_firewall_on_the_way_is_silent_or_speaks() {
    let name = "filters::a_firewall_on_the_way_is_silent_or_speaks";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        let rules = nft(
            &docker.host,
            "table inet filter {
                chain forward {
                    type filter hook forward priority filter; policy accept;
                    udp dport 5151 drop;
                    udp dport 5152 reject with icmpx type admin-prohibited;
                }
            }",
        );
        if !in_force(name, rules) {
            return;
        }
        let (exit, object) = ask(&docker.container, DockerHost::OUTSIDE, &SHORT);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"silent".into()),
            "{object}"
        );
        let target = [&PATIENT[..], &["172.16.13.2:5152"]].concat();
        let (exit, object) = diagnose(&docker.container, &target);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"refused".into()),
            "{object}"
        );
        assert_eq!(object["attempts"][0]["by"], "172.17.0.1");
        let text = object["findings"][0]["text"].as_str().unwrap();
        assert!(text.contains("administratively prohibited"), "{text}");
    });
}

#[test]
fn behind_nat_the_wrong_source_is_suspected() {
    let name = "filters::behind_nat_the_wrong_source_is_suspected";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        if !in_force(name, docker.masquerade()) {
            return;
        }
        let _server = NaiveServer::start(&docker.outside, Wildcard::Ipv4, PORT).unwrap();
        let (exit, object) = ask(&docker.container, DockerHost::OUTSIDE_SECOND, &SHORT);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"silent".into()),
            "{object}"
        );
        let text = object["findings"][0]["text"].as_str().unwrap();
        assert!(text.contains("answers from another address") && text.contains("MASQUERADE"));
        assert_eq!(ask(&docker.container, DockerHost::OUTSIDE, &PATIENT).0, 0);
    });
}

#[test]
fn a_strict_reverse_path_filter_is_caught() {
    in_namespaces("filters::a_strict_reverse_path_filter_is_caught", || {
        let docker = DockerHost::new().unwrap();
        let container = &docker.container;
        // The way back to the address that answers leads elsewhere.
        container.add_bridge("br9").unwrap();
        container.set_up("br9").unwrap();
        container
            .add_route(&Route::to(net("172.16.13.2/32")).device("br9"))
            .unwrap();
        if container
            .set_sysctl("ipv4/conf/eth0/rp_filter", "1")
            .is_err()
        {
            return;
        }
        let _server = NaiveServer::start(&docker.outside, Wildcard::Ipv4, PORT).unwrap();
        let (exit, object) = ask(container, DockerHost::OUTSIDE_SECOND, &SHORT);
        assert_eq!(
            (exit, &object["verdict"]),
            (4, &"wrong_source".into()),
            "{object}"
        );
        assert_eq!(kinds(&object)[2], "rp_filter", "{object}");
        assert_eq!(object["route"]["rp_filter"], 1);
        assert!(object["reverse_path_filtered"].as_u64().unwrap() >= 4);
    });
}

#[test]
fn a_stale_flow_is_found_by_its_port_and_deleted_by_the_command() {
    let name = "filters::a_stale_flow_is_found_by_its_port_and_deleted_by_the_command";
    in_namespaces(name, || {
        let docker = DockerHost::new().unwrap();
        if !in_force(name, docker.masquerade()) {
            return;
        }
        // A flow that is tracked before the port is published stays where it went.
        let idle = docker
            .host
            .run(|| UdpSocket::bind(at(DockerHost::HOST)).unwrap());
        idle.set_read_timeout(Some(reflector_testkit::PATIENCE))
            .unwrap();
        let early = docker
            .container
            .run(|| UdpSocket::bind("0.0.0.0:40000").unwrap());
        early.send_to(b"early", at(DockerHost::HOST)).unwrap();
        idle.recv_from(&mut [0; 8]).unwrap();
        drop(early);
        let published = nft(
            &docker.host,
            "table inet nat {
                chain prerouting {
                    type nat hook prerouting priority dstnat;
                    ip daddr 172.16.13.13 udp dport 5151 dnat ip to 172.16.13.2;
                }
            }",
        );
        assert!(in_force(name, published));
        let _server = NaiveServer::start(&docker.outside, Wildcard::Ipv4, PORT).unwrap();

        let options = [&BRIEF[..], &["--source-port", "40000"]].concat();
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(
            (exit, &object["verdict"]),
            (3, &"flow_silent".into()),
            "{object}"
        );
        assert_eq!(
            outcomes(&object),
            ["silent", "answered", "answered", "silent"]
        );
        let remedy = object["remedies"][0]["command"].as_str().unwrap();
        assert_eq!(
            remedy,
            "conntrack -D -p udp --orig-src 172.17.0.3 --sport 40000 --orig-dst 172.16.13.13 \
             --dport 5151"
        );
        let mut words = remedy.split(' ');
        let mut conntrack = std::process::Command::new(words.next().unwrap());
        conntrack.args(words);
        match docker.host.run(|| conntrack.output()) {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skip(name, "conntrack", "the program conntrack is missing");
                return;
            }
            Err(error) => panic!("{error}"),
        }
        let (exit, object) = ask(&docker.container, DockerHost::HOST, &options);
        assert_eq!(
            (exit, &object["verdict"]),
            (0, &"answered".into()),
            "{object}"
        );
    });
}
