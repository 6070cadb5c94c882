//! The program as people and programs meet it: what it refuses and how it says so, options and
//! their environment variables, workers, reports, signals.

use std::collections::HashSet;
use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use reflector_netlab::topology::{DockerHost, Namespace, in_namespaces, net};
use reflector_testkit::{
    Client, Engine, Reflector, command, on_both_engines, program, run_to_end, text, to_end,
    wait_until,
};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use serde_json::Value;

/// Documented: something could not be set up, or failed.
const FAILED: i32 = 1;
/// Documented: the command line makes no sense.
const USAGE: i32 = 2;

// Refusals.

/// Asserts that `output` is that of a program that did not start: the exit code, nothing but
/// `sentence` to read (and where to find help), no trace of a panic.
fn assert_refused(output: &Output, code: i32, sentence: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(
        text(&output.stdout),
        "",
        "a program that refuses reports nothing"
    );
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some(sentence), "{said}");
    for line in lines.filter(|line| !line.is_empty()) {
        let is_help = [
            "Usage: ",
            "       reflector ",
            "For more information, try '--help'",
            "  [possible values: ",
            "  tip: ",
        ]
        .iter()
        .any(|help| line.starts_with(help));
        assert!(is_help, "more than one sentence: {said}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused_in_one_sentence() {
    let cases: &[(&[&str], &str)] = &[
        (&["--colour"], "error: unexpected argument '--colour' found"),
        (&["serve"], "error: unrecognized subcommand 'serve'"),
        (
            &["--listen", "localhost"],
            "error: invalid value 'localhost' for '--listen <ADDR:PORT>': expected an IP address \
             and a port, as in 0.0.0.0:9007, [::]:9007 or [fe80::1%eth0]:9007",
        ),
        (
            &["--listen", "10.0.0.1"],
            "error: invalid value '10.0.0.1' for '--listen <ADDR:PORT>': expected an IP address \
             and a port, as in 0.0.0.0:9007, [::]:9007 or [fe80::1%eth0]:9007",
        ),
        (
            &["--listen", "0.0.0.0:9007/stamp"],
            "error: invalid value '0.0.0.0:9007/stamp' for '--listen <ADDR:PORT>': there is no \
             mode 'stamp'; the modes are: echo",
        ),
        (
            &["--device", ""],
            "error: a value is required for '--device <IFNAME>' but none was supplied",
        ),
        (
            &["--listen", "[fe80::1%nope0]:9007"],
            "error: invalid value '[fe80::1%nope0]:9007' for '--listen <ADDR:PORT>': this host \
             has no interface nope0",
        ),
        (
            &["--listen", "224.0.0.1:9007"],
            "ERROR cannot reflect on 224.0.0.1:9007: no reply can come from a multicast or \
             broadcast address; listen on a unicast address or a wildcard",
        ),
        (
            &["--listen", "[ff02::1]:9007"],
            "ERROR cannot reflect on [ff02::1]:9007: no reply can come from a multicast or \
             broadcast address; listen on a unicast address or a wildcard",
        ),
        (
            &["--listen", "255.255.255.255:9007"],
            "ERROR cannot reflect on 255.255.255.255:9007: no reply can come from a multicast \
             or broadcast address; listen on a unicast address or a wildcard",
        ),
        (
            &["--listen", "0.0.0.0:9007,10.0.0.1:9007"],
            "ERROR cannot reflect on 10.0.0.1:9007: --listen 0.0.0.0:9007 covers it already",
        ),
        (
            &["--dual-stack", "--listen", "10.0.0.1:9007"],
            "ERROR cannot reflect on 10.0.0.1:9007: --dual-stack is for the wildcard [::] only",
        ),
        (
            &["--coalesce", "1m"],
            "error: invalid value '1m' for '--coalesce <TIME>': expected a time from 0s to 10s",
        ),
        (
            &["--cores", "0"],
            "error: invalid value '0' for '--cores <N>': expected a whole number from 1 to 1024",
        ),
        (
            &["--cores", "two"],
            "error: invalid value 'two' for '--cores <N>': expected a whole number from 1 to 1024",
        ),
        (
            &["-c", "-1"],
            "error: invalid value '-1' for '--cores <N>': expected a whole number from 1 to 1024",
        ),
        (
            &["--cpus", "1-x"],
            "error: invalid value '1-x' for '--cpus <LIST>': '1-x' is not a CPU or a range of \
             CPUs; expected a list such as 0-3,6",
        ),
        (
            &["--cores", "2", "--cpus", "0"],
            "error: the argument '--cores <N>' cannot be used with '--cpus <LIST>'",
        ),
        (
            &["--engine", "dpdk"],
            "error: invalid value 'dpdk' for '--engine <ENGINE>'",
        ),
        (
            &["--allow", "10.0.0.0/33"],
            "error: invalid value '10.0.0.0/33' for '--allow <CIDR>': expected a prefix such as \
             10.0.0.0/8, an address, or 'any'",
        ),
        (
            &["--deny", "all"],
            "error: invalid value 'all' for '--deny <CIDR>': expected a prefix such as \
             10.0.0.0/8, an address, or 'any'",
        ),
        (
            &["--deny-port", "65536"],
            "error: invalid value '65536' for '--deny-port <LIST>': '65536' is not a port; \
             expected a list such as 7,53, or 'none'",
        ),
        (
            &["--interval", "5x"],
            "error: invalid value '5x' for '--interval <TIME>': expected a time, such as 10 \
             (seconds), 1.5s, 200ms or 2m",
        ),
        (
            &["--duration", "soon"],
            "error: invalid value 'soon' for '--duration <TIME>': expected a time, such as 10 \
             (seconds), 1.5s, 200ms or 2m",
        ),
        (
            &["--rcvbuf", "much"],
            "error: invalid value 'much' for '--rcvbuf <SIZE>': expected a size, such as 64KiB \
             or 8MiB",
        ),
        (
            &["--sndbuf", "8 apples"],
            "error: invalid value '8 apples' for '--sndbuf <SIZE>': expected a size, such as \
             64KiB or 8MiB",
        ),
        (
            &["--sndbuf", "2GiB"],
            "error: invalid value '2GiB' for '--sndbuf <SIZE>': expected a size of at most \
             2147483647 bytes, the most that a socket can be asked for",
        ),
        (
            &["--buffers", "0"],
            "error: invalid value '0' for '--buffers <N>': expected a whole number from 1 to 4096",
        ),
    ];
    in_namespaces(
        "a_command_line_that_makes_no_sense_is_refused_in_one_sentence",
        || {
            let host = Namespace::new().unwrap();
            for (args, sentence) in cases {
                assert_refused(&run_to_end(&host, args), USAGE, sentence);
            }
        },
    );
}

#[test]
fn a_cpu_that_the_process_may_not_use_is_refused() {
    in_namespaces("a_cpu_that_the_process_may_not_use_is_refused", || {
        let host = Namespace::new().unwrap();
        let allowed = core_affinity::get_core_ids().unwrap();
        let list: Vec<_> = allowed.iter().map(|core| core.id.to_string()).collect();
        let sentence = format!(
            "ERROR cannot run on CPU 4095: this process may use CPUs {}",
            list.join(",")
        );
        assert_refused(&run_to_end(&host, &["--cpus", "4095"]), USAGE, &sentence);
    });
}

#[test]
fn what_the_system_refuses_is_said_with_what_to_try() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["--device", "nope0"],
            "ERROR cannot bind to the interface nope0: No such device (os error 19); `ip link` \
             lists the interfaces of this host",
        ),
        (
            &["--listen", "10.1.2.3:9007"],
            "ERROR cannot bind 10.1.2.3:9007: Cannot assign requested address (os error 99); \
             this host does not have the address: `ip addr` lists those it has; --freebind binds \
             one that comes later",
        ),
        (
            &["--listen", "[fe80::1]:9007"],
            "ERROR cannot bind [fe80::1]:9007: Invalid argument (os error 22); a link-local \
             address needs its interface, as in [fe80::1%eth0]:9007",
        ),
        (
            &["--listen", "172.17.255.255:9007"],
            "ERROR cannot reflect on 172.17.255.255:9007: it is a broadcast address; listen on \
             the interface's own address or on 0.0.0.0",
        ),
        (
            &["--hdr", "/nowhere/times.hlog"],
            "ERROR cannot write the histogram log /nowhere/times.hlog: No such file or directory \
             (os error 2); --hdr takes a file in a directory that this user may write to",
        ),
        (
            &["--hdr", "/"],
            "ERROR cannot write the histogram log /: Is a directory (os error 21); --hdr takes a \
             file in a directory that this user may write to",
        ),
    ];
    in_namespaces("what_the_system_refuses_is_said_with_what_to_try", || {
        let docker = DockerHost::new().unwrap();
        for (args, sentence) in cases {
            assert_refused(&run_to_end(&docker.host, args), FAILED, sentence);
        }
    });
}

