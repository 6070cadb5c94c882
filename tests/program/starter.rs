//! What a test that starts the program is told, and how it has the program end.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{
    Client, Engine, command, document, on_both_engines, program, run_to_end, text, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

use super::{FAILED, USAGE, assert_refused};

on_both_engines! {
    fn a_ready_line_names_every_address_and_the_end_of_stdin_ends_it(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["-l", "127.0.0.1:0,[::1]:0", "--interval", "10ms"];
        let mut served = Served::start(&host, engine, &args);
        assert_eq!(served.addrs.len(), 2);
        // What comes on stdin means nothing.
        served.stdin().write_all(b"quit\n\x04").unwrap();
        for addr in &served.addrs {
            Client::connect(&host, *addr).ask(b"ping");
        }
        kill_process(Pid::from_child(&served.child), Signal::USR1).unwrap();
        let mut snapshot = String::new();
        served.stdout.read_line(&mut snapshot).unwrap();
        assert!(snapshot.starts_with("snapshot received=2 replied=2 dropped=0 "), "{snapshot}");

        drop(served.child.stdin.take());
        let (rest, log, code) = served.end();
        assert_eq!((code, &*log), (Some(0), ""), "{rest}");
        let start = "summary received=2 replied=2 dropped=0 send_errors=0 receive_errors=0 \
                     kernel_drops=0 unaccounted=0 seconds=";
        assert!(rest.starts_with(start) && rest.lines().count() == 1, "{rest}");
    }

    fn file_and_descriptor_get_the_same_line_whole(engine: Engine) {
        let host = Namespace::new().unwrap();
        let place = Place::new(&format!("ready-{}", engine.name()));
        let file = place.0.join("ready");
        // What another run has left.
        fs::write(&file, "ready 192.0.2.1:1\n").unwrap();
        // The shell gives the pipe of stdout to the descriptor, and nothing else has it.
        let script = "exec \"$0\" \"$@\" 5>&1 >/dev/null";
        for json in [true, false] {
            let mut shell = Command::new("sh");
            shell.args(["-c", script]).arg(program());
            shell.args(["--engine", engine.name(), "-l", "127.0.0.1:0", "--until-eof"]);
            shell.args(["--ready-fd", "5", "--ready-file"]).arg(&file);
            shell.args(Some("--json").filter(|_| json)).env_remove("REFLECTOR_REQUIRE");
            shell.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = host.run(|| shell.spawn()).unwrap();
            let mut told = String::new();
            // To its end: the descriptor is closed while the process goes on.
            child.stdout.take().unwrap().read_to_string(&mut told).unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), told, "written before");
            assert!(told.ends_with('\n') && told.lines().count() == 1, "{told}");
            let addr = match json {
                true => document("serve", &told)["listen"][0]
                    .as_str().unwrap().parse().unwrap(),
                false => addresses(&told)[0],
            };
            Client::connect(&host, addr).ask(b"ping");
            drop(child.stdin.take());
            assert_eq!(child.wait().unwrap().code(), Some(0));
            let left = fs::read_dir(&place.0).unwrap();
            assert_eq!(left.count(), 1, "nothing but the file");
        }
    }

    fn a_file_is_never_seen_in_part(engine: Engine) {
        let host = Namespace::new().unwrap();
        let place = Place::new(&format!("whole-{}", engine.name()));
        let file = place.0.join("ready");
        let listen = (0..40).map(|host| format!("127.0.0.{}:0", host + 1)).collect::<Vec<_>>();
        let args = ["-l", &listen.join(","), "-c", "1", "--ready-file", file.to_str().unwrap()];
        let served = Served::start(&host, engine, &args);
        assert_eq!(addresses(&fs::read_to_string(&file).unwrap()), served.addrs);
        let mut first = String::new();
        fs::remove_file(&file).unwrap();
        thread::scope(|scope| {
            let seen = scope.spawn(|| {
                wait_until("there is a file", || match fs::read_to_string(&file) {
                    Ok(text) => {
                        first = text;
                        true
                    }
                    Err(_) => false,
                });
                first
            });
            let again = Served::start(&host, engine, &args);
            let first = seen.join().unwrap();
            assert_eq!(addresses(&first), again.addrs);
        });
    }

    fn a_terminal_ends_it_by_ctrl_d(engine: Engine) {
        let host = Namespace::new().unwrap();
        let program = program();
        let line = format!(
            "{} --engine {} -l 127.0.0.1:0 --ready-line --until-eof",
            program.display(),
            engine.name()
        );
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.env_remove("REFLECTOR_REQUIRE").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = host.run(|| script.spawn()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        while !ready.contains("ready 127.0.0.1:") {
            assert_ne!(stdout.read_line(&mut ready).unwrap(), 0, "{ready}");
        }
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(b"what is typed means nothing\n\x04").unwrap();
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert!(rest.contains("summary received=0 "), "{rest}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn what_nobody_could_be_told_by_is_refused() {
    in_namespaces("starter::what_nobody_could_be_told_by_is_refused", || {
        let host = Namespace::new().unwrap();
        let place = Place::new("refused");
        let listen = ["-l", "127.0.0.1:0"];
        let file = place.0.display().to_string();
        let missing = place.0.join("missing/ready").display().to_string();
        let cannot = "ERROR cannot";
        for (args, said) in [
            (
                &["--until-eof"][..],
                "run until stdin ends (--until-eof): it is neither a pipe nor a socket nor a \
                 terminal; have whoever starts it hold the other end of a pipe"
                    .to_owned(),
            ),
            (
                &["--ready-fd", "7"],
                "take the descriptor 7 of --ready-fd: Bad file descriptor (os error 9); leave it \
                 open, as `7>&1` in a shell does"
                    .to_owned(),
            ),
            (
                &["--ready-file", &file],
                format!(
                    "replace the ready file {file}: it is not a regular file; --ready-fd writes \
                     to what is open already"
                ),
            ),
        ] {
            let output = run_to_end(&host, &[&listen[..], args].concat());
            assert_refused(&output, FAILED, &format!("{cannot} {said}"));
        }
        let output = run_to_end(&host, &[&listen[..], &["--ready-file", &missing]].concat());
        assert_eq!(output.status.code(), Some(FAILED));
        let said = format!("cannot write the ready file {missing}: No such file or directory");
        assert!(
            text(&output.stderr).contains(&said),
            "{}",
            text(&output.stderr)
        );
        assert!(!text(&output.stdout).contains("ready"), "it is not");

        let mut shell = Command::new("sh");
        shell
            .args(["-c", "exec \"$0\" --ready-fd 5 5</dev/null"])
            .arg(program());
        shell.env_remove("REFLECTOR_REQUIRE");
        let said = "take the descriptor 5 of --ready-fd: it is not open for writing; of a pipe, \
                    pass the end that is written to";
        let output = host.run(|| shell.output()).unwrap();
        assert_refused(&output, FAILED, &format!("{cannot} {said}"));

        for fd in ["2", "-1", "one"] {
            let output = run_to_end(&host, &["--ready-fd", fd]);
            let said = format!(
                "error: invalid value '{fd}' for '--ready-fd <N>': expected the number of a \
                 descriptor from 3 on (0 to 2 are stdin, stdout and stderr)"
            );
            assert_refused(&output, USAGE, &said);
        }
    });
}

/// A file of an earlier run would be taken for that of one that never gets ready.
#[test]
fn one_that_cannot_start_leaves_no_file() {
    in_namespaces("starter::one_that_cannot_start_leaves_no_file", || {
        let host = Namespace::new().unwrap();
        let place = Place::new("stale");
        let file = place.0.join("ready");
        fs::write(&file, "ready 127.0.0.1:9007\n").unwrap();
        let path = file.to_str().unwrap();
        let args = ["-l", "192.0.2.1:9007", "--ready-file", path];
        assert_eq!(run_to_end(&host, &args).status.code(), Some(FAILED));
        assert!(!file.exists());
    });
}

/// The program with a ready line, and an end of its stdin. Killed when dropped.
struct Served {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
    addrs: Vec<SocketAddr>,
}

impl Served {
    fn start(host: &Namespace, engine: Engine, args: &[&str]) -> Self {
        let own = ["--engine", engine.name(), "--ready-line", "--until-eof"];
        let mut command = command(&[&own[..], args].concat());
        let mut child = host.run(|| command.stdin(Stdio::piped()).spawn()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Self {
            child,
            stdout,
            addrs: addresses(&line),
        }
    }

    fn stdin(&mut self) -> &mut std::process::ChildStdin {
        self.child.stdin.as_mut().expect("it is a pipe")
    }

    /// The rest of stdout, stderr and the exit code.
    fn end(mut self) -> (String, String, Option<i32>) {
        let (mut rest, mut log) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).unwrap();
        let stderr = self.child.stderr.as_mut().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        (rest, log, self.child.wait().unwrap().code())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The addresses of a ready line.
fn addresses(line: &str) -> Vec<SocketAddr> {
    let addrs = line
        .strip_prefix("ready ")
        .and_then(|it| it.strip_suffix('\n'));
    let addrs = addrs.unwrap_or_else(|| panic!("not a ready line: {line:?}"));
    addrs
        .split(' ')
        .map(|it| it.parse().expect("an address"))
        .collect()
}

/// A directory for one test. Gone when dropped.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("reflector-starter-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
