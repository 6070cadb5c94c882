//! By which devices this host sends to whom.

use std::collections::BTreeMap;

use ipnet::IpNet;
use reflector_netlink::Route;

/// Nets, and the numbers of the devices by which packets to them leave: of the longest net around
/// an address. None where the host could not send; not named, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(pub BTreeMap<IpNet, Vec<u32>>);

impl Routes {
    /// Those that hold of `routes`: to one net, those with the least metric.
    pub fn of(routes: &[Route]) -> Self {
        let mut best: BTreeMap<IpNet, (u32, Vec<u32>)> = BTreeMap::new();
        for route in routes {
            let new = || (route.metric, Vec::new());
            let (metric, devices) = best.entry(route.net.trunc()).or_insert_with(new);
            if route.metric < *metric {
                (*metric, *devices) = new();
            }
            if route.metric == *metric {
                devices.extend(&route.devices);
            }
        }
        let best = best.into_iter().map(|(net, (_, mut devices))| {
            devices.sort_unstable();
            devices.dedup();
            (net, devices)
        });
        Self(best.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_metric_decides_and_equal_ones_are_all_taken() {
        let route = |net: &str, metric, device| Route {
            net: net.parse().unwrap(),
            metric,
            devices: vec![device],
        };
        let routes = Routes::of(&[
            route("10.0.0.0/8", 600, 3),
            route("10.0.0.0/8", 100, 2),
            route("10.0.0.0/8", 600, 4),
            route("fe80::/64", 256, 3),
            route("fe80::/64", 256, 2),
            route("fe80::/64", 256, 3),
        ]);
        let expected = [("10.0.0.0/8", vec![2]), ("fe80::/64", vec![2, 3])];
        let expected = expected.map(|(net, devices)| (net.parse().unwrap(), devices));
        assert_eq!(routes, Routes(expected.into()));
    }
}
