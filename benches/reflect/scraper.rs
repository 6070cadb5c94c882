//! Asks a server for its metrics while it is measured.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use reflector_netlab::topology::Namespace;

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
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes())?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let is_whole = page.starts_with("HTTP/1.1 200") && page.contains("reflector_received");
    is_whole
        .then_some(())
        .ok_or_else(|| io::Error::other("it answers something else"))
}