#[test]
fn a_port_below_1024_without_the_capability_is_refused() {
    in_namespaces(
        "a_port_below_1024_without_the_capability_is_refused",
        || {
            let host = Namespace::new().unwrap();
            assert_eq!(
                host.sysctl("ipv4/ip_unprivileged_port_start").unwrap(),
                "1024"
            );
            let args = ["--listen", "127.0.0.1:53", "--duration", "1ms"];
            // Even root is refused once the capability is out of the thread's reach, and what it starts.
            let without = host.run(|| {
                remove_capability_from_bounding_set(CapabilitySet::NET_BIND_SERVICE).unwrap();
                command(&args).output().unwrap()
            });
            assert_refused(
                &without,
                FAILED,
                "ERROR cannot bind 127.0.0.1:53: Permission denied (os error 13); a port below 1024 \
             needs CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start",
            );
            let with = run_to_end(&host, &args);
            assert!(with.status.success(), "{}", text(&with.stderr));
        },
    );
}

#[test]
fn a_port_that_another_program_has_is_refused_and_nothing_is_touched() {
    in_namespaces(
        "a_port_that_another_program_has_is_refused_and_nothing_is_touched",
        || {
            let host = Namespace::new().unwrap();
            let foreign = host.run(|| UdpSocket::bind("127.0.0.1:0")).unwrap();
            let addr = foreign.local_addr().unwrap();
            let log = TempFile::new("port-in-use");
            fs::write(&log.0, "of an earlier run").unwrap();
            let (listen, hdr) = (addr.to_string(), log.path());
            let output = run_to_end(&host, &["--listen", &listen, "--hdr", hdr]);
            assert_refused(&output, FAILED, &port_taken(addr));
            assert_eq!(fs::read_to_string(&log.0).unwrap(), "of an earlier run");
        },
    );
}

