//! What it refuses, and how it says so.

use std::process::{self, Stdio};

use reflector_netlab::topology::{DockerHost, Namespace, in_namespaces};
use reflector_testkit::{command, program, run_to_end, text};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use super::{FAILED, USAGE, assert_refused};

#[test]
fn a_command_line_that_makes_no_sense_is_refused_in_one_sentence() {
    let cases: &[(&[&str], &str)] = &[
        (&["--colour"], "error: unexpected argument '--colour' found"),
        (&["serve"], "error: unrecognized subcommand 'serve'"),
        (
            &["--listen", "70000"],
            "error: invalid value '70000' for '--listen <ADDR:PORT>': a port is at most 65535",
        ),
        (
            &["--listen", "9008,::1:9009"],
            "error: invalid value '::1:9009' for '--listen <ADDR:PORT>': it can be read in two \
             ways: type [::1]:9009 or [::1:9009]:9007",
        ),
        (
            &["--listen", "0.0.0.0:9007/stamp"],
            "error: invalid value '0.0.0.0:9007/stamp' for '--listen <ADDR:PORT>': there is no \
             mode 'stamp'; the modes are: echo, echo-info",
        ),
        (
            &["--device", ""],
            "error: a value is required for '--device <IFNAME>' but none was supplied",
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
            &["--listen", "0.0.0.0:9007, 10.0.0.1:9007,"],
            "ERROR cannot reflect on 10.0.0.1:9007: --listen 0.0.0.0:9007 covers it already",
        ),
        (
            &["--dual-stack", "--listen", "10.0.0.1:9007"],
            "ERROR cannot reflect on 10.0.0.1:9007: --dual-stack is for the wildcard [::] only",
        ),
        (
            &["-4", "--listen", "[::]:9007"],
            "ERROR cannot reflect on [::]:9007 over IPv4: it has no IPv4 address",
        ),
        (
            &["-6", "--dual-stack"],
            "error: the argument '--ipv6' cannot be used with '--dual-stack'",
        ),
        (
            &["load", "9108"],
            "error: invalid value '9108' for '<TARGET>': a host is missing, as in 127.0.0.1:9108",
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
             10.0.0.0/8, an address, 'private' or 'any'",
        ),
        (
            &["--deny", "127.0.0.5/8"],
            "error: invalid value '127.0.0.5/8' for '--deny <CIDR>': it is no prefix, having bits \
             behind its length; expected 127.0.0.0/8 or 127.0.0.5/32",
        ),
        (
            &["--interval", "1M"],
            "error: invalid value '1M' for '--interval <TIME>': a minute is m or min, as in 1m or \
             1min",
        ),
        (
            &["--rcvbuf", "0"],
            "error: invalid value '0' for '--rcvbuf <SIZE>': expected a size of at least 1 byte, \
             such as 64KiB or 8MiB",
        ),
        (
            &["--deny", "all"],
            "error: invalid value 'all' for '--deny <CIDR>': expected a prefix such as \
             10.0.0.0/8, an address, 'private' or 'any'",
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
        "refusals::a_command_line_that_makes_no_sense_is_refused_in_one_sentence",
        || {
            let host = Namespace::new().unwrap();
            for (args, sentence) in cases {
                assert_refused(&run_to_end(&host, args), USAGE, sentence);
            }
        },
    );
}

#[test]
fn an_address_that_is_taken_for_a_command_is_hinted_at_its_option() {
    for (word, is_hinted) in [
        ("127.0.0.1:9007", true),
        ("::1", true),
        ("9008", true),
        ("serve", false),
    ] {
        let output = command(&[word]).stderr(Stdio::piped()).output().unwrap();
        let sentence = format!("error: unrecognized subcommand '{word}'");
        assert_refused(&output, USAGE, &sentence);
        let tip = format!("  tip: to listen there, type '--listen {word}'\n");
        assert_eq!(text(&output.stderr).contains(&tip), is_hinted, "{word}");
    }
}

#[test]
fn a_cpu_that_the_process_may_not_use_is_refused() {
    in_namespaces(
        "refusals::a_cpu_that_the_process_may_not_use_is_refused",
        || {
            let host = Namespace::new().unwrap();
            let allowed = core_affinity::get_core_ids().unwrap();
            let list: Vec<_> = allowed.iter().map(|core| core.id.to_string()).collect();
            let sentence = format!(
                "ERROR cannot run on CPU 4095: this process may use CPUs {}",
                list.join(",")
            );
            assert_refused(&run_to_end(&host, &["--cpus", "4095"]), USAGE, &sentence);
        },
    );
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
            &["--listen", "[fe80::1%nope0]:9007"],
            "ERROR cannot find the interface nope0: No such device (os error 19); `ip link` lists \
             the interfaces of this host",
        ),
        (
            &["--listen", "10.1.2.3"],
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
    in_namespaces(
        "refusals::what_the_system_refuses_is_said_with_what_to_try",
        || {
            let docker = DockerHost::new().unwrap();
            for (args, sentence) in cases {
                assert_refused(&run_to_end(&docker.host, args), FAILED, sentence);
            }
        },
    );
}

#[test]
fn a_port_below_1024_without_the_capability_is_refused() {
    in_namespaces(
        "refusals::a_port_below_1024_without_the_capability_is_refused",
        || {
            let host = Namespace::new().unwrap();
            assert_eq!(
                host.sysctl("ipv4/ip_unprivileged_port_start").unwrap(),
                "1024"
            );
            let args = ["--listen", "127.0.0.1:53", "--duration", "1ms"];
            // Even root is refused where the thread, and what it starts, has lost the capability.
            let without = host.run(|| {
                remove_capability_from_bounding_set(CapabilitySet::NET_BIND_SERVICE).unwrap();
                command(&args).output().unwrap()
            });
            assert_refused(
                &without,
                FAILED,
                "ERROR cannot bind 127.0.0.1:53: Permission denied (os error 13); a port below \
             1024 needs CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start",
            );
            let with = run_to_end(&host, &args);
            assert!(with.status.success(), "{}", text(&with.stderr));
        },
    );
}

#[test]
fn a_limit_on_open_files_ends_it_before_it_is_ready() {
    in_namespaces(
        "refusals::a_limit_on_open_files_ends_it_before_it_is_ready",
        || {
            let host = Namespace::new().unwrap();
            // Too few for the sockets; enough for them, but not for what the workers need.
            for (limit, attempted) in [(6, "cannot open a socket"), (24, "cannot start a worker")] {
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
        },
    );
}
