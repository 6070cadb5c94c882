//! Routes, as a builder, and addresses from literals.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use reflector_measure::target::wildcard;

/// An address with its prefix length, or a network, from a literal such as `172.17.0.1/16`.
///
/// Panics on anything else: it is meant for constants in tests.
pub fn net(literal: &str) -> IpNet {
    literal
        .parse()
        .unwrap_or_else(|_| panic!("{literal} is not an address with prefix length"))
}

/// A route in a namespace's main or local table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub(crate) destination: IpNet,
    pub(crate) is_local: bool,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) device: Option<String>,
    /// The MTU, and whether path MTU discovery may lower it.
    pub(crate) mtu: Option<(u32, Mtu)>,
}

/// Who decides on the MTU of a route (ip-route(8)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mtu {
    /// The route, and path MTU discovery where that finds less.
    Discovered,
    /// The route alone (`mtu lock`).
    Locked,
}

impl Route {
    /// A route to `destination`; it needs a gateway, a device, or both.
    pub fn to(destination: IpNet) -> Route {
        Route {
            destination,
            is_local: false,
            gateway: None,
            device: None,
            mtu: None,
        }
    }

    /// The default route of the gateway's family, through `gateway`.
    pub(crate) fn default_via(gateway: IpAddr) -> Route {
        let everything = IpNet::new(wildcard(gateway), 0).expect("0 fits both families");
        Route::to(everything).via(gateway)
    }

    /// AnyIP: every address of `destination` is this host's own, through `lo`, although no
    /// interface has it (`ip route add local … dev lo`). Sending from one of them needs
    /// IP_FREEBIND or IPV6_FREEBIND for IPv6 (ip(7)).
    pub fn local(destination: IpNet) -> Route {
        Route {
            is_local: true,
            ..Route::to(destination)
        }
        .device("lo")
    }

    /// The same, through the router `gateway`.
    pub fn via(self, gateway: IpAddr) -> Route {
        Route {
            gateway: Some(gateway),
            ..self
        }
    }

    /// The same, with an MTU of its own.
    pub fn mtu(self, bytes: u32, kind: Mtu) -> Route {
        Route {
            mtu: Some((bytes, kind)),
            ..self
        }
    }

    /// The same, out of `device`.
    pub fn device(self, device: &str) -> Route {
        Route {
            device: Some(device.to_owned()),
            ..self
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_local {
            "local route"
        } else {
            "route"
        };
        write!(f, "{kind} to {}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " through {device}")?;
        }
        Ok(())
    }
}