#[test]
fn a_limit_on_open_files_ends_it_before_it_is_ready() {
    in_namespaces("a_limit_on_open_files_ends_it_before_it_is_ready", || {
        let host = Namespace::new().unwrap();
        // Too few for the sockets; enough for them, but not for what the workers need.
        for (limit, attempted) in [(6, "cannot open a socket"), (18, "cannot start a worker")] {
            let program = program().display().to_string();
            let script = format!("ulimit -n {limit} && exec {program} \"$@\"");
            let output = host
                .run(|| {
                    process::Command::new("sh")
                        .args(["-c", &script, "sh", "--engine", "mmsg", "--cores", "8"])
                        .args(["--listen", "127.0.0.1:0", "--duration", "3s"])
                        .output()
                })
                .unwrap();
            assert_eq!(output.status.code(), Some(FAILED));
            assert_eq!(text(&output.stdout), "");
            let said = text(&output.stderr).lines().last().unwrap();
            assert!(said.starts_with(&format!("ERROR {attempted}")), "{said}");
            let remedy = "Too many open files (os error 24); `ulimit -n` raises the limit, \
                          LimitNOFILE= too";
            assert!(said.ends_with(remedy), "{said}");
        }
    });
}

/// What is said where `addr` is taken.
fn port_taken(addr: SocketAddr) -> String {
    format!(
        "ERROR cannot bind {addr}: Address already in use (os error 98); another program has the \
         port: `ss -lunp 'sport = {}'` shows which; --share-port shares it with one that agrees",
        addr.port()
    )
}

on_both_engines! {
    fn a_second_reflector_on_the_port_is_refused(engine: Engine) {
        let host = Namespace::new().unwrap();
        // Two workers: their sockets share the port among themselves, and with nobody else.
        for cores in ["1", "2"] {
            let listen = ["--listen", "127.0.0.1:0", "--cores", cores];
            let first = Reflector::start(&host, engine, &listen);
            let addr = first.listen(0);
            let second = run_to_end(&host, &["--listen", &addr.to_string(), "--cores", cores]);
            assert_refused(&second, FAILED, &port_taken(addr));
            Client::connect(&host, addr).ask(b"still there");
            assert_eq!(first.stop()["replied"], 1);
        }
    }

    fn a_port_is_shared_only_where_both_agree(engine: Engine) {
        let host = Namespace::new().unwrap();
        let listen = ["--cores", "1", "--share-port", "--listen"];
        let with = |addr| [&listen[..], &[addr]].concat();
        let first = Reflector::start(&host, engine, &with("127.0.0.1:0"));
        let addr = first.listen(0);
        let alone = run_to_end(&host, &["--listen", &addr.to_string()]);
        assert_refused(&alone, FAILED, &port_taken(addr));

        let second = Reflector::start(&host, engine, &with(&addr.to_string()));
        let clients = clients(&host, addr);
        clients.iter().for_each(|client| client.ask(b"either of you"));
        let shares = [first, second].map(|reflector| count(&reflector.stop()["replied"]));
        assert_eq!(shares[0] + shares[1], PEERS as u64);
        assert!(shares.iter().all(|&share| share > 0), "{shares:?}");
    }

    fn a_single_reflector_does_not_share_with_one_that_would(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--cores", "1"];
        let first = Reflector::start(&host, engine, &args);
        let addr = first.listen(0);
        let second = run_to_end(&host, &["--share-port", "--listen", &addr.to_string()]);
        assert_refused(&second, FAILED, &port_taken(addr));
        first.stop();
    }
}

/// So many peers that each of two sockets gets some, but for a chance of 2⁻⁶³.
const PEERS: usize = 64;

fn clients(namespace: &Namespace, asked: SocketAddr) -> Vec<Client> {
    (0..PEERS)
        .map(|_| Client::connect(namespace, asked))
        .collect()
}

fn count(value: &Value) -> u64 {
    value.as_u64().expect("a count")
}

// Options by environment variable.

/// The program's output in a namespace of its own, with the variables set.
fn with_env(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = command(args);
    command.envs(variables.iter().copied());
    to_end(&Namespace::new().unwrap(), command)
}

#[test]
fn every_option_is_read_from_its_environment_variable() {
    // Options that can be what they cannot be. Flags are tested below.
    let refused = [
        "LISTEN",
        "REPLY_INTERFACE",
        "CORES",
        "CPUS",
        "ENGINE",
        "STEER",
        "GRO",
        "GSO",
        "COALESCE",
        "BUFFERS",
        "RCVBUF",
        "SNDBUF",
        "ALLOW",
        "DENY",
        "DENY_PORT",
        "LOOP_GUARD",
        "LATENCY",
        "INTERVAL",
        "DURATION",
        "LOG_FORMAT",
    ];
    in_namespaces("every_option_is_read_from_its_environment_variable", || {
        for name in refused {
            let variable = format!("REFLECTOR_{name}");
            let output = with_env(&[], &[(&variable, "x")]);
            assert_eq!(output.status.code(), Some(USAGE));
            // The variable is named, since the option was not typed.
            let sentence = format!("error: invalid value 'x' for '{variable}'");
            let said = text(&output.stderr);
            assert!(said.starts_with(&sentence), "{said}");
        }
        for (name, value, named) in [
            ("DEVICE", "nope0", "interface nope0"),
            ("HDR", "/nowhere/x", "log /nowhere/x"),
        ] {
            let output = with_env(&[], &[(&format!("REFLECTOR_{name}"), value)]);
            assert_eq!(output.status.code(), Some(FAILED));
            let said = text(&output.stderr);
            assert!(said.lines().next().unwrap().contains(named), "{said}");
        }
    });
}

