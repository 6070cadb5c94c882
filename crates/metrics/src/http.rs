//! An HTTP responder that answers GET and HEAD with short pages, and keeps nobody waiting.
//!
//! Each connection has a thread of its own, of which there are few, and a time that it may take:
//! who sends a request one byte at a time holds one of them, for that time.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use reflector_measure::clock;

/// Connections at a time.
const CONNECTIONS_MAX: usize = 8;
/// Bytes of a request, with all its headers.
const REQUEST_LEN_MAX: usize = 8192;
/// How long a connection may take to ask, and to take its answer.
const CONNECTION_MAX: Duration = Duration::from_secs(5);
/// How long is waited after a connection could not be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status, such as 200.
    pub status: u16,
    /// The type of `body`.
    pub content_type: &'static str,
    /// What is answered.
    pub body: Vec<u8>,
}

impl Response {
    /// A line of plain text.
    pub fn line(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body: (text.into() + "\n").into(),
        }
    }
}

/// Answers each request at `listener` by `handler`, which is told the path and which types are
/// accepted, on threads of its own, for as long as the process lives. Returns where it listens.
///
/// # Errors
/// EAGAIN where there may be no more threads.
pub fn serve(
    listener: TcpListener,
    handler: impl Fn(&str, &str) -> Response + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let addr = listener.local_addr()?;
    let handler = Arc::new(handler);
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || loop {
        let connection = match listener.accept() {
            Ok((connection, _)) => connection,
            Err(error) => {
                tracing::debug!("cannot accept a connection to the metrics: {error}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let Some(slot) = Slot::take(&open) else {
            // A line finds room in a send buffer that is empty, so this waits for nobody.
            let full = Response::line(503, "too many connections");
            let _ = write(connection, &full, true);
            continue;
        };
        let handler = Arc::clone(&handler);
        let answer = move || {
            let _slot = slot;
            // Who has gone needs no answer.
            let _ = converse(connection, &*handler);
        };
        // Without a thread the connection is closed unanswered.
        let _ = thread::Builder::new().name("http".to_owned()).spawn(answer);
    };
    thread::Builder::new()
        .name("metrics".to_owned())
        .spawn(accept)?;
    Ok(addr)
}

/// One of the connections that there may be, given back when it is dropped.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let slot = Self(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < CONNECTIONS_MAX).then_some(slot)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut connection: TcpStream, handler: &dyn Fn(&str, &str) -> Response) -> io::Result<()> {
    let until = clock::monotonic() + CONNECTION_MAX;
    let mut request = Vec::new();
    loop {
        if let Some(asked) = parse(&request) {
            let (response, has_body) = match asked {
                Ok(Asked {
                    path,
                    accepted,
                    has_body,
                }) => (handler(path, &accepted), has_body),
                Err(status) => (Response::line(status, reason(status)), true),
            };
            return write(connection, &response, has_body);
        }
        let left = until.saturating_duration_since(clock::monotonic());
        if left.is_zero() {
            return write(connection, &Response::line(408, reason(408)), true);
        }
        connection.set_read_timeout(Some(left))?;
        let mut bytes = [0; 1024];
        match connection.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(len) => request.extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asked<'a> {
    path: &'a str,
    /// What it accepts, as it says.
    accepted: String,
    /// Whether it wants more than the headers.
    has_body: bool,
}

/// Reads a request (RFC 9112, section 3): `None` while it is not complete, the status where it is
/// none of ours. Of its headers only `Accept` matters, and no connection is kept.
fn parse(request: &[u8]) -> Option<Result<Asked<'_>, u16>> {
    let is_complete = request.windows(4).any(|it| it == b"\r\n\r\n");
    if !is_complete {
        return (request.len() >= REQUEST_LEN_MAX).then_some(Err(431));
    }
    let end = request.iter().position(|&it| it == b'\r').unwrap_or(0);
    let Ok(line) = std::str::from_utf8(&request[..end]) else {
        return Some(Err(400));
    };
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Some(Err(400));
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Some(Err(400));
    }
    let has_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Some(Err(405)),
    };
    let path = target.split(['?', '#']).next().unwrap_or(target);
    Some(Ok(Asked {
        path,
        accepted: accepted(&request[end..]),
        has_body,
    }))
}

