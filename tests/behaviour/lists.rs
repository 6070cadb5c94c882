//! Lists of peers in files, which are read again while it serves.

use std::net::IpAddr;
use std::path::PathBuf;
use std::{env, fs, process};

use reflector_netlab::topology::DockerHost;
use reflector_testkit::train::Client;
use reflector_testkit::{Engine, at, on_both_engines, wait_until};
use rustix::process::Signal;

use super::{dropped, ping, start};

on_both_engines! {
    fn lists_are_read_again_at_sighup_and_one_that_makes_no_sense_changes_nothing(engine: Engine) {
        let picture = DockerHost::new().unwrap();
        let [allow, deny] = ["allow", "deny"].map(|it| List::new(it, engine));
        allow.write("# everybody here\nprivate\n");
        deny.write("");
        let args = [
            "--cores", "2", "--interval", "50ms", "--allow-file", allow.path(), "--deny-file",
            deny.path(),
        ];
        let reflector = start(&picture.host, engine, &args);
        let mut clients = [IpAddr::from(DockerHost::HOST), DockerHost::HOST_V6.into()]
            .map(|host| Client::any(&picture.container, at(host)));
        clients.iter_mut().for_each(ping);

        // Denied inside what is allowed; the other family is answered all the while.
        deny.write("172.17.0.0/16 # the bridge\n");
        reflector.signal(Signal::HUP);
        reflector.wait_for_report("the peer is denied", |report| {
            clients[0].send(b"denied?");
            ping(&mut clients[1]);
            dropped(report, "not_allowed") > 0
        });

        // A line that is none: everything stays as it is.
        allow.write("10.0.0.0/8\nnonsense\n");
        reflector.signal(Signal::HUP);
        for _ in 0..20 {
            ping(&mut clients[1]);
            reflector.next_report();
        }

        allow.write("private");
        deny.write("");
        reflector.signal(Signal::HUP);
        wait_until("the peer is answered again", || {
            clients[0].send(b"answered?");
            !clients[0].leftover().is_empty()
        });
        let (summary, log) = reflector.stop_with_log();
        let said = "line 2: 'nonsense': expected a prefix";
        assert!(log.contains("who is answered stays as it is") && log.contains(said), "{log}");
        assert_eq!(log.matches("the lists have been read again").count(), 2, "{log}");
        assert_eq!(summary["in_flight"], 0, "{summary}");
    }
}

/// A list in the folder for temporary files. Gone when dropped.
struct List(PathBuf);

impl List {
    fn new(name: &str, engine: Engine) -> Self {
        let name = format!("reflector-{name}-{}-{}", engine.name(), process::id());
        Self(env::temp_dir().join(name))
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // It may not have been written.
        let _ = fs::remove_file(&self.0);
    }
}
