//! A target whose neighbour entry has to be found first, and takes its time.

use reflector_netlab::topology::{Namespace, in_force, in_namespaces, nft};

use super::{Running, count};
use reflector_testkit::{Engine, Reflector, join};

/// A server and a client at the two ends of a link.
pub(super) struct Link {
    pub(super) server: Namespace,
    pub(super) client: Namespace,
}

/// The server answers no ARP and no neighbour solicitation until it is told to.
const SILENCE: &str = "table arp quiet { chain in { type filter hook input priority 0; drop; }; }
     table ip6 quiet { chain in { type filter hook input priority 0;
     icmpv6 type nd-neighbor-solicit drop; }; }";
const VOICE: &str = "delete table arp quiet; delete table ip6 quiet";

impl Link {
    pub(super) fn new() -> Self {
        let (server, client) = (Namespace::new().unwrap(), Namespace::new().unwrap());
        join(&server, &client, "eth0");
        // Asks often, and does not give up: the test takes tenths of a second that way.
        for family in ["ipv4", "ipv6"] {
            for (name, value) in [("retrans_time_ms", "100"), ("mcast_solicit", "100")] {
                let name = format!("{family}/neigh/eth0/{name}");
                client.set_sysctl(&name, value).unwrap();
            }
        }
        Self { server, client }
    }
}

#[test]
fn what_a_search_for_the_neighbour_costs_is_not_charged_to_the_target() {
    let test_name =
        "neighbours::what_a_search_for_the_neighbour_costs_is_not_charged_to_the_target";
    in_namespaces(test_name, || {
        for target in ["10.9.0.1:5151", "[fd09::1]:5151"] {
            let link = Link::new();
            let args = ["--listen", "0.0.0.0:5151", "--listen", "[::]:5151"];
            let reflector = Reflector::start(&link.server, Engine::Mmsg, &args);
            if !in_force(test_name, nft(&link.server, SILENCE)) {
                return;
            }
            let mut running = link.client.run(|| {
                let options = "--rate 1k --count 1000 --timeout 200ms";
                Running::start(target, options)
            });
            let mut lost = 0;
            running.wait_for_report(|line| {
                lost += count(&line["lost"]);
                lost >= 100
            });
            nft(&link.server, VOICE).unwrap();
            let ended = running.end();
            reflector.stop();
            let summary = ended.summary();
            let [lost, cold] = ["lost", "lost_before_answer"].map(|key| count(&summary[key]));
            assert!(lost >= 100 && cold <= lost, "{summary}");
            // A busy machine may lose some more, later.
            assert!(10 * cold >= 8 * lost, "{summary}");
            assert!(
                summary["first_answer_seconds"].as_f64().unwrap() > 0.2,
                "{summary}"
            );
            let note = format!("{cold} of {lost} lost datagrams were sent before the first answer");
            let notes = summary["notes"].as_array().unwrap();
            let is_said = notes.iter().any(|it| it.as_str().unwrap().contains(&note));
            assert!(is_said, "{summary}");
        }
    });
}
