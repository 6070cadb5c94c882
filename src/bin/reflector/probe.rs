//! `reflector probe`: its options, as typed, and what they come to.

use std::io;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use reflector_diagnose::question::Question;
use reflector_diagnose::{ProbeOptions, Word};
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::host_port::HostPort;
use reflector_measure::target::Target;

use crate::help::Ending;
use crate::netns::Netns;
use crate::question::QuestionArgs;
use crate::values::{List, OnlyFamily, WAIT_FOR_ANSWER, list, number, one_of, port, time};

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        ("Does it answer?", "reflector probe 192.0.2.1:9007"),
        (
            "It must not: exit with 0 if a policy keeps all silent",
            "reflector probe 192.0.2.1:9007 --expect timeout -t 300ms",
        ),
        (
            "What was asked, what answered, and how the server saw it",
            "reflector probe 192.0.2.1:9007 -n 5 --json",
        ),
        (
            "Ask a DNS server as its clients do",
            "reflector probe 192.0.2.1 --dns example.com --connected",
        ),
    ],
    sections: &[
        (
            "Values",
            &["TIME is a number of seconds, or has a unit: 0.5, 20ms."],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_PROBE_COUNT sets --count.",
                "1 sets a flag. The command line wins.",
            ],
        ),
        (
            "The word, and the exit status",
            &[
                "0  ok            each was answered from the address asked, or what --expect says",
                "1                failed: the name is not known, the port is taken",
                "2                wrong usage",
                "3  timeout       no answer and no ICMP error",
                "4  wrong-source  an answer came from another address",
                "5  loss          some were answered; or ok, which --expect does not say",
                "6  refused       nobody listens on that port, ICMP says",
                "7  unreachable   no way leads there, or somebody on it forbids it",
            ],
        ),
    ],
};

/// Ask a UDP service, and say in one word whether it answers as it should
///
/// The word is ok, wrong-source, refused, timeout, loss or unreachable, and each has an exit code.
/// It is said as soon as it is known. What is behind it, 'diagnose' says.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct ProbeArgs {
    /// UDP service to ask: HOST:PORT, or HOST for port 9007
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
    /// Send this many datagrams, all at once from one port
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = number::<u16>(1..=100))]
    count: u16,
    /// Wait this long for all answers
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    #[arg(value_parser = time(WAIT_FOR_ANSWER))]
    timeout: Duration,
    /// Ask by a connected socket, as most clients do
    ///
    /// Its kernel gives it answers from the address asked only: one from elsewhere is a timeout.
    #[arg(long, conflicts_with = "expect_source")]
    connected: bool,
    /// Send from this port
    #[arg(long, value_name = "PORT", value_parser = port)]
    source_port: Option<u16>,
    /// Take answers from ADDR for right, instead of those from the address asked
    ///
    /// At the port that is asked, if ADDR has none.
    #[arg(long, value_name = "ADDR")]
    expect_source: Option<HostPort>,
    /// Exit with 0 if this is the word, or one of these
    #[arg(long, value_name = "WORD", value_parser = list(word_parser()))]
    #[arg(hide_possible_values = true)]
    expect: Option<List<Word>>,
    /// Print one JSON object instead of the word
    ///
    /// Where the server is a reflector with --echo-info, 'told' says how it sees this host.
    #[arg(short, long)]
    json: bool,
}

/// Asks, and says the word.
pub fn run(args: &ProbeArgs) -> Result<Exit, Error> {
    let target = args.question.at_port(&args.target);
    let options = ProbeOptions {
        target: target.over(args.over.family()),
        question: args.question.question_or(Question::EchoInfo),
        count: args.count,
        timeout: args.timeout,
        is_connected: args.connected,
        source_port: args.source_port,
        expected_source: args.expect_source.clone(),
        expected: args.expect.clone().map_or(Vec::new(), |it| it.0),
        json: args.json,
    };
    args.netns
        .within(|| reflector_diagnose::probe(&options, &mut io::stdout().lock()))
}

fn word_parser() -> impl TypedValueParser<Value = Word> {
    one_of(Word::ALL.map(|word| (PossibleValue::new(word.name()), word)))
}
