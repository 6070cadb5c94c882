//! What the help of the reflector's own options ends with.

use crate::help::Ending;

/// What the help ends with.
pub const ENDING: Ending = Ending {
    examples: &[
        (
            "Reflect on port 9007 of every address, with two workers",
            "reflector --cores 2",
        ),
        (
            "Reflect on one address for a minute, and print JSON lines",
            "reflector -l 127.0.0.1:7007/echo -d 60 -j",
        ),
        (
            "Answer what containers ask in the kernel, before it reaches a socket",
            "reflector --accelerate docker0",
        ),
        (
            "Serve a test at a free port, until its end of the pipe is closed",
            "reflector -l 127.0.0.1:0 --ready-line --until-eof",
        ),
        (
            "Reply to one network only, with the shortest round trips",
            "reflector --allow 10.1.0.0/16 --cpus 0-1 --wait spin",
        ),
    ],
    sections: &[
        (
            "Values",
            &[
                "TIME is a number of seconds, or has a unit: 0.5, 20us, 1m30s.",
                "SIZE is a number of bytes, or has a unit: 64KiB, 8MiB. N may be 1k for 1000.",
                "CIDR is a prefix or an address. A v4-mapped one means its IPv4 peers.",
            ],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_LOG_FORMAT sets --log-format.",
                "1 sets a flag. Options that repeat take a list: a,b. The command line wins.",
            ],
        ),
        (
            "Signals",
            &[
                "SIGTERM, SIGINT (Ctrl-C) and SIGHUP stop receiving, reply to what was received, \
                 print the summary and exit with 0. A second one exits at once, with 1. With \
                 --drain-delay the first one starts the delay, and what follows ends it.",
                "SIGUSR1 prints what has been counted since the start.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  done",
                "1  set-up or the reflector failed, or a report was lost",
                "2  wrong usage",
            ],
        ),
    ],
};
