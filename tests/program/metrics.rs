//! Figures over HTTP, and a snapshot at SIGUSR1.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use reflector_netlab::topology::{Namespace, in_namespaces};
use reflector_testkit::{Client, Reflector, http, on_both_engines, run_to_end, text, wait_until};
use rustix::process::Signal;

use super::{FAILED, clients};

const PORT: u16 = 9188;
const PATIENCE: Duration = Duration::from_secs(20);

/// What is answered at `path`.
fn get(namespace: &Namespace, path: &str) -> (u16, String) {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
    namespace.run(|| http::get(addr, path, PATIENCE)).unwrap()
}

/// The sum of the samples of a counter.
fn sum(page: &str, name: &str) -> u64 {
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.filter(|line| line.split(['{', ' ']).next() == Some(name));
    let values = samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap());
    values.sum()
}

/// The value of a gauge without labels.
fn gauge(page: &str, name: &str) -> f64 {
    let value = page.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().trim().parse().unwrap()
}

on_both_engines! {
    fn counters_are_there_from_the_start_and_add_up(engine: Engine) {
        let host = Namespace::new().unwrap();
        let listen = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0"];
        let args = ["-c", "2", "--interval", "0", "--metrics", "9188"];
        let reflector = Reflector::start(&host, engine, &[&listen[..], &args].concat());
        let at = [0, 1].map(|index| format!("listener=\"{}\"", reflector.listen(index)));
        let (status, page) = get(&host, "/metrics");
        assert_eq!(status, 200);
        for sample in [
            &format!(
                "reflector_dropped_datagrams_total{{worker=\"1\",{},reason=\"not_allowed\"}} 0\n",
                at[1]
            ),
            &format!("reflector_send_errors_total{{worker=\"0\",{},errno=\"EPERM\"}} 0\n", at[0]),
            "reflector_batch_buffers_bucket{le=\"4096.0\",worker=\"1\"} 0\n",
            "reflector_received_train_datagrams_bucket{le=\"128.0\",worker=\"0\"} 0\n",
            "reflector_sent_train_datagrams_bucket{le=\"1.0\",worker=\"0\"} 0\n",
            "reflector_buffers_free_min{worker=\"1\"} 64.0\n",
            "reflector_residence_seconds_bucket{le=\"+Inf\"} 0\n",
            &format!("reflector_engine_info{{engine=\"{}\",", engine.name()),
            "reflector_ready 1.0\n",
            "reflector_complete 1.0\n",
        ] {
            assert!(page.contains(sample), "{sample}{page}");
        }
        assert!(page.ends_with("# EOF\n"));

        let clients = clients(&host, reflector.listen(0));
        clients.iter().for_each(|client| client.ask(b"12345"));
        let count = clients.len() as u64;
        let (_, page) = get(&host, "/metrics");
        let counted = |name: &str| sum(&page, &format!("reflector_{name}"));
        assert_eq!(counted("received_datagrams_total"), count);
        assert_eq!(counted("received_bytes_total"), 5 * count);
        // Each listener's are its own.
        let received = |at: &str| {
            let samples = page.lines().filter(|it| it.contains(at));
            sum(&samples.collect::<Vec<_>>().join("\n"), "reflector_received_datagrams_total")
        };
        assert_eq!([received(&at[0]), received(&at[1])], [count, 0]);
        assert_eq!(counted("received_train_datagrams_count"), count);
        let ended = ["replied_datagrams", "dropped_datagrams", "send_errors"];
        let ended = ended.map(|name| counted(&format!("{name}_total")));
        // The last reply may be on its way out still.
        assert!(page.contains("reflector_unaccounted_datagrams 0.0\n"), "{page}");
        assert!(ended.iter().sum::<u64>() >= count - 2, "{page}");
        assert!(counted("residence_seconds_count") >= count - 2, "{page}");
        reflector.stop();
    }

    fn it_is_ready_until_it_is_told_to_end_and_alive_until_it_has(engine: Engine) {
        let host = Namespace::new().unwrap();
        let metrics = "127.0.0.1:9188";
        let args = ["--listen", "127.0.0.1:0", "--drain-delay", "1m", "--metrics", metrics];
        let reflector = Reflector::start(&host, engine, &args);
        assert_eq!(get(&host, "/readyz"), (200, "ready\n".to_owned()));
        assert_eq!(get(&host, "/livez"), (200, "alive\n".to_owned()));
        assert_eq!(get(&host, "/nothing").0, 404);
        reflector.signal(Signal::TERM);
        wait_until("it is not ready", || get(&host, "/readyz") == (503, "ending\n".to_owned()));
        assert_eq!(get(&host, "/livez").0, 200);
        let client = Client::connect(&host, reflector.listen(0));
        client.ask(b"still here?");
        assert_eq!(sum(&get(&host, "/metrics").1, "reflector_received_datagrams_total"), 1);
        // What is asked slowly keeps nobody.
        let _slow: Vec<_> = (0..3)
            .map(|_| host.run(|| TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap()))
            .collect();
        assert_eq!(get(&host, "/livez").0, 200);
        reflector.stop();
    }

    fn a_worker_that_is_stopped_is_not_alive(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--metrics", "9188", "--interval", "0"];
        let reflector = Reflector::start(&host, engine, &args);
        // As a whole: nobody answers, and what was counted is there when it goes on.
        reflector.signal(Signal::STOP);
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, PORT));
        let asked = host.run(|| http::get(addr, "/livez", Duration::from_millis(100)));
        assert!(asked.is_err(), "{asked:?}");
        reflector.signal(Signal::CONT);
        wait_until("it is alive", || get(&host, "/livez").0 == 200);
        reflector.stop();
    }

    fn lists_that_are_read_again_are_counted_with_what_is_in_them(engine: Engine) {
        let host = Namespace::new().unwrap();
        let folder = std::env::temp_dir().join(format!(
            "reflector-metrics-{}-{}",
            std::process::id(),
            engine.name()
        ));
        fs::create_dir_all(&folder).unwrap();
        let list = folder.join("deny");
        fs::write(&list, "192.0.2.0/24\n2001:db8::/32\n").unwrap();
        let file = list.to_str().unwrap();
        let lists = ["--deny", "10.0.0.0/8", "--deny-file", file, "--deny-port", "7,9"];
        let args = ["--listen", "127.0.0.1:0", "--interval", "0", "--metrics", "9188"];
        let reflector = Reflector::start(&host, engine, &[&args[..], &lists].concat());
        let has = |sample: &str| get(&host, "/metrics").1.contains(&format!("\n{sample}\n"));
        assert!(has("reflector_list_entries{list=\"allow\"} 11.0"));
        assert!(has("reflector_list_entries{list=\"deny\"} 3.0"));
        assert!(has("reflector_list_entries{list=\"deny_port\"} 2.0"));
        let read_at = || gauge(&get(&host, "/metrics").1, "reflector_lists_read_time_seconds");
        let at_start = read_at();

        fs::write(&list, "no prefix\n").unwrap();
        reflector.signal(Signal::HUP);
        wait_until("it has failed", || has("reflector_list_reloads_total{result=\"failed\"} 1"));
        assert!(has("reflector_list_entries{list=\"deny\"} 3.0"));
        assert_eq!(read_at(), at_start, "that it failed is no success");
        fs::write(&list, "").unwrap();
        reflector.signal(Signal::HUP);
        wait_until("it is read", || has("reflector_list_reloads_total{result=\"succeeded\"} 1"));
        assert!(has("reflector_list_entries{list=\"deny\"} 1.0"));
        assert!(read_at() > at_start);
        reflector.stop_with_log();
        fs::remove_dir_all(&folder).unwrap();
    }

    fn a_signal_has_it_say_how_it_goes(engine: Engine) {
        let host = Namespace::new().unwrap();
        let args = ["--listen", "127.0.0.1:0", "--interval", "0"];
        let reflector = Reflector::start(&host, engine, &args);
        Client::connect(&host, reflector.listen(0)).ask(b"ping");
        reflector.signal(Signal::USR1);
        let snapshot = reflector.next_report();
        assert_eq!(snapshot["type"], "snapshot");
        assert_eq!((&snapshot["received"], &snapshot["unaccounted"]), (&1.into(), &0.into()));
        assert_eq!(snapshot["per_listener"][0]["listen"], reflector.ready["listen"][0]);
        assert_eq!(snapshot["per_listener"][0]["received"], 1);
        let workers = snapshot["per_worker"].as_array().unwrap().len();
        assert_eq!(workers as u64, reflector.ready["workers"]);
        let summary = reflector.stop();
        assert_eq!(summary["received"], 1, "nothing is counted twice");
    }
}

#[test]
fn an_address_that_is_taken_is_said() {
    in_namespaces("metrics::an_address_that_is_taken_is_said", || {
        let host = Namespace::new().unwrap();
        let _taken = host.run(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap());
        let output = run_to_end(&host, &["--listen", "127.0.0.1:0", "--metrics", "9188"]);
        assert_eq!(output.status.code(), Some(FAILED));
        let said = text(&output.stderr);
        assert!(
            said.contains("cannot answer with metrics at 127.0.0.1:9188"),
            "{said}"
        );
        assert!(said.contains("`ss -ltnp 'sport = 9188'`"), "{said}");
    });
}
