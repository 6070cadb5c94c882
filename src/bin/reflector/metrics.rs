//! What `--metrics` of the reflector and of `load` have in common.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use reflector_measure::error::Error;
use reflector_metrics::http::{self, Response};
use reflector_metrics::page::Page;

use crate::version;

/// Listens at `addr`, and answers nobody yet.
///
/// # Errors
/// EADDRINUSE, EADDRNOTAVAIL or EACCES of the address.
pub fn listen(addr: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(addr).map_err(|error| {
        let cannot = Error::system(format!("cannot answer with metrics at {addr}"), &error);
        match error.kind() {
            io::ErrorKind::AddrInUse => cannot.try_this(format!(
                "`ss -ltnp 'sport = {}'` shows who has the port",
                addr.port()
            )),
            _ => cannot,
        }
    })
}

/// Answers at `listener` what `answer` says to a path and what the client accepts, on threads of
/// its own.
///
/// # Errors
/// EAGAIN where there may be no more threads.
pub fn serve(
    listener: TcpListener,
    answer: impl Fn(&str, &str) -> Response + Send + Sync + 'static,
) -> Result<(), Error> {
    let at = http::serve(listener, answer)
        .map_err(|error| Error::system("cannot answer with metrics", &error))?;
    tracing::info!("metrics at http://{at}/metrics");
    Ok(())
}

/// Adds what program it is.
pub fn build(page: &mut Page) {
    let labels = vec![
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
        ("commit", version::COMMIT.to_owned()),
    ];
    page.info("build", "The program that runs", labels);
}

/// The newest page, where nobody is asked for another.
#[derive(Clone, Default)]
pub struct Shared(Arc<Mutex<Page>>);

impl Shared {
    /// Answers with it at `listener`, on threads of its own.
    ///
    /// # Errors
    /// EAGAIN where there may be no more threads.
    pub fn serve(&self, listener: TcpListener) -> Result<(), Error> {
        let page = self.clone();
        let answer = move |path: &str, accepted: &str| match path {
            "/metrics" => page.get().response("reflector", accepted),
            _ => Response::line(404, "there is /metrics"),
        };
        serve(listener, answer)
    }

    /// It is `page` from now on.
    pub fn set(&self, page: Page) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }

    fn get(&self) -> Page {
        let page = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        page.clone()
    }
}

/// Reads where to answer: a port alone is one of loopback.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let said =
        || format!("'{text}' is neither a port nor an address with a port, such as [::1]:9100");
    if let Ok(port) = text.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    text.parse().map_err(|_| said())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_alone_is_one_of_loopback() {
        assert_eq!(address("9100"), Ok(([127, 0, 0, 1], 9100).into()));
        assert_eq!(address("0.0.0.0:0"), Ok(([0, 0, 0, 0], 0).into()));
        for text in ["", "65536", "localhost:1", "::1:1:", "[::1]"] {
            assert!(address(text).is_err(), "{text}");
        }
    }
}