#[test]
fn a_refused_value_is_told_by_where_it_came_from() {
    let cases: &[(&[&str], (&str, &str), &str)] = &[
        (
            &["-c", "x"],
            ("REFLECTOR_CORES", "x"),
            "'x' for '--cores <N>'",
        ),
        (
            &["-c", "x"],
            ("REFLECTOR_CORES", "2"),
            "'x' for '--cores <N>'",
        ),
        (&["-c", "2"], ("REFLECTOR_CORES", "x"), ""),
        (
            &["-d", "x"],
            ("REFLECTOR_CORES", "x"),
            "'x' for '--duration <TIME>'",
        ),
        (
            &["-j"],
            ("REFLECTOR_LISTEN", "0.0.0.0:7,x"),
            "'x' for 'REFLECTOR_LISTEN'",
        ),
        (
            &["load", "127.0.0.1:7"],
            ("REFLECTOR_LOAD_CORES", "x"),
            "'x' for 'REFLECTOR_LOAD_CORES'",
        ),
        (
            &["diagnose"],
            ("REFLECTOR_DIAGNOSE_TARGET", "x"),
            "'x' for 'REFLECTOR_DIAGNOSE_TARGET'",
        ),
    ];
    in_namespaces("a_refused_value_is_told_by_where_it_came_from", || {
        for (args, variable, named) in cases {
            let output = with_env(args, &[*variable, ("REFLECTOR_DURATION", "0")]);
            let said = text(&output.stderr);
            let sentence = format!("error: invalid value {named}: ");
            let is_refused = said.starts_with(&sentence);
            assert_eq!(
                is_refused,
                !named.is_empty(),
                "{args:?} {variable:?}: {said}"
            );
            assert_eq!(output.status.success(), named.is_empty(), "{said}");
        }
    });
}

#[test]
fn options_work_by_environment_and_the_command_line_wins() {
    in_namespaces(
        "options_work_by_environment_and_the_command_line_wins",
        || {
            let variables = [
                ("REFLECTOR_LISTEN", "127.0.0.1:4001,127.0.0.2:4002"),
                ("REFLECTOR_CORES", "2"),
                ("REFLECTOR_ENGINE", "mmsg"),
                ("REFLECTOR_RCVBUF", "64KiB"),
                ("REFLECTOR_INTERVAL", "0"),
                ("REFLECTOR_DURATION", "1ms"),
                ("REFLECTOR_JSON", "1"),
            ];
            let reports = reports(&with_env(&["--cores", "1"], &variables));
            let [ready, summary] = &reports[..] else {
                panic!("not two reports: {reports:?}");
            };
            let listen = serde_json::json!(["127.0.0.1:4001", "127.0.0.2:4002"]);
            assert_eq!(ready["listen"], listen);
            assert_eq!(ready["workers"], 1);
            assert_eq!(ready["engine"], "mmsg");
            // The kernel doubles what is asked for (socket(7)).
            assert_eq!(ready["receive_buffer_bytes"], 2 * 64 * 1024);
            assert_eq!(summary["type"], "summary");
        },
    );
}

#[test]
fn flags_are_set_and_cleared_by_their_environment_variables() {
    in_namespaces(
        "flags_are_set_and_cleared_by_their_environment_variables",
        || {
            let is_json = |value| {
                let variables = [("REFLECTOR_JSON", value), ("REFLECTOR_DURATION", "0.001")];
                let output = with_env(&["--listen", "127.0.0.1:0"], &variables);
                assert!(output.status.success(), "{}", text(&output.stderr));
                output.stdout.starts_with(b"{")
            };
            for value in ["1", "true", "yes", "on"] {
                assert!(is_json(value), "{value}");
            }
            for value in ["0", "false", "no", "off", ""] {
                assert!(!is_json(value), "{value}");
            }
            for flag in [
                "DUAL_STACK",
                "FREEBIND",
                "SHARE_PORT",
                "SPIN",
                "DF",
                "JSON",
                "VERBOSE",
            ] {
                let output = with_env(&[], &[(&format!("REFLECTOR_{flag}"), "perhaps")]);
                let sentence = format!(
                    "error: invalid value 'perhaps' for 'REFLECTOR_{flag}': expected 1 or 0"
                );
                assert_refused(&output, USAGE, &sentence);
            }
        },
    );
}

#[test]
fn an_empty_environment_variable_is_none() {
    in_namespaces("an_empty_environment_variable_is_none", || {
        let variables = [
            ("REFLECTOR_CORES", ""),
            ("REFLECTOR_ALLOW", ""),
            ("REFLECTOR_HDR", ""),
            ("REFLECTOR_DURATION", "1ms"),
        ];
        let output = with_env(&["--listen", "127.0.0.1:0"], &variables);
        assert!(output.status.success(), "{}", text(&output.stderr));
    });
}

#[test]
fn an_interface_scope_is_understood_by_name() {
    in_namespaces("an_interface_scope_is_understood_by_name", || {
        let host = Namespace::new().unwrap();
        host.add_address("lo", net("fe80::7/64")).unwrap();
        let listen = [
            "--listen",
            "[fe80::7%lo]:9007",
            "--duration",
            "1ms",
            "--json",
        ];
        let reports = reports(&run_to_end(&host, &listen));
        assert_eq!(reports[0]["listen"][0], "[fe80::7%1]:9007");
    });
}

