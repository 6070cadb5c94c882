//! What breaks on the network: links, addresses, interfaces, tables and rules.

use std::process::Command;
use std::thread;

use reflector_netlab::topology::{Namespace, in_force, net, nft};
use reflector_testkit::{Reflector, conntrack, on_both_engines, wait_until};

use super::scene::{CALM, Played, SERVER, Scene, at, count, is_thorough, some_of, with_listen};

on_both_engines! {
    fn a_link_that_goes_down_and_up(engine: Engine) {
        for (index, asked) in some_of(&["10.9.0.1:5151", "[fd09::1]:5151"]).iter().enumerate() {
            let scene = Scene::new();
            // Otherwise the kernel removes IPv6 addresses with the link.
            scene.server.set_sysctl("ipv6/conf/v0/keep_addr_on_down", "1").unwrap();
            let reflector = scene.start(engine, &[]);
            let played = scene.play(reflector, asked, 2.0, |_| {
                scene.server.set_down("v0").unwrap();
                thread::sleep(CALM);
                scene.server.set_up("v0").unwrap();
                scene.server.wait_ready("v0").unwrap();
                scene.find(&[at(SERVER[index])]);
            });
            played.tell(&format!("link down for 0.3 s, IPv{}", [4, 6][index]), engine);
            assert!(played.at("lost") > 0, "{}", played.load);
            assert_eq!(count(&played.server["kernel_drops"]), 0);
        }
    }

    /// The peer of another address of the same host loses nothing.
    fn an_address_that_goes_and_comes_back(engine: Engine) {
        for &(case, address, asked, steady) in some_of(&[
            ("IPv4", "10.9.0.7/32", "10.9.0.7:5151", "10.9.0.1:5151"),
            ("IPv6", "fd09::7/128", "[fd09::7]:5151", "[fd09::1]:5151"),
        ]) {
            let scene = Scene::new();
            scene.server.add_address("v0", net(address)).unwrap();
            let reflector = scene.start(engine, &[]);
            let fickle = at(&net(address).addr().to_string());
            scene.find(&[fickle]);
            // It ends before the server does.
            let steady = scene.load(steady, 1.5);
            let played = scene.play(reflector, asked, 2.0, |_| {
                scene.server.delete_address("v0", net(address)).unwrap();
                thread::sleep(CALM);
                scene.server.add_address("v0", net(address)).unwrap();
                scene.find(&[fickle]);
            });
            played.tell(&format!("address gone for 0.3 s, {case}"), engine);
            assert!(played.at("lost") > 0, "{}", played.load);
            let steady = steady.end();
            assert_eq!(steady["lost"], 0, "{steady}");
        }
    }

    fn an_interface_that_goes_and_comes_back(engine: Engine) {
        for &(case, args, asked) in some_of(&[
            ("--device", &["--device", "v0"][..], "10.9.0.1:5151"),
            ("--device", &["--device", "v0"][..], "[fd09::1]:5151"),
            (
                "a scoped address",
                &["--listen", "[fe80::1%v0]:5151", "--listen", "0.0.0.0:5151"][..],
                "[fe80::1%v0]:5151",
            ),
        ]) {
            let scene = Scene::new();
            let reflector =
                Reflector::start(&scene.server, engine, &with_listen(args));
            scene.find(&[at(SERVER[0])]);
            let played = scene.play(reflector, asked, 3.0, |_| {
                scene.server.delete_link("v0").unwrap();
                thread::sleep(CALM);
                scene.plug_in(&scene.server, "v0", "server", "0", 1);
                scene.find(&[at(SERVER[0])]);
            });
            let family = if asked.starts_with('[') { "IPv6" } else { "IPv4" };
            played.tell(&format!("interface of {case} gone for 0.3 s, {family}"), engine);
            assert!(played.at("lost") > 0 && played.at("received") > 1000, "{}", played.load);
            // A reply may have been on its way when the route went.
            assert_eq!(played.said()[..2], [
                " WARN the interface v0 has gone: nothing is received by it until it is back",
                " INFO bound to the interface v0 again",
            ]);
        }
    }

    /// Flows that the table knows go on; fresh ones never come as far as the server.
    fn a_connection_table_that_is_full(engine: Engine) {
        let name = "a_connection_table_that_is_full";
        // Quarter of a million entries; tests/diagnose has such a table as well.
        if !is_thorough() {
            return eprintln!("{name} is left to scripts/faults.sh");
        }
        let scene = Scene::new();
        let rules = "table inet t { chain c { type filter hook input priority 0; \
                     ct state new; }; }";
        if !in_force(name, nft(&scene.server, rules)) {
            return;
        }
        let reflector = scene.start(engine, &[]);
        // From its third second on, a flow that is answered is not put out for others (assured).
        let known = scene.load("10.9.0.1:5151", 12.0);
        thread::sleep(std::time::Duration::from_millis(2500));
        if !conntrack::fill_table(name, &scene.server) {
            return;
        }
        let fresh = scene.load("10.9.0.1:5151", 1.0).end();
        flush(&scene.server);
        scene.find(&[at(SERVER[0])]);
        let played = Played::end(known.end(), reflector);
        played.tell("connection table full: flows that it knows", engine);
        let fresh = Played { load: fresh, server: played.server, log: played.log };
        fresh.tell("connection table full: fresh flows", engine);
        assert_eq!(played.load["lost"], 0, "{}", played.load);
        assert_eq!(fresh.at("lost"), fresh.at("sent"), "{}", fresh.load);
    }

    fn a_rule_that_drops_replies(engine: Engine) {
        let scene = Scene::new();
        let drop = "table inet wall { chain c { type filter hook output priority 0; \
                    udp sport 5151 drop; }; }";
        if !in_force("a_rule_that_drops_replies", nft(&scene.server, "table inet empty {}")) {
            return;
        }
        let reflector = scene.start(engine, &[]);
        let played = scene.play(reflector, "10.9.0.1:5151", 1.5, |_| {
            nft(&scene.server, drop).unwrap();
            thread::sleep(CALM);
            nft(&scene.server, "delete table inet wall").unwrap();
        });
        played.tell("rule drops replies for 0.3 s", engine);
        assert!(played.at("lost") > 0, "{}", played.load);
        assert_eq!(played.server["send_errors"]["EPERM"], played.load["lost"], "{}", played.server);
        let [said] = played.said()[..] else { panic!("{}", played.log) };
        assert!(said.starts_with(" WARN the kernel refuses replies with EPERM "), "{said}");
    }
}

/// Empties the connection table.
fn flush(namespace: &Namespace) {
    let flush = || Command::new("conntrack").arg("-F").output();
    wait_until("the table is empty", || {
        let output = namespace.run(flush).expect("it has filled the table");
        output.status.success()
    });
}
