//! A client that asks one datagram at a time.

use std::net::{SocketAddr, UdpSocket};

use reflector_netlab::topology::Namespace;

use crate::PATIENCE;

/// A client connected to the address that it asks, so that an answer from any other is no answer.
pub struct Client(UdpSocket);

impl Client {
    /// A client in `namespace`, by a fresh port.
    pub fn connect(namespace: &Namespace, asked: SocketAddr) -> Self {
        Self::connect_from(namespace, SocketAddr::new(asked.ip(), 0), asked)
    }

    /// The same, from an address of its own.
    pub fn connect_from(namespace: &Namespace, source: SocketAddr, asked: SocketAddr) -> Self {
        let socket = namespace
            .run(|| UdpSocket::bind(source))
            .expect("the namespace has the address");
        socket.connect(asked).expect("there is a route");
        socket
            .set_read_timeout(Some(PATIENCE))
            .expect("it is not zero");
        Self(socket)
    }

    /// Sends `payload`.
    pub fn send(&self, payload: &[u8]) {
        self.0.send(payload).expect("the kernel takes a datagram");
    }

    /// Waits for an answer, which must be `payload`.
    pub fn expect(&self, payload: &[u8]) {
        let mut bytes = [0; 2048];
        let len = self.0.recv(&mut bytes).expect("an answer comes");
        assert_eq!(&bytes[..len], payload);
    }

    /// Sends `payload` and waits for the answer, which is the same.
    pub fn ask(&self, payload: &[u8]) {
        self.send(payload);
        self.expect(payload);
    }
}