#[test]
fn times_beyond_every_clock_are_never_reached() {
    in_namespaces("times_beyond_every_clock_are_never_reached", || {
        let host = Namespace::new().unwrap();
        let eternity = "18446744073709551615s";
        let args = ["--listen", "127.0.0.1:0", "--json"];
        let eternal = ["--interval", eternity, "--duration", eternity];
        let child = host.run(|| command(&[&args[..], &eternal].concat()).spawn());
        let reflector = Reflector::attach(child.unwrap());
        Client::connect(&host, reflector.listen(0)).ask(b"now");
        assert_eq!(reflector.stop()["replied"], 1);
    });
}

// Workers.

on_both_engines! {
    fn more_workers_than_cpus_run_with_a_warning(engine: Engine) {
        let host = Namespace::new().unwrap();
        let cpus = core_affinity::get_core_ids().unwrap().len();
        let workers = (cpus + 1).to_string();
        let args = ["--cores", &workers, "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(reflector.ready["workers"], cpus + 1);
        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.ask(b"ping"));
        let (summary, log) = reflector.stop_with_log();
        assert_eq!(summary["replied"], PEERS);
        assert_eq!(summary["per_worker"].as_array().unwrap().len(), cpus + 1);
        let warning = format!(" WARN {workers} workers share {cpus} CPU");
        assert!(log.starts_with(&warning), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }

    fn two_workers_share_the_peers(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--cores", "2", "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.ask(b"ping"));
        let summary = reflector.stop();
        let shares = summary["per_worker"].as_array().unwrap();
        assert_eq!(shares.len(), 2);
        for (worker, share) in shares.iter().enumerate() {
            assert_eq!(share["worker"], worker);
            assert!(count(&share["received"]) > 0, "{summary}");
        }
        for key in ["received", "replied", "batches", "kernel_drops"] {
            let sum: u64 = shares.iter().map(|share| count(&share[key])).sum();
            assert_eq!(summary[key], sum, "{key}: {summary}");
        }
        assert_eq!(summary["replied"], PEERS);
    }

    fn workers_run_on_the_cpus_named(engine: Engine) {
        let host = Namespace::new().unwrap();
        let last = core_affinity::get_core_ids().unwrap().last().unwrap().id;
        let args = ["--cpus", &last.to_string(), "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(reflector.ready["workers"], 1);
        let allowed = status_of(&worker_threads(&reflector)[0], "Cpus_allowed_list");
        assert_eq!(allowed, last.to_string());
        let summary = reflector.stop();
        assert_eq!(summary["per_worker"][0]["cpu"], last);
    }

    fn a_cpu_named_twice_has_two_workers_and_a_warning(engine: Engine) {
        let host = Namespace::new().unwrap();
        let cpu = core_affinity::get_core_ids().unwrap()[0].id;
        let args = ["--cpus", &format!("{cpu},{cpu}"), "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(reflector.ready["workers"], 2);
        let (_, log) = reflector.stop_with_log();
        let warning = " WARN 2 workers share 1 CPU: they take turns, which costs latency\n";
        assert_eq!(log, warning);
    }

    fn ready_is_said_when_every_worker_is_armed(engine: Engine) {
        let host = Namespace::new().unwrap();
        // Log and reports through one pipe, so that their order is seen.
        let (mut reader, writer) = io::pipe().unwrap();
        let args = ["--engine", engine.name(), "--listen", "127.0.0.1:0", "--cores", "16"];
        let mut command = command(&[&args[..], &["--verbose", "--duration", "1ms"]].concat());
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let mut child = host.run(|| command.spawn()).unwrap();
        // It holds the other end of the pipe as well.
        drop(command);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert!(child.wait().unwrap().success());
        let before_ready = said.lines().take_while(|line| !line.starts_with("ready: "));
        let armed = before_ready.filter(|line| line.ends_with(" is armed"));
        assert_eq!(armed.count(), 16, "{said}");
    }

    fn what_is_sent_once_it_is_ready_is_answered(engine: Engine) {
        let host = Namespace::new().unwrap();
        // So many workers that some would be late to start on any machine.
        let args = ["--cores", "16", "--listen", "127.0.0.1:0"];
        let reflector = Reflector::start(&host, engine, &args);
        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.send(b"at once"));
        clients.iter().for_each(|client| client.expect(b"at once"));
        assert_eq!(reflector.stop()["replied"], PEERS);
    }
}

/// The threads of the program that are workers, as directories of /proc.
fn worker_threads(reflector: &Reflector) -> Vec<PathBuf> {
    fs::read_dir(format!("/proc/{}/task", reflector.pid()))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|task| {
            fs::read_to_string(task.join("comm"))
                .unwrap()
                .starts_with("worker-")
        })
        .collect()
}

/// A line of a task's status file (proc_pid_status(5)).
fn status_of(task: &Path, key: &str) -> String {
    let status = fs::read_to_string(task.join("status")).unwrap();
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.expect("a known key").trim().to_owned()
}

// Reports.

/// The JSON lines of a run that ended well.
fn reports(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let parse = |line| serde_json::from_str(line).expect("every line is a JSON object");
    text(&output.stdout).lines().map(parse).collect()
}

