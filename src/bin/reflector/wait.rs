//! `reflector wait`: its options, as typed, and what they come to.

use std::io;
use std::time::Duration;

use clap::Args;
use reflector_diagnose::WaitOptions;
use reflector_diagnose::question::Question;
use reflector_measure::duration;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::target::Target;

use crate::help::Ending;
use crate::netns::Netns;
use crate::question::QuestionArgs;
use crate::values::OnlyFamily;

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        (
            "Wait for a service that has just been started",
            "reflector wait 127.0.0.1:9007",
        ),
        (
            "Give it two minutes",
            "reflector wait reflector.example:9007 --for 2m",
        ),
        (
            "Wait for a DNS server",
            "reflector wait 192.0.2.1 --dns example.com",
        ),
        (
            "Wait for any answer to these bytes",
            "reflector wait 192.0.2.1:5683 --payload-hex 40000001",
        ),
    ],
    sections: &[
        (
            "Values",
            &["TIME is a number of seconds, or has a unit: 0.5, 20ms, 2m."],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_WAIT_FOR sets --for.",
                "1 sets a flag. The command line wins.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  it answers",
                "1  failed",
                "2  wrong usage",
                "Otherwise what came of the last try: 3 timeout, 4 wrong source, 6 refused, 7 \
                 unreachable, or the name has no address.",
            ],
        ),
    ],
};

/// Wait until a UDP service answers from the address asked
///
/// It is asked again and again, each time from a fresh port: first after 20 ms, then at times that
/// double up to a second. A name is looked up each time, and its addresses take turns.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct WaitArgs {
    /// UDP service to wait for: HOST:PORT, or HOST for port 9007
    ///
    /// HOST is a name, an IPv4 address, or an IPv6 address such as fe80::1%eth0, which stands in
    /// brackets before a port. The service is asked for an echo, unless --payload-hex or --dns says
    /// otherwise; with --dns the port is 53 if none is given.
    #[arg(value_name = "TARGET")]
    target: Target,
    #[command(flatten)]
    over: OnlyFamily,
    #[command(flatten)]
    netns: Netns,
    #[command(flatten)]
    question: QuestionArgs,
    /// Wait for this long at most
    #[arg(id = "for", long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = duration::parse)]
    limit: Duration,
    /// Print one JSON object instead of a sentence
    #[arg(short, long)]
    json: bool,
}

/// Waits for the service.
pub fn run(args: &WaitArgs) -> Result<Exit, Error> {
    let target = args.question.at_port(&args.target);
    let options = WaitOptions {
        target: target.over(args.over.family()),
        question: args.question.question_or(Question::EchoInfo),
        limit: args.limit,
        json: args.json,
    };
    args.netns
        .within(|| reflector_diagnose::wait(&options, &mut io::stdout().lock()))
}