/// What the headers say of the types that are accepted.
fn accepted(headers: &[u8]) -> String {
    let headers = String::from_utf8_lossy(headers);
    let said = headers.lines().filter_map(|line| line.split_once(':'));
    let said = said.filter(|(name, _)| name.eq_ignore_ascii_case("accept"));
    said.map(|(_, value)| value.trim())
        .collect::<Vec<_>>()
        .join(",")
}

/// How much `accepted` wants a type, from 0 to 1 (RFC 9110, section 12.5.1), as far as it names it.
pub fn preference(accepted: &str, wanted: &str) -> f32 {
    let of = |part: &str| {
        let mut parts = part.split(';').map(str::trim);
        let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
        let q = parts.find_map(|it| it.strip_prefix("q="));
        is_it.then(|| q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
    };
    accepted.split(',').filter_map(of).fold(0.0, f32::max)
}

fn write(mut connection: TcpStream, response: &Response, has_body: bool) -> io::Result<()> {
    let Response {
        status,
        content_type,
        body,
    } = response;
    let mut answer = format!(
        "HTTP/1.1 {status} {}\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Connection: close\r\n",
        reason(*status),
        body.len()
    );
    if *status == 405 {
        answer += "Allow: GET, HEAD\r\n";
    }
    answer += "\r\n";
    let mut answer = answer.into_bytes();
    if has_body {
        answer.extend_from_slice(body);
    }
    connection.set_write_timeout(Some(CONNECTION_MAX))?;
    connection.write_all(&answer)?;
    connection.shutdown(Shutdown::Write)
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn open() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let answer = |path: &str, accepted: &str| match path {
            "/a" => Response::line(200, "b"),
            "/accepted" => Response::line(200, accepted),
            _ => Response::line(404, "nothing here"),
        };
        serve(listener, answer).unwrap()
    }

    fn said(addr: SocketAddr, request: &[u8]) -> String {
        let mut connection = TcpStream::connect(addr).unwrap();
        connection.write_all(request).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_path_is_answered() {
        let addr = open();
        let page = said(addr, b"GET /a HTTP/1.1\r\n\r\n");
        assert!(
            page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\nb\n"),
            "{page}"
        );
        assert!(said(addr, b"GET /a?x=1 HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 "));
        assert!(said(addr, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        let head = said(addr, b"HEAD /a HTTP/1.0\r\n\r\n");
        assert!(
            head.contains("Content-Length: 2\r\n") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
    }

    #[test]
    fn what_is_accepted_is_told_and_weighed() {
        let request = b"GET /accepted HTTP/1.1\r\nHost: x\r\naccept: a/b;q=0.5, c/d\r\n\r\n";
        let said = said(open(), request);
        assert!(said.ends_with("\r\n\r\na/b;q=0.5, c/d\n"), "{said}");
        let accepted = "a/b; version=1;q=0.5, C/D,e/f;q=x";
        let wanted = ["a/b", "c/d", "e/f", "g/h"].map(|it| preference(accepted, it));
        assert_eq!(wanted, [0.5, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let addr = open();
        for (request, status) in [
            (&b"POST /a HTTP/1.1\r\n\r\n"[..], "405"),
            (b"GET a HTTP/1.1\r\n\r\n", "400"),
            (b"GET /a SPDY/3\r\n\r\n", "400"),
            (b"\xff\xfe / HTTP/1.1\r\n\r\n", "400"),
            (b"\r\n\r\n\r\n", "400"),
            (&[b'x'; REQUEST_LEN_MAX], "431"),
        ] {
            let answer = said(addr, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
    }

    #[test]
    fn a_request_in_pieces_is_one() {
        let addr = open();
        let mut connection = TcpStream::connect(addr).unwrap();
        for byte in b"GET /a HTTP/1.1\r\n\r\n" {
            connection.write_all(&[*byte]).unwrap();
        }
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    }

    #[test]
    fn those_who_ask_slowly_leave_room_for_others_or_are_told_so() {
        let addr = open();
        let slow: Vec<_> = (0..CONNECTIONS_MAX)
            .map(|_| TcpStream::connect(addr).unwrap())
            .collect();
        let asked = || said(addr, b"GET /a HTTP/1.1\r\n\r\n");
        while !asked().starts_with("HTTP/1.1 503 ") {}
        drop(slow);
        while !asked().starts_with("HTTP/1.1 200 ") {}
    }
}