/// What every report of counts carries.
const COUNTS: [&str; 17] = [
    "seconds",
    "received",
    "replied",
    "in_flight",
    "bytes_received",
    "bytes_replied",
    "dropped",
    "send_errors",
    "kernel_drops",
    "sndbuf_errors",
    "trains_received",
    "trains_sent",
    "trains_refused",
    "batches",
    "clock_stepped",
    "residence_us",
    "type",
];

#[test]
fn reports_are_json_lines_of_documented_keys() {
    in_namespaces("reports_are_json_lines_of_documented_keys", || {
        let host = Namespace::new().unwrap();
        let args = "--json --listen 127.0.0.1:0 --interval 5ms --duration 50ms --verbose";
        let output = run_to_end(&host, &args.split(' ').collect::<Vec<_>>());
        let reports = reports(&output);
        let types: Vec<_> = reports.iter().map(|it| it["type"].as_str()).collect();
        assert_eq!(types[0], Some("ready"));
        assert_eq!(types[types.len() - 1], Some("summary"));
        let between = &types[1..types.len() - 1];
        assert!(!between.is_empty() && between.iter().all(|it| *it == Some("interval")));
        for report in &reports {
            assert_eq!(report["schema"], 2);
        }
        assert_keys(
            &reports[0],
            &["listen", "workers", "engine", "engine_reason", "mode"],
        );
        assert_eq!(reports[0]["mode"], "echo");
        for report in &reports[1..] {
            assert_keys(report, &COUNTS);
            let residence = ["count", "min", "p50", "p90", "p99", "p99_9", "max"];
            assert_keys(&report["residence_us"], &residence);
            let reasons = [
                "no_pktinfo",
                "truncated",
                "not_unicast",
                "source_port",
                "not_allowed",
            ];
            assert_keys(&report["dropped"], &reasons);
        }
        let summary = reports.last().unwrap();
        let share = [
            "worker",
            "cpu",
            "received",
            "replied",
            "batches",
            "kernel_drops",
        ];
        assert_keys(&summary["per_worker"][0], &share);
        assert!(summary["seconds"].as_f64().unwrap() >= 0.05);
        // The log has its own place, and something to say.
        assert!(text(&output.stderr).contains("memory budget"));
    });
}

fn assert_keys(object: &Value, keys: &[&str]) {
    for &key in keys {
        assert!(object.get(key).is_some(), "{key} is missing in {object}");
    }
}

#[test]
fn the_log_is_json_lines_where_it_is_asked_for() {
    in_namespaces("the_log_is_json_lines_where_it_is_asked_for", || {
        let host = Namespace::new().unwrap();
        let args = "--listen 127.0.0.1:0 --duration 1ms --log-format json -v";
        let output = run_to_end(&host, &args.split(' ').collect::<Vec<_>>());
        assert!(output.status.success());
        assert!(text(&output.stdout).starts_with("ready: "));
        let refused = run_to_end(&host, &["--log-format", "json", "--device", "nope0"]);
        assert_eq!(refused.status.code(), Some(FAILED));
        for (log, level) in [(&output.stderr, "DEBUG"), (&refused.stderr, "ERROR")] {
            let entries: Vec<Value> = text(log)
                .lines()
                .map(|line| serde_json::from_str(line).expect("every line is a JSON object"))
                .collect();
            assert!(
                entries
                    .iter()
                    .all(|entry| entry["fields"]["message"].is_string())
            );
            assert_eq!(entries.last().unwrap()["level"], level);
        }
    });
}

