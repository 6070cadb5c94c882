//! A client of HTTP, for one short page at a time.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Asks the server at `addr` for `path`, and returns the status and the body.
///
/// # Errors
/// ECONNREFUSED, ETIMEDOUT; InvalidData for what is no HTTP.
pub fn get(addr: SocketAddr, path: &str, patience: Duration) -> io::Result<(u16, String)> {
    let mut connection = TcpStream::connect_timeout(&addr, patience)?;
    connection.set_read_timeout(Some(patience))?;
    connection.set_write_timeout(Some(patience))?;
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or(io::ErrorKind::InvalidData)?;
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}
