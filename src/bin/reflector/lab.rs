//! `reflector lab`: its options, as typed, and what they come to.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use reflector_lab::Options;
use reflector_lab::case::Case;
use reflector_measure::error::Error;
use reflector_measure::exit::Exit;
use reflector_measure::payload::Payload;

use crate::help::Ending;
use crate::values::{Engine, List, WAIT_FOR_ANSWER, list, one_of, port, time};

/// What the help ends with.
const ENDING: Ending = Ending {
    examples: &[
        ("Show all cases", "reflector lab"),
        (
            "Show one case, with recvmmsg and sendmmsg",
            "reflector lab --case hairpin --engine mmsg",
        ),
        (
            "Test your own server",
            "reflector lab --server 'python3 echo.py --port {port}'",
        ),
    ],
    sections: &[
        (
            "Your own server",
            &[
                "CMD is started in the lab. In it, {addr} is the address to bind, {port} the \
                 port, {listen} both, such as [::]:9007. The variables ADDR, PORT and LISTEN \
                 hold the same.",
            ],
        ),
        (
            "Requirements",
            &["Root, or user namespaces for ordinary users; nft for the cases nat and filter."],
        ),
        (
            "Values",
            &["TIME is a number of seconds, or has a unit: 0.5, 20ms."],
        ),
        (
            "Environment",
            &[
                "A variable sets an option: REFLECTOR_LAB_TIMEOUT sets --timeout.",
                "1 sets a flag. --case takes a list: nat,filter. The command line wins.",
            ],
        ),
        (
            "Exit status",
            &[
                "0  all as expected; your server is right",
                "1  failed",
                "2  wrong usage",
                "3  your server never answered",
                "4  your server answered from a wrong address",
            ],
        ),
    ],
};

/// Show replies from the wrong address, and the remedy, side by side
///
/// A naive server and the reflector are asked the same question, each in network namespaces of its
/// own, which leave nothing behind.
#[derive(Args, Clone, Debug)]
#[command(after_help = ENDING.short(), after_long_help = ENDING.long())]
pub struct LabArgs {
    /// Show only this case; repeatable [default: all]
    #[arg(long, value_parser = list(case_parser()), value_name = "NAME")]
    case: Vec<List<Case>>,
    /// Test your own UDP server, started by CMD, instead of the naive one
    #[arg(long, value_name = "CMD")]
    server: Option<String>,
    /// Port that the servers listen on
    #[arg(long, value_name = "PORT", default_value_t = 9007)]
    #[arg(value_parser = port)]
    port: u16,
    /// Send these bytes, for a server that does not echo [default: 70696e67, "ping"]
    #[arg(long, value_name = "HEX", value_parser = parse_hex)]
    payload_hex: Option<Payload>,
    /// Wait this long for each answer
    #[arg(short, long, value_name = "TIME", default_value = "1s")]
    #[arg(value_parser = time(WAIT_FOR_ANSWER))]
    timeout: Duration,
    /// Engine of the reflector: auto, uring or mmsg
    #[arg(long, value_enum, value_name = "ENGINE", hide_possible_values = true)]
    #[arg(default_value_t = Engine::Auto)]
    engine: Engine,
    /// Print JSON lines, one per case, instead of text
    #[arg(short, long)]
    json: bool,
}

impl LabArgs {
    fn options(&self) -> Options {
        Options {
            cases: self
                .case
                .iter()
                .flat_map(|List(cases)| cases)
                .copied()
                .collect(),
            server: self.server.clone(),
            port: self.port,
            payload: match &self.payload_hex {
                Some(payload) => payload.0.clone(),
                None => b"ping".to_vec(),
            },
            timeout: self.timeout,
            engine: self.engine.name(),
            json: self.json,
        }
    }
}

/// Shows the cases.
pub fn run(args: &LabArgs) -> Result<Exit, Error> {
    reflector_lab::run(&args.options())
}

fn case_parser() -> impl TypedValueParser<Value = Case> {
    let name = |case: Case| PossibleValue::new(case.name()).help(case.summary());
    one_of(Case::ALL.map(|case| (name(case), case)))
}

/// The longest question: what fits into an Ethernet frame over IPv6, for fragments have no ports
/// to be shown.
const PAYLOAD_LEN_MAX: usize = 1452;

fn parse_hex(text: &str) -> Result<Payload, String> {
    Payload::from_hex(text, PAYLOAD_LEN_MAX)
}