on_both_engines! {
    fn intervals_add_up_to_the_summary(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--interval", "10ms"];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        let mut replied = 0;
        for asked in 1..=3 {
            client.ask(b"ping");
            // A reply may be counted an interval later than its request: it is in flight meanwhile.
            while replied < asked {
                replied += count(&reflector.next_report()["replied"]);
            }
        }
        let summary = reflector.stop();
        assert_eq!((summary["replied"].clone(), replied), (3.into(), 3));
        assert_eq!(summary["bytes_replied"], 12);
    }

    fn without_intervals_there_is_only_a_summary(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--interval", "0"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        reflector.signal(Signal::TERM);
        assert_eq!(reflector.next_report()["type"], "summary");
    }

    fn residence_times_are_logged_for_other_tools(engine: Engine) {
        let host = Namespace::new().unwrap();
        let log = TempFile::new(engine.name());
        let args = ["--listen", "127.0.0.1:0", "--interval", "10ms", "--hdr", log.path()];
        let reflector = Reflector::start(&host, engine, &args);
        let client = Client::connect(&host, reflector.listen(0));
        for _ in 0..2 {
            client.ask(b"ping");
            reflector.wait_for_report("something is received", |it| it["received"] != 0);
        }
        // Left for the part of an interval that the end closes.
        client.ask(b"ping");
        let summary = reflector.stop();
        assert_eq!(summary["residence_us"]["count"], 3);

        let bytes = fs::read(&log.0).unwrap();
        assert!(text(&bytes).contains("nanoseconds"));
        let intervals = logged(&bytes);
        let busy = intervals.iter().filter(|interval| !interval.is_empty());
        assert!(busy.count() >= 2, "the intervals are told apart");
        let mut all = Histogram::<u64>::new(3).unwrap();
        intervals.iter().for_each(|interval| all.add(interval).unwrap());
        assert_eq!(summary["replied"], all.len());
        // Nanoseconds in the log, microseconds in the summary.
        let us = |ns: u64| ns as f64 / 1000.0;
        assert_eq!(summary["residence_us"]["p50"], us(all.value_at_quantile(0.5)));
        assert!(all.min() > 0);
    }

    fn a_reader_of_reports_that_leaves_does_not_end_the_service(engine: Engine) {
        let host = Namespace::new().unwrap();
        let (mut child, addr, reader) = start_for_people(&host, engine, "1ms", &["--verbose"]);
        drop(reader);
        let client = Client::connect(&host, addr);
        // Not idle, so that there is something to write.
        client.ask(b"ping");
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let told = log.find(|line| {
            let line = line.as_ref().unwrap();
            line == "DEBUG nobody reads the reports: Broken pipe (os error 32)"
        });
        assert!(told.is_some());
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }

    fn a_reader_of_the_log_that_leaves_does_not_end_the_service(engine: Engine) {
        let host = Namespace::new().unwrap();
        let only_one = ["--allow", "127.0.0.1"];
        let (mut child, addr, mut reader) = start_for_people(&host, engine, "1h", &only_one);
        drop(child.stderr.take());
        let source = "127.0.0.2:0".parse().unwrap();
        let stranger = Client::connect_from(&host, source, addr);
        let client = Client::connect(&host, addr);
        // The refusal is logged, to nobody, before the second batch is received.
        stranger.send(b"refused");
        client.ask(b"ping");
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("summary of"), "{rest}");
    }

    fn a_histogram_log_that_fails_does_not_end_the_service_but_its_exit_code_tells(
        engine: Engine
    ) {
        let host = Namespace::new().unwrap();
        // A file that can be written until its reader leaves.
        let hdr = ["--hdr", "/dev/stderr"];
        let (mut child, addr, mut reader) = start_for_people(&host, engine, "5ms", &hdr);
        drop(child.stderr.take());
        let client = Client::connect(&host, addr);
        client.ask(b"ping");
        // The line of the interval is written after its histogram.
        let mut header_and_row = [String::new(), String::new()];
        for line in &mut header_and_row {
            reader.read_line(line).unwrap();
        }
        client.ask(b"still there");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(FAILED));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("summary of"), "{rest}");
    }

    fn people_read_columns_and_units(engine: Engine) {
        let host = Namespace::new().unwrap();
        let (mut child, addr, mut reader) = start_for_people(&host, engine, "10ms", &[]);
        Client::connect(&host, addr).ask(b"ping");
        let mut lines = (&mut reader).lines().map(Result::unwrap);
        let (header, row) = (lines.next().unwrap(), lines.next().unwrap());
        assert!(header.contains("received/s") && header.contains("Gbit/s"));
        assert!(header.contains("p99 us"));
        let ends = |line: &str| ends_of_words(line).collect::<HashSet<_>>();
        assert!(
            ends(&row).is_subset(&ends(&header)),
            "the columns do not line up:\n{header}\n{row}"
        );

        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
        let summary: Vec<_> = lines.collect();
        let told = |start: &str| {
            summary
                .iter()
                .find(|line| line.trim_start().starts_with(start))
                .unwrap_or_else(|| panic!("no {start} in {summary:#?}"))
        };
        assert!(told("summary of ").ends_with(" s"));
        assert!(told("received ").ends_with(" 4 bytes"));
        assert!(told("received ").contains(" /s "));
        assert!(told("residence ").contains(" p99.9 "));
        assert!(told("worker 0 ").contains(" 100.0 % "));
        // Names are shorter than this, and counts end in one column.
        let count_end = |start| ends_of_words(told(start)).find(|&column| column > 20);
        for start in ["replied ", "kernel drops ", "trains received "] {
            assert_eq!(count_end(start), count_end("received "), "{summary:#?}");
        }
    }
}

/// The columns at which the words of `line` end.
fn ends_of_words(line: &str) -> impl Iterator<Item = usize> + '_ {
    let is_space = |column: usize| line.as_bytes().get(column).is_none_or(|&byte| byte == b' ');
    (0..line.len()).filter(move |&column| !is_space(column) && is_space(column + 1))
}

/// The histograms of an interval log, as any reader of the format sees them.
fn logged(bytes: &[u8]) -> Vec<Histogram<u64>> {
    let mut deserializer = Deserializer::new();
    IntervalLogIterator::new(bytes)
        .map(|entry| entry.expect("every line is of the format"))
        .filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
        })
        .map(|interval| {
            let bytes = STANDARD.decode(interval.encoded_histogram()).unwrap();
            deserializer.deserialize(&mut &bytes[..]).unwrap()
        })
        .collect()
}

/// The program with reports for people, once it is ready: where it listens, and what else it
/// writes to stdout. It ends by itself after a while, so that no reader waits for ever.
fn start_for_people(
    namespace: &Namespace,
    engine: Engine,
    interval: &str,
    args: &[&str],
) -> (process::Child, SocketAddr, BufReader<process::ChildStdout>) {
    let listen = [
        "--listen",
        "127.0.0.1:0",
        "--cores",
        "1",
        "--engine",
        engine.name(),
    ];
    let ends = ["--interval", interval, "--duration", "20s"];
    let mut command = command(&[&listen[..], &ends, args].concat());
    let mut child = namespace.run(|| command.spawn()).unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut ready = String::new();
    reader.read_line(&mut ready).unwrap();
    let rest = ready.strip_prefix("ready: echo on ").expect("it is ready");
    let (addr, rest) = rest.split_once(", ").unwrap();
    assert_eq!(rest, format!("1 worker, engine {}\n", engine.name()));
    (child, addr.parse().unwrap(), reader)
}

