//! Options by their environment variables, and values at their limits.

use std::process::Output;

use reflector_netlab::topology::{Namespace, in_namespaces, net};
use reflector_testkit::{Client, Reflector, command, run_to_end, text, to_end};

use super::{FAILED, USAGE, assert_refused, reports};

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
        "REPLY_INTERFACE",
        "CORES",
        "CPUS",
        "ENGINE",
        "STEER",
        "WAIT",
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
    in_namespaces(
        "options::every_option_is_read_from_its_environment_variable",
        || {
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
                (
                    "LISTEN",
                    "nowhere.invalid",
                    "cannot resolve nowhere.invalid",
                ),
                ("DEVICE", "nope0", "interface nope0"),
                ("HDR", "/nowhere/x", "log /nowhere/x"),
            ] {
                let output = with_env(&[], &[(&format!("REFLECTOR_{name}"), value)]);
                assert_eq!(output.status.code(), Some(FAILED));
                let said = text(&output.stderr);
                assert!(said.lines().next().unwrap().contains(named), "{said}");
            }
        },
    );
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
            ("REFLECTOR_LISTEN", "0.0.0.0:7, x:y,"),
            "'x:y' for 'REFLECTOR_LISTEN'",
        ),
        (
            &["load", "127.0.0.1:7"],
            ("REFLECTOR_LOAD_CORES", "x"),
            "'x' for 'REFLECTOR_LOAD_CORES'",
        ),
        (
            &["diagnose"],
            ("REFLECTOR_DIAGNOSE_TARGET", ":7"),
            "':7' for 'REFLECTOR_DIAGNOSE_TARGET'",
        ),
    ];
    in_namespaces(
        "options::a_refused_value_is_told_by_where_it_came_from",
        || {
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
        },
    );
}

#[test]
fn an_option_that_is_typed_wins_over_a_variable_that_it_conflicts_with() {
    in_namespaces(
        "options::an_option_that_is_typed_wins_over_a_variable_that_it_conflicts_with",
        || {
            let cpu = core_affinity::get_core_ids().unwrap()[0].id.to_string();
            let args = ["--cpus", &cpu, "-l", "127.0.0.1:0", "-d", "1ms", "-j"];
            let reports = reports(&with_env(&args, &[("REFLECTOR_CORES", "1024")]));
            assert_eq!(reports[0]["workers"], 1);

            let both = [("REFLECTOR_CORES", "2"), ("REFLECTOR_CPUS", "0")];
            let sentence = "error: the argument 'REFLECTOR_CORES' cannot be used with \
                            'REFLECTOR_CPUS'";
            assert_refused(&with_env(&[], &both), USAGE, sentence);
        },
    );
}

#[test]
fn a_command_reads_no_variable_of_another_one() {
    in_namespaces(
        "options::a_command_reads_no_variable_of_another_one",
        || {
            let args = ["load", "127.0.0.1:7", "-d", "0"];
            for (name, value, said) in [
                ("REFLECTOR_ENGINE", "x", "cannot send for 0s"),
                ("REFLECTOR_LAB_PORT", "x", "cannot send for 0s"),
                (
                    "REFLECTOR_LOG_FORMAT",
                    "x",
                    "'x' for 'REFLECTOR_LOG_FORMAT'",
                ),
            ] {
                let output = with_env(&args, &[(name, value)]);
                let log = text(&output.stderr);
                assert_eq!(output.status.code(), Some(USAGE), "{log}");
                assert!(log.contains(said), "{name}: {log}");
            }
        },
    );
}

#[test]
fn options_work_by_environment_and_the_command_line_wins() {
    in_namespaces(
        "options::options_work_by_environment_and_the_command_line_wins",
        || {
            let variables = [
                ("REFLECTOR_LISTEN", "127.0.0.1:4001, 127.0.0.2:4002,"),
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
        "options::flags_are_set_and_cleared_by_their_environment_variables",
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
    in_namespaces("options::an_empty_environment_variable_is_none", || {
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
    in_namespaces("options::an_interface_scope_is_understood_by_name", || {
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
    in_namespaces(
        "options::times_beyond_every_clock_are_never_reached",
        || {
            let host = Namespace::new().unwrap();
            let eternity = "18446744073709551615s";
            let args = ["--listen", "127.0.0.1:0", "--json"];
            let eternal = ["--interval", eternity, "--duration", eternity];
            let child = host.run(|| command(&[&args[..], &eternal].concat()).spawn());
            let reflector = Reflector::attach(child.unwrap());
            Client::connect(&host, reflector.listen(0)).ask(b"now");
            assert_eq!(reflector.stop()["replied"], 1);
        },
    );
}

#[test]
fn a_variable_that_is_mistyped_is_told_with_the_one_that_is_meant() {
    in_namespaces(
        "options::a_variable_that_is_mistyped_is_told_with_the_one_that_is_meant",
        || {
            let told = " WARN REFLECTOR_COERS sets no option; is REFLECTOR_CORES meant?\n";
            for args in [
                &["-l", "127.0.0.1:0", "-d", "1ms"][..],
                &["load", "127.0.0.1:7", "-n", "1"],
            ] {
                let link = "udp://10.0.0.1:9007";
                let of_services = [("REFLECTOR_PORT", link), ("REFLECTOR_DENY_PORT", link)];
                let variables = [&[("REFLECTOR_COERS", "2")], &of_services[..]].concat();
                let output = with_env(args, &variables);
                let log = text(&output.stderr);
                assert!(
                    log.starts_with(told) && log.matches("WARN").count() == 1,
                    "{log}"
                );
            }
        },
    );
}

#[test]
fn the_old_name_of_an_option_is_told_its_new_one() {
    in_namespaces(
        "options::the_old_name_of_an_option_is_told_its_new_one",
        old_name_is_told,
    );
}

fn old_name_is_told() {
    let sentence = "--spin (REFLECTOR_SPIN) has another name";
    for (args, variables) in [
        (&["--spin"][..], &[][..]),
        (&[], &[("REFLECTOR_SPIN", "1")][..]),
    ] {
        let output = with_env(args, variables);
        assert_eq!(output.status.code(), Some(USAGE));
        let said = text(&output.stderr);
        assert!(
            said.contains(sentence) && said.contains("use --wait spin"),
            "{said}"
        );
    }
}
