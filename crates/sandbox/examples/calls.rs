//! Prints the system calls that are left to whom, one a line: `worker`, `fails`, `others` or
//! `takeover` (others with that option), the name, and `narrowed` where only some of its uses are
//! meant. scripts/sandbox.sh reads it.

use reflector_sandbox::{
    ACCELERATED, LISTEN, OTHERS, SILENT, SILENT_OLD, TAKEOVER, WORKER, WORKER_OLD,
};

fn main() {
    let lists = [
        ("worker", WORKER),
        ("worker", WORKER_OLD),
        ("fails", SILENT),
        ("fails", SILENT_OLD),
        ("others", OTHERS),
        ("takeover", TAKEOVER),
        ("takeover", LISTEN),
        ("others", ACCELERATED),
    ];
    for (whose, list) in lists {
        for call in list {
            let narrowed = if call.is_narrowed() { " narrowed" } else { "" };
            println!("{whose} {}{narrowed}", call.name());
        }
    }
}
