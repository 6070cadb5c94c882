//! Asks a server for its metrics while it is measured.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reflector_netlab::topology::Namespace;
use reflector_testkit::http;

/// From an answer to the next question: some six hundred times as often as Prometheus asks where it
/// is not told how often (scrape_interval, a minute).
const INTERVAL: Duration = Duration::from_millis(100);

/// Asks until it is dropped or told to end.
pub struct Scraper {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Scraper {
    /// Asks at `port` of loopback in `namespace`, where there may be nobody yet.
    pub fn start(namespace: &Namespace, port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_over);
        // A thread is in the namespace of the one that has started it.
        let thread = namespace.run(|| {
            thread::spawn(move || {
                let mut answers = 0;
                while !until.load(Ordering::Relaxed) {
                    thread::sleep(INTERVAL);
                    answers += u64::from(ask(port).is_ok());
                }
                answers
            })
        });
        Self {
            is_over,
            thread: Some(thread),
        }
    }

    /// Ends; returns how often there was an answer.
    ///
    /// # Errors
    /// There was none.
    pub fn end(mut self) -> io::Result<u64> {
        match self.join() {
            0 => Err(io::Error::other("nobody has answered with metrics")),
            answers => Ok(answers),
        }
    }

    fn join(&mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.map_or(0, |it| it.join().expect("nothing in it panics"))
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        self.join();
    }
}

fn ask(port: u16) -> io::Result<()> {
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (status, page) = http::get(addr, "/metrics", Duration::from_secs(1))?;
    let is_whole = status == 200 && page.contains("reflector_received");
    is_whole
        .then_some(())
        .ok_or_else(|| io::Error::other("it answers something else"))
}
