//! `reflector lab`, run as people run it: what it shows, and how it ends.

mod processes;

use std::process::Command;

use reflector_measure::json::SCHEMA;
use reflector_netlab::topology::skip;
use reflector_testkit::{command, document, program};
use reflector_udp::netns::{self, Ability};
use serde_json::{Value, json};

/// The command, not started; `None`, and said so, where nobody lets us make namespaces.
fn lab(test_name: &str, args: &[&str]) -> Option<Command> {
    if let Ability::None(reason) = netns::ability() {
        skip(test_name, "netns", reason);
        return None;
    }
    let mut all = vec!["lab"];
    all.extend(args);
    Some(command(&all))
}

/// Its exit code, stdout and stderr.
fn run(mut lab: Command) -> (Option<i32>, String, String) {
    let output = lab.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text is UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// Runs `lab --json ARGS…`: its exit code, and its cases.
fn cases(test_name: &str, args: &[&str]) -> Option<(Option<i32>, Vec<Value>)> {
    let mut lab = lab(test_name, args)?;
    lab.arg("--json");
    let (code, stdout, stderr) = run(lab);
    if stdout.contains("nftables") {
        skip(test_name, "nft", "the cases nat and filter are not shown");
    }
    let lines = stdout.lines();
    let cases: Vec<Value> = lines.map(|line| document("lab", line)).collect();
    assert!(!cases.is_empty(), "{stderr}");
    Some((code, cases))
}

/// Interface, source, destination and content of each packet.
fn packets(server: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let line = |packet: &Value| {
        let [interface, source, destination, what] =
            ["interface", "source", "destination", "what"].map(|key| text(&packet[key]));
        format!("{interface} {source} > {destination} {what}")
    };
    let packets = server["packets"].as_array().expect("a list");
    packets.iter().map(line).collect()
}

/// Those seen on one interface. Only there is the order certain: two CPUs may stamp what passes two
/// interfaces.
fn packets_on(interface: &str, server: &Value) -> Vec<String> {
    let is_there = |line: &String| line.starts_with(&format!("{interface} "));
    packets(server).into_iter().filter(is_there).collect()
}

/// What the naive server and `reflector` must be seen to do in the cases of the hairpin.
fn assert_hairpin(case: &Value, client: &str, asked: &str, docker0: &str, icmp: &str) {
    let [naive, reflector] = [0, 1].map(|index| &case["servers"][index]);
    let question = format!("docker0 {client} > {asked} UDP, length 4");
    let ends = [client, docker0].map(|end| end.replace(":40000", ":0").replace(":9007", ":0"));
    assert_eq!(
        packets(naive),
        [
            question.clone(),
            format!("docker0 {docker0} > {client} UDP, length 4"),
            format!("docker0 {} > {} {icmp}", ends[0], ends[1]),
        ],
        "{case}"
    );
    assert_eq!(naive["answered_from"], docker0);
    let answer = format!("docker0 {asked} > {client} UDP, length 4");
    assert_eq!(packets(reflector), [question, answer], "{case}");
    assert_eq!(reflector["heard"]["bytes"], 4, "{case}");
    assert_eq!(naive["conntrack"], json!([]), "{case}");
}

#[test]
fn the_bug_and_the_remedy_are_shown_in_every_case() {
    let name = "the_bug_and_the_remedy_are_shown_in_every_case";
    let Some((code, cases)) = cases(name, &[]) else {
        return;
    };
    assert_eq!(code, Some(0), "{cases:#?}");
    let names: Vec<&Value> = cases.iter().map(|case| &case["case"]).collect();
    let all = ["hairpin", "nat", "filter", "ipv6", "dual-stack", "specific"];
    assert_eq!(names, all);
    for case in cases.iter().filter(|case| case["skipped"].is_null()) {
        assert_eq!(
            (&case["type"], &case["schema"]),
            (&json!("case"), &json!(SCHEMA))
        );
        let [naive, reflector] = [0, 1].map(|index| &case["servers"][index]);
        let expected = match case["case"].as_str() {
            Some("specific") => "right",
            _ => "wrong_source",
        };
        assert_eq!(naive["verdict"], expected, "{case}");
        assert_eq!(reflector["verdict"], "right", "{case}");
        assert_eq!(reflector["answered_from"], case["asked"], "{case}");
    }
    let icmp = "ICMP udp port 40000 unreachable";
    for hairpin in [&cases[0], &cases[4]] {
        let (client, asked) = ("172.17.0.3:40000", "172.16.13.13:9007");
        assert_hairpin(hairpin, client, asked, "172.17.0.1:9007", icmp);
    }
    let (client, asked) = ("[fd17::3]:40000", "[fd13::13]:9007");
    let icmp = "ICMP6 udp port 40000 unreachable";
    assert_hairpin(&cases[3], client, asked, "[fd17::1]:9007", icmp);
}

#[test]
fn behind_nat_and_filter_conntrack_waits_for_the_address_asked() {
    let name = "behind_nat_and_filter_conntrack_waits_for_the_address_asked";
    let Some((code, cases)) = cases(name, &["--case", "nat,filter"]) else {
        return;
    };
    if !cases[0]["skipped"].is_null() {
        return;
    }
    assert_eq!(code, Some(0), "{cases:#?}");
    let (client, asked) = ("172.17.0.3:40000", "172.16.13.3:9007");
    for (case, on_eth0) in [(&cases[0], "172.16.13.13:40000"), (&cases[1], client)] {
        let [naive, reflector] = [0, 1].map(|index| &case["servers"][index]);
        let question = format!("docker0 {client} > {asked} UDP, length 4");
        let forwarded = format!("eth0 {on_eth0} > {asked} UDP, length 4");
        let wrong = format!("eth0 172.16.13.2:9007 > {on_eth0} UDP, length 4");
        assert_eq!(
            packets_on("docker0", naive),
            std::slice::from_ref(&question)
        );
        assert_eq!(packets_on("eth0", naive)[..2], [forwarded.clone(), wrong]);
        let answers = ["eth0", "docker0"].map(|interface| match interface {
            "eth0" => format!("eth0 {asked} > {on_eth0} UDP, length 4"),
            _ => format!("docker0 {asked} > {client} UDP, length 4"),
        });
        let [outside, inside] = answers;
        assert_eq!(packets_on("docker0", reflector), [question, inside]);
        assert_eq!(packets_on("eth0", reflector), [forwarded, outside]);
        for (server, is_replied) in [(naive, false), (reflector, true)] {
            if server["conntrack"].is_null() {
                continue; // Not every kernel lists it.
            }
            let entry = &server["conntrack"][0];
            assert_eq!(
                entry["original"],
                json!({"source": client, "destination": asked})
            );
            assert_eq!(
                entry["reply"],
                json!({"source": asked, "destination": on_eth0})
            );
            assert_eq!(entry["is_replied"], is_replied, "{case}");
        }
    }
    let refused = "eth0 172.16.13.13:0 > 172.16.13.2:0 ICMP udp port 40000 unreachable";
    assert_eq!(packets_on("eth0", &cases[0]["servers"][0])[2], refused);
    assert_eq!(packets(&cases[1]["servers"][0]).len(), 3);
}

#[test]
fn people_see_both_in_a_pipe_as_in_80_columns() {
    let name = "people_see_both_in_a_pipe_as_in_80_columns";
    let Some(mut lab) = lab(name, &["--case", "hairpin", "--engine", "mmsg"]) else {
        return;
    };
    // Settings for a reflector are not meant for the one in the lab.
    lab.env("REFLECTOR_LISTEN", "127.0.0.1:1")
        .env("REFLECTOR_SPIN", "true");
    let (code, stdout, stderr) = run(lab);
    assert_eq!(code, Some(0), "{stdout}{stderr}");
    assert!(!stdout.contains('\u{1b}'), "no colours without a terminal");
    let has_line = |parts: &[&str]| {
        let has = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(stdout.lines().any(has), "{parts:?} in {stdout}");
    };
    has_line(&["naive server on 0.0.0.0:9007"]);
    has_line(&["172.17.0.1.9007 > ", "wrong source!"]);
    has_line(&["waited 1s in vain"]);
    has_line(&["reflector on", "(mmsg engine)"]);
    has_line(&["172.16.13.13.9007 > 172.17.0.3.40000:", "answer"]);
    has_line(&["got 4 bytes after"]);
    has_line(&["WRONG "]);
    has_line(&["RIGHT "]);
    let is_narrow = |line: &str| line.chars().count() <= 80;
    assert!(stdout.lines().all(is_narrow), "{stdout}");
    has_line(&["hairpin ", "wrong ", "right"]);
}

/// This test program as a server: the words that run the function `name` below.
fn this_program(name: &str) -> String {
    let path = std::env::current_exe().expect("a test program has a path");
    let path = path.to_str().expect("its path is UTF-8");
    format!("'{path}' --exact {name} --ignored --nocapture --test-threads 1")
}

/// Not a test: a server that is told where to listen by its environment, and answers naively.
#[test]
#[ignore = "run by other tests, as a server"]
fn serves_naively() {
    let Ok(listen) = std::env::var("LISTEN") else {
        return;
    };
    let socket = std::net::UdpSocket::bind(listen).unwrap();
    let mut bytes = [0; 1500];
    loop {
        let (len, peer) = socket.recv_from(&mut bytes).unwrap();
        socket.send_to(&bytes[..len], peer).unwrap();
    }
}

#[test]
fn a_naive_server_of_the_users_is_wrong() {
    let name = "a_naive_server_of_the_users_is_wrong";
    let server = this_program("serves_naively");
    let args = [
        "--case",
        "hairpin,ipv6,specific",
        "--server",
        &server,
        "--port",
        "7",
    ];
    let Some((code, cases)) = cases(name, &args) else {
        return;
    };
    assert_eq!(code, Some(4), "{cases:#?}");
    let verdicts: Vec<&Value> = cases
        .iter()
        .map(|case| &case["servers"][0]["verdict"])
        .collect();
    assert_eq!(verdicts, ["wrong_source", "wrong_source", "right"]);
    assert_eq!(cases[0]["servers"][0]["server"], "yours");
    assert_eq!(cases[0]["servers"][0]["answered_from"], "172.17.0.1:7");
}

#[test]
fn socat_is_wrong_and_serves_one_family() {
    let name = "socat_is_wrong_and_serves_one_family";
    if Command::new("socat").arg("-V").output().is_err() {
        return skip(name, "clients", "socat is not installed");
    }
    let server = "socat UDP4-RECVFROM:{port},fork EXEC:cat";
    let args = ["--case", "hairpin,ipv6", "--server", server];
    let Some((code, cases)) = cases(name, &args) else {
        return;
    };
    assert_eq!(code, Some(4), "{cases:#?}");
    assert_eq!(cases[0]["servers"][0]["verdict"], "wrong_source");
    assert_eq!(cases[1]["servers"][0]["verdict"], "skipped");
    assert_eq!(cases[1]["servers"][0]["bound"], json!(["0.0.0.0:9007"]));
}

fn reflector_command(options: &str) -> String {
    format!("'{}' {options}", program().display())
}

#[test]
fn reflector_is_right_as_the_users_server_too() {
    let name = "reflector_is_right_as_the_users_server_too";
    let server = reflector_command("--listen {listen}");
    let Some((code, cases)) = cases(name, &["--server", &server]) else {
        return;
    };
    assert_eq!(code, Some(0), "{cases:#?}");
    for case in cases.iter().filter(|case| case["skipped"].is_null()) {
        // `--listen [::]:9007` is a socket for IPv6 alone.
        let expected = match case["case"].as_str() {
            Some("dual-stack") => "skipped",
            _ => "right",
        };
        assert_eq!(case["servers"][0]["verdict"], expected, "{case}");
    }
}

#[test]
fn a_silent_server_never_answered() {
    let name = "a_silent_server_never_answered";
    let server = reflector_command("--listen {addr}:{port} --deny 0.0.0.0/0");
    let args = [
        "--case",
        "hairpin",
        "--timeout",
        "100ms",
        "--server",
        &server,
    ];
    let Some(lab) = lab(name, &args) else {
        return;
    };
    let (code, stdout, stderr) = run(lab);
    assert_eq!(code, Some(3), "{stdout}{stderr}");
    assert!(stdout.contains("UNANSWERED"), "{stdout}");
}

#[test]
fn a_server_that_does_not_start_is_told_apart() {
    let name = "a_server_that_does_not_start_is_told_apart";
    let sentences = [
        ("sleep 600", "had no UDP socket on port 9007 after 5 s"),
        (
            "sh -c 'echo no way >&2; exit 3'",
            "exit status: 3, saying: no way",
        ),
        ("/nonexistent/server", "no such program"),
    ];
    for (server, sentence) in sentences {
        let Some(lab) = lab(name, &["--case", "hairpin", "--server", server]) else {
            return;
        };
        let (code, _, stderr) = run(lab);
        assert_eq!(code, Some(1), "{stderr}");
        assert!(stderr.contains(sentence), "{stderr}");
    }
}

#[test]
fn nonsense_is_refused_in_a_sentence() {
    for args in [
        &["--server", ""][..],
        &["--server", "open 'quote"],
        &["--case", "nothing"],
        &["--port", "0"],
        &["--timeout", "0s"],
        &["--payload-hex", "f"],
    ] {
        let mut all = vec!["lab"];
        all.extend(args);
        let (code, stdout, stderr) = run(command(&all));
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stdout.is_empty() && !stderr.is_empty(), "{stderr}");
    }
}
