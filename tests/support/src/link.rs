//! Two namespaces at the ends of a link.

use reflector_netlab::topology::{Namespace, net};

/// Connects two namespaces by a veth that both call `name`: `first` has 10.9.0.1 and fd09::1 there,
/// `second` has 10.9.0.2 and fd09::2. Returns when they can be used.
pub fn join(first: &Namespace, second: &Namespace, name: &str) {
    first.add_veth(name, second, name).expect("a new link");
    for (namespace, host) in [(first, 1), (second, 2)] {
        for address in [format!("10.9.0.{host}/24"), format!("fd09::{host}/64")] {
            let added = namespace.add_address(name, net(&address));
            added.expect("a new address");
        }
        namespace.set_up(name).expect("the link is there");
    }
    for namespace in [first, second] {
        namespace.wait_ready(name).expect("both ends are up");
    }
}