/// A file of this test, gone when dropped.
struct TempFile(PathBuf);

impl TempFile {
    fn new(name: &str) -> Self {
        let name = format!("reflector-{}-{name}.hlog", process::id());
        Self(env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path of ours is UTF-8")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = fs::remove_file(&self.0);
    }
}

// Ends.

on_both_engines! {
    fn sigint_ends_it_as_sigterm_does(engine: Engine) {
        let host = Namespace::new().unwrap();
        let reflector = Reflector::start(&host, engine, &["--listen", "127.0.0.1:0"]);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        reflector.signal(Signal::INT);
        let (summary, _, status) = reflector.wait();
        assert_eq!(status.code(), Some(0));
        assert_eq!(summary["type"], "summary");
        assert_eq!(summary["replied"], 1);
    }

    fn a_second_signal_ends_a_drain_at_once(engine: Engine) {
        let host = Namespace::new().unwrap();
        // A drain as long as this: the worker waits for more before it answers.
        let args = ["--listen", "127.0.0.1:0", "--cores", "1", "--coalesce", "10s"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).send(b"ping");
        wait_until_taken(&host);
        // Two of a kind could become one.
        reflector.signal(Signal::TERM);
        reflector.signal(Signal::INT);
        let (_, log, status) = reflector.wait();
        assert_eq!(status.code(), Some(FAILED));
        assert_eq!(log, "ERROR the drain was cut short: stopped a second time\n");
    }

    fn it_ends_by_itself_after_its_duration(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--duration", "30ms"];
        let reflector = Reflector::start(&host, engine, &args);
        let (summary, log, status) = reflector.wait();
        assert_eq!((status.code(), status.signal()), (Some(0), None));
        assert!(summary["seconds"].as_f64().unwrap() >= 0.03);
        assert_eq!(log, "");
    }

    fn what_the_kernel_dropped_is_counted(engine: Engine) {
        const SENT: usize = 500;
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--cores", "2", "--rcvbuf", "4KiB"];
        let reflector = Reflector::start(&host, engine, &args);
        let clients = clients(&host, reflector.listen(0));
        // While it stands still, its sockets take a few datagrams and no more.
        reflector.signal(Signal::STOP);
        let (_, status) = waitpid(Pid::from_raw(reflector.pid() as i32), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped());
        for client in clients.iter().cycle().take(SENT) {
            client.send(b"one of many");
        }
        reflector.signal(Signal::CONT);
        let summary = reflector.stop();
        let drops = count(&summary["kernel_drops"]);
        assert!(drops > 0, "{summary}");
        assert_eq!(count(&summary["received"]) + drops, SENT as u64);
        let shares = summary["per_worker"].as_array().unwrap();
        let of_workers = shares.iter().map(|share| count(&share["kernel_drops"]));
        assert!(of_workers.clone().all(|drops| drops > 0), "{summary}");
        assert_eq!(of_workers.sum::<u64>(), drops);
    }
}

/// Waits until no UDP socket of `namespace` holds a datagram.
fn wait_until_taken(namespace: &Namespace) {
    let is_empty = |line: &str| {
        // Slot, local address, remote address, state, tx_queue:rx_queue (proc_net(5)).
        let queues = line.split_whitespace().nth(4).expect("a socket's line");
        queues.ends_with(":00000000")
    };
    let table = || namespace.run(|| fs::read_to_string("/proc/thread-self/net/udp").unwrap());
    wait_until("all datagrams are taken", || {
        table().lines().skip(1).all(is_empty)
    });
}

#[test]
fn help_and_version_go_to_stdout() {
    let output = |line: &str| {
        let args: Vec<_> = line.split(' ').collect();
        let output = command(&args).stderr(Stdio::piped()).output().unwrap();
        assert!(output.status.success());
        assert_eq!(text(&output.stderr), "");
        text(&output.stdout).to_owned()
    };
    assert_eq!(
        output("--version"),
        format!("reflector {}\n", env!("CARGO_PKG_VERSION"))
    );
    let said_by_both = ["Addresses:", "--listen", "Examples:", "reflector --cores 2"];
    let said_by_the_long_one = ["IP_FREEBIND", "REFLECTOR_LOG_FORMAT", "Exit status:"];
    let (short, long) = (output("-h"), output("--help"));
    for said in said_by_both {
        assert!(short.contains(said), "{said} is missing in {short}");
        assert!(long.contains(said), "{said} is missing in {long}");
    }
    for said in said_by_the_long_one {
        assert!(!short.contains(said), "{said} is too much for {short}");
        assert!(long.contains(said), "{said} is missing in {long}");
    }
    assert_eq!(output("help"), long);
    for name in ["load", "diagnose", "lab", "report"] {
        let long = output(&format!("help {name}"));
        assert_eq!(output(&format!("{name} --help")), long);
        assert!(
            long.contains(&format!("Usage: reflector {name} ")),
            "{long}"
        );
    }
}

#[test]
fn the_readme_lists_the_options_as_the_help_does() {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let output = command(&["-h"]).output().unwrap();
    let (_, options) = text(&output.stdout).split_once("\n\nAddresses:").unwrap();
    let (options, _) = options.split_once("\n\nExamples:").unwrap();
    let block = format!("```text\nAddresses:{options}\n```\n");
    assert!(readme.contains(&block), "README.md should have:\n{block}");
}
