//! `--accelerate`: what is answered in the kernel, before it reaches a socket.

mod counted;
#[cfg(feature = "accelerate")]
mod kernel;
#[cfg(not(feature = "accelerate"))]
mod nothing;

use clap::Args;
#[cfg(feature = "accelerate")]
use clap::builder::NonEmptyStringValueParser;

use crate::values::List;
#[cfg(feature = "accelerate")]
use crate::values::list;
pub use counted::Accelerated;
#[cfg(feature = "accelerate")]
pub use kernel::InKernel;
#[cfg(not(feature = "accelerate"))]
pub use nothing::InKernel;

// A doc comment on it would become the program's description.

#[derive(Args, Clone, Debug)]
pub struct AccelerateArgs {
    /// Answer what comes in by this device in the kernel; repeatable
    ///
    /// A program at tcx ingress turns a plain datagram round before it reaches a socket, and leaves
    /// everything else to the sockets: options, fragments, VLANs, sources that get no reply,
    /// addresses that are not this host's. It needs Linux 6.6, CAP_BPF and CAP_NET_ADMIN. A reply
    /// leaves by the device that its request came in by. What the kernel answers passes netfilter,
    /// connection tracking and host firewalls by, and no socket counts it: reports have it under
    /// 'accelerated'. For a bridge of containers, name the bridge.
    #[cfg_attr(not(feature = "accelerate"), arg(skip))]
    #[cfg_attr(feature = "accelerate", arg(
        long,
        value_name = "IFNAME",
        value_parser = list(NonEmptyStringValueParser::new()),
        conflicts_with_all = ["rate_limit", "share_port", "df"],
    ))]
    accelerate: Vec<List<String>>,
}

impl AccelerateArgs {
    /// The devices, each once.
    pub fn devices(&self) -> Vec<String> {
        let mut devices: Vec<String> = Vec::new();
        for name in self.accelerate.iter().flat_map(|List(names)| names) {
            if !devices.contains(name) {
                devices.push(name.clone());
            }
        }
        devices
    }
}
