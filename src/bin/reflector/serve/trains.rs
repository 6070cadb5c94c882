//! Trains and buffers, as typed.

use std::time::Duration;

use clap::Args;
use reflector::config::{self, Builder};

use super::values;
use crate::values::{Switch, number, time};

// A doc comment on the struct would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct Trains {
    /// Receive datagrams of one flow together, as a train (UDP_GRO)
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    #[arg(default_value_t = Switch::On)]
    gro: Switch,
    /// Send replies to one peer together, as a train (UDP_SEGMENT)
    #[arg(long, value_enum, value_name = "on|off", hide_possible_values = true)]
    #[arg(default_value_t = Switch::On)]
    gso: Switch,
    /// Wait this long for more datagrams before replying
    ///
    /// At most 10s. Makes trains longer, and replies later.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    #[arg(value_parser = time(Duration::ZERO..=config::COALESCE_MAX))]
    coalesce: Duration,
    /// Number of receive buffers per worker
    ///
    /// Rounded up to a power of two. Few buffers stay in the CPU's cache; too few are used up by
    /// single datagrams that arrive at once.
    #[arg(long, value_name = "N", default_value_t = config::BUFFERS_DEFAULT)]
    #[arg(value_parser = number::<u16>(1..=4096))]
    buffers: u16,
    /// Receive buffer of each socket
    ///
    /// More than net.core.rmem_max needs CAP_NET_ADMIN.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = values::buffer_size)]
    rcvbuf: usize,
    /// Send buffer of each socket
    ///
    /// More than net.core.wmem_max needs CAP_NET_ADMIN.
    #[arg(long, value_name = "SIZE", default_value = "8MiB", value_parser = values::buffer_size)]
    sndbuf: usize,
    /// Never fragment replies, so that peers can test the path MTU
    ///
    /// What is longer than the MTU on the way is lost. By default, IPv4 replies may be fragmented,
    /// and IPv6 replies follow the path MTU.
    #[arg(long)]
    df: bool,
}

impl Trains {
    /// `builder` with what is asked for.
    pub fn apply(&self, builder: Builder) -> Builder {
        builder
            .gro(self.gro.is_on())
            .gso(self.gso.is_on())
            .coalesce(self.coalesce)
            .buffers(self.buffers)
            .receive_buffer_len(self.rcvbuf)
            .send_buffer_len(self.sndbuf)
            .df(self.df)
    }
}
