//! Settings, validated: what is asked for becomes what can be done here, and every limit is summed
//! in the open.

mod build;
mod builder;
mod cpus;
mod listeners;
mod memory;
mod neighbours;
mod settings;

pub use crate::engine::Waiting;
pub use builder::Builder;
pub(crate) use settings::SEND_BUFFER_SMALL;
pub use settings::{
    BUFFERS_DEFAULT, COALESCE_MAX, Config, DEFAULT_PORT, EngineChoice, Listener, OpenPaths,
    SOCKET_BUFFER_DEFAULT,
};
