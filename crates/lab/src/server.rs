//! The servers that are asked: the naive one, the user's, and `reflector` itself as a child.

pub(crate) mod command;
pub(crate) mod running;

mod reflector;
mod yours;

use std::net::SocketAddr;

use crate::process_group::ProcessGroups;
use command::ServerCommand;
use reflector_netlab::naive::NaiveServer;
use reflector_netlab::topology::Namespace;
use running::Server;

/// A server that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ServerUnderTest {
    /// `recvfrom` and `sendto` on a wildcard socket, as most servers do.
    Naive,
    /// The user's own.
    Yours(ServerCommand),
    /// This program, on the engine of that name.
    Reflector(&'static str),
}

impl ServerUnderTest {
    /// Its name for people.
    pub(crate) fn title(&self) -> &'static str {
        match self {
            ServerUnderTest::Naive => "naive server",
            ServerUnderTest::Yours(_) => "your server",
            ServerUnderTest::Reflector(_) => "reflector",
        }
    }

    /// Its name in JSON.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            ServerUnderTest::Naive => "naive",
            ServerUnderTest::Yours(_) => "yours",
            ServerUnderTest::Reflector(_) => "reflector",
        }
    }

    /// Starts it on `listen` in `namespace`.
    ///
    /// The calling thread must be in `namespace` and must stay until the server is dropped.
    ///
    /// # Errors
    /// A sentence that says why there is no server.
    pub(crate) fn start(
        &self,
        namespace: &Namespace,
        listen: SocketAddr,
        process_groups: &ProcessGroups,
    ) -> Result<Server, String> {
        match self {
            ServerUnderTest::Naive => {
                let server = NaiveServer::bind(namespace, listen).map_err(|e| e.to_string())?;
                Ok(Server::Naive { _server: server })
            }
            ServerUnderTest::Yours(command) => {
                yours::start(command, namespace, listen, process_groups)
            }
            ServerUnderTest::Reflector(engine) => {
                reflector::start(engine, namespace, listen, process_groups)
            }
        }
    }
}
