//! By which devices this host sends to whom.

use std::collections::BTreeMap;

use ipnet::IpNet;
use reflector_netlink::Route;

/// Nets, and the numbers of the devices by which packets to them leave: of the longest net around
/// an address. None where the host could not send; not named, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes(pub BTreeMap<IpNet, Vec<u32>>);

impl Routes {
    /// Those that hold of `routes`: to one net, those with the least metric; and none of the main
    /// table where the local one has an answer, which may come first.
    pub fn of(routes: &[Route]) -> Self {
        let (local, main): (Vec<&Route>, Vec<&Route>) = routes.iter().partition(|it| it.is_local);
        let mut all = best(&local);
        let main = best(&main);
        let main = main.into_iter().filter(|(net, _)| {
            let mut around = std::iter::successors(Some(*net), IpNet::supernet);
            !around.any(|it| all.contains_key(&it.trunc()))
        });
        all.extend(main.collect::<Vec<_>>());
        Self(all)
    }
}

/// To each net the devices of those `routes` that have the least metric.
fn best(routes: &[&Route]) -> BTreeMap<IpNet, Vec<u32>> {
    let mut best: BTreeMap<IpNet, (Option<u32>, Vec<u32>)> = BTreeMap::new();
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
    best.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_metric_decides_and_equal_ones_are_all_taken() {
        let route = |net: &str, metric, device| Route {
            net: net.parse().unwrap(),
            is_local: false,
            metric: Some(metric),
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

    /// One of a type of service comes before those of all, whatever their metric; and before all
    /// comes the local table.
    #[test]
    fn one_that_holds_for_some_names_nobody_and_the_local_table_is_asked_first() {
        let route = |net: &str, is_local, metric, devices: &[u32]| Route {
            net: net.parse().unwrap(),
            is_local,
            metric,
            devices: devices.into(),
        };
        let routes = Routes::of(&[
            route("10.1.0.0/16", false, Some(0), &[2]),
            route("10.1.0.0/16", false, None, &[]),
            route("10.2.0.0/16", true, Some(0), &[1]),
            route("10.2.2.0/24", false, Some(0), &[2]),
            route("10.0.0.0/8", false, Some(0), &[3]),
        ]);
        let expected = [
            ("10.0.0.0/8", vec![3]),
            ("10.1.0.0/16", vec![]),
            ("10.2.0.0/16", vec![1]),
        ];
        let expected = expected.map(|(net, devices)| (net.parse().unwrap(), devices));
        assert_eq!(routes, Routes(expected.into()));
    }
}
