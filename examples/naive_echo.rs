//! The echo server that everybody writes first, to see what is wrong with it.
//!
//! `recv_from` says who sent a datagram, but not to which of this host's addresses. So `send_to`
//! cannot say from which one the reply shall leave, and the kernel takes the one that its route to
//! the peer prefers. A container that asks the host's eth0 address is answered from docker0's:
//! its kernel knows no socket that talks to that address, drops the reply and sends an ICMP port
//! unreachable; behind NAT or a stateful filter, the reply belongs to no flow. The remedy is to
//! take the address asked out of the request's pktinfo and to put it into the reply's, as
//! `reflector` does; the example `echo` is this server, done right.
//!
//! ```text
//! cargo run --example naive_echo [ADDR:PORT]    default: 0.0.0.0:9007
//! cargo run --example ask HOST_ADDR:9007        in a container, at another address of the host
//! ```
//!
//! It prints where it listens, `listening on 0.0.0.0:9007`, and each reply that it cannot send.

use std::env;
use std::io;
use std::net::UdpSocket;

fn main() -> io::Result<()> {
    let listen = env::args().nth(1);
    let socket = UdpSocket::bind(listen.as_deref().unwrap_or("0.0.0.0:9007"))?;
    println!("listening on {}", socket.local_addr()?);
    let mut bytes = [0; 65_536];
    loop {
        let (len, peer) = socket.recv_from(&mut bytes)?;
        // The mistake: from where? A reply that cannot be sent is no reason to stop, however.
        if let Err(error) = socket.send_to(&bytes[..len], peer) {
            eprintln!("cannot answer {peer}: {error}");
        }
    }
}
