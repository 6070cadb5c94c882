//! Options of `reflector diagnose`.

use std::time::Duration;

use clap::Args;

use reflector_diagnose::Options;
use reflector_diagnose::question::{DnsName, Question};
use reflector_measure::payload::{self, Payload};
use reflector_measure::target::Target;

/// Exit codes, after the help.
pub const AFTER_HELP: &str = "\
TARGET is HOST:PORT: a name, 192.0.2.1:53, [2001:db8::1]:53, [fe80::1%eth0]:53.
Every option is an environment variable as well: --timeout is REFLECTOR_DIAGNOSE_TIMEOUT.
Exit codes: 0 answered from the address asked, or nothing hinders this machine; 1 failed, or
something hinders this machine; 2 usage; 3 silent or refused; 4 answered from another address.";

/// Options of `reflector diagnose`.
#[derive(Args, Clone, Debug)]
pub struct DiagnoseArgs {
    /// Service to ask, an echo service by default; without it this machine is checked
    #[arg(value_name = "TARGET", env = "REFLECTOR_DIAGNOSE_TARGET")]
    pub target: Option<Target>,
    /// The question as hexadecimal digits, for a service that is no echo
    #[arg(
        long,
        value_name = "HEX",
        value_parser = parse_hex,
        conflicts_with = "dns",
        requires = "target",
        env = "REFLECTOR_DIAGNOSE_PAYLOAD_HEX"
    )]
    pub payload_hex: Option<Payload>,
    /// Ask a DNS server for the IPv4 address of NAME
    #[arg(
        long,
        value_name = "NAME",
        requires = "target",
        env = "REFLECTOR_DIAGNOSE_DNS"
    )]
    pub dns: Option<DnsName>,
    /// Number of tries, each by a connected and an unconnected socket with fresh source ports
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100), env = "REFLECTOR_DIAGNOSE_TRIES")]
    pub tries: u16,
    /// Time to wait for each answer
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_timeout, env = "REFLECTOR_DIAGNOSE_TIMEOUT")]
    pub timeout: Duration,
    /// Ask first from this port, as the client that gets no answer does: shows a stale flow
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..), requires = "target", env = "REFLECTOR_DIAGNOSE_SOURCE_PORT")]
    pub source_port: Option<u16>,
    /// Print one JSON object
    #[arg(long, env = "REFLECTOR_DIAGNOSE_JSON")]
    pub json: bool,
}

impl DiagnoseArgs {
    /// What the arguments come to.
    pub fn options(&self) -> Options {
        Options {
            target: self.target.clone(),
            question: match (&self.dns, &self.payload_hex) {
                (Some(name), _) => Question::Dns(name.clone()),
                (None, Some(payload)) => Question::Bytes(payload.clone()),
                (None, None) => Question::Echo,
            },
            tries: self.tries,
            timeout: self.timeout,
            source_port: self.source_port,
            json: self.json,
        }
    }
}

fn parse_hex(text: &str) -> Result<Payload, String> {
    Payload::from_hex(text, payload::LEN_MAX_IPV4)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let timeout = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if timeout < Duration::from_millis(1) || timeout > Duration::from_secs(600) {
        return Err("expected a time between 1ms and 10min".to_owned());
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_has_its_environment_variable() {
        let command = DiagnoseArgs::augment_args(clap::Command::new("diagnose"));
        for option in command.get_arguments().filter(|arg| !arg.is_positional()) {
            let long = option.get_long().expect("every option has a long form");
            let name = long.to_uppercase().replace('-', "_");
            let expected = format!("REFLECTOR_DIAGNOSE_{name}");
            let env = option.get_env().and_then(|env| env.to_str());
            assert_eq!(env, Some(&*expected));
        }
    }

    #[test]
    fn a_timeout_is_bounded() {
        assert!(parse_timeout("0s").is_err() && parse_timeout("1h").is_err());
        assert_eq!(parse_timeout("50ms"), Ok(Duration::from_millis(50)));
    }
}
