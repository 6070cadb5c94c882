//! Replies that have no room: in the send buffer, or in the queue of the device.

use reflector_testkit::{on_both_engines, tc};

use super::scene::{Played, Scene, count, sum};

/// Trains, whose replies need more room at once than single ones.
const TRAINS: [&str; 14] = [
    "load",
    "10.9.0.1:5151",
    "--json",
    "--rate",
    "10k",
    "--count",
    "10k",
    "--burst",
    "20",
    "--size",
    "1000",
    // Nothing is to be lost, however long the worker waits for a CPU.
    "--timeout",
    "20s",
    "--flows=4",
];

on_both_engines! {
    fn a_send_buffer_as_small_as_the_kernel_makes_it(engine: Engine) {
        let scene = Scene::new();
        let reflector = scene.start(engine, &["--sndbuf", "1"]);
        let load = scene.load_with(&TRAINS).end();
        let played = Played::end(load, reflector);
        played.tell("send buffer of 4.5 KiB, trains of 20 kB", engine);
        let refused = sum(&played.server["send_errors"]) + sum(&played.server["dropped"]);
        assert_eq!(played.at("lost"), refused, "{} {}", played.load, played.server);
    }

    /// A full queue drops what the kernel has taken: it counts as replied, and in `queue_drops`.
    fn a_queue_of_the_device_that_is_full(engine: Engine) {
        let scene = Scene::new();
        let reflector = scene.start(engine, &["--gso", "off"]);
        let queue = "qdisc add dev v0 root tbf rate 100kbit burst 1600 limit 3000";
        if !tc("a_queue_of_the_device_that_is_full", &scene.server, queue) {
            return;
        }
        let played = scene.play(reflector, "10.9.0.1:5151", 1.5, |_| {});
        played.tell("queue of the device full (tbf, 100 kbit/s, 3 kB)", engine);
        let (lost, drops) = (played.at("lost"), count(&played.server["queue_drops"]));
        assert!(lost > 0, "{}", played.load);
        // Some are of others, such as questions for neighbours.
        assert!((lost..lost + 40).contains(&drops), "{}", played.server);
    }
}
