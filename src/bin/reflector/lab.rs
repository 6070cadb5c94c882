//! Options of `reflector lab`.

use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::serve::EngineChoice;
use reflector_lab::Options;
use reflector_lab::case::Case;
use reflector_measure::payload::Payload;

/// Exit codes, after the help.
pub const AFTER_HELP: &str = "\
Your server runs inside the lab. In CMD, {addr} is the address to bind, {port} the port, {listen}
both ([::]:9007); ADDR, PORT and LISTEN in its environment say the same:
  reflector lab --server 'python3 echo.py --port {port}' --case hairpin
Needs root, or user namespaces for ordinary users; `nft` for the cases nat and filter.
Every option is an environment variable as well: --timeout is REFLECTOR_LAB_TIMEOUT.
Exit codes: 0 shown as expected, or your server is right; 1 failed; 2 usage;
3 your server never answered; 4 it answered from a wrong source.";

/// Options of `reflector lab`.
#[derive(Args, Clone, Debug)]
pub struct LabArgs {
    /// Show only this case; repeatable [default: all six]
    #[arg(
        long,
        value_parser = case_parser(),
        value_name = "NAME",
        value_delimiter = ',',
        env = "REFLECTOR_LAB_CASE"
    )]
    pub case: Vec<Case>,
    /// Put your own UDP server in the place of the naive one
    #[arg(long, value_name = "CMD", env = "REFLECTOR_LAB_SERVER")]
    pub server: Option<String>,
    /// Port that the servers listen on
    #[arg(long, default_value_t = 9007, value_parser = clap::value_parser!(u16).range(1..), env = "REFLECTOR_LAB_PORT")]
    pub port: u16,
    /// The question as hexadecimal digits, for a server that is no echo [default: "ping"]
    #[arg(long, value_name = "HEX", value_parser = parse_hex, env = "REFLECTOR_LAB_PAYLOAD_HEX")]
    pub payload_hex: Option<Payload>,
    /// Time to wait for an answer
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_timeout, env = "REFLECTOR_LAB_TIMEOUT")]
    pub timeout: Duration,
    /// How the reflector moves datagrams; auto takes io_uring where it is available
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto, env = "REFLECTOR_LAB_ENGINE")]
    pub engine: EngineChoice,
    /// Print JSON lines, one per case
    #[arg(long, env = "REFLECTOR_LAB_JSON")]
    pub json: bool,
}

impl LabArgs {
    /// What the arguments come to.
    pub fn options(&self) -> Options {
        Options {
            cases: self.case.clone(),
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

fn case_parser() -> impl TypedValueParser<Value = Case> {
    let value = |case: Case| PossibleValue::new(case.name()).help(case.summary());
    PossibleValuesParser::new(Case::ALL.map(value)).map(|name| {
        let is_named = |case: &Case| case.name() == name;
        Case::ALL
            .into_iter()
            .find(is_named)
            .expect("one of the possible values")
    })
}

/// The longest question: what fits into an Ethernet frame over IPv6, for fragments have no ports
/// to be shown.
const PAYLOAD_LEN_MAX: usize = 1452;

fn parse_hex(text: &str) -> Result<Payload, String> {
    Payload::from_hex(text, PAYLOAD_LEN_MAX)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout.is_zero() || timeout > Duration::from_secs(600) {
        return Err("expected a time above 0s and up to 10min".to_owned());
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Command;

    #[test]
    fn every_option_has_its_environment_variable() {
        for option in LabArgs::augment_args(Command::new("lab")).get_arguments() {
            let long = option.get_long().expect("every option has a long form");
            let name = long.to_uppercase().replace('-', "_");
            let expected = format!("REFLECTOR_LAB_{name}");
            let env = option.get_env().and_then(|env| env.to_str());
            assert_eq!(env, Some(&*expected));
        }
    }

    #[test]
    fn help_fits_a_hundred_columns() {
        let command = LabArgs::augment_args(Command::new("lab").after_help(AFTER_HELP));
        let help = command.term_width(100).render_help().to_string();
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
    }

    #[test]
    fn a_timeout_is_above_zero_and_bounded() {
        assert!(parse_timeout("0s").is_err() && parse_timeout("1h").is_err());
        assert_eq!(parse_timeout("50ms"), Ok(Duration::from_millis(50)));
    }
}
