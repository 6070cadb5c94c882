//! What to ask a service, as typed.

use clap::Args;
use reflector_diagnose::question::{DnsName, Question};
use reflector_measure::host_port::DEFAULT_PORT;
use reflector_measure::payload::Payload;
use reflector_measure::target::Target;
use reflector_udp::PAYLOAD_V4_MAX;

/// The port of a DNS server (RFC 1035).
const DNS_PORT: u16 = 53;

/// What to ask. A command whose target is optional adds that it takes one.
#[derive(Args, Clone, Debug)]
pub struct QuestionArgs {
    /// Send these bytes, for a service that does not echo
    #[arg(long, value_name = "HEX", value_parser = parse_hex, conflicts_with = "dns")]
    payload_hex: Option<Payload>,
    /// Send a DNS query for the IPv4 address of NAME
    #[arg(long, value_name = "NAME")]
    dns: Option<DnsName>,
}

impl QuestionArgs {
    /// The question, which is `otherwise` if none is typed.
    pub fn question_or(&self, otherwise: Question) -> Question {
        match (&self.dns, &self.payload_hex) {
            (Some(name), _) => Question::Dns(name.clone()),
            (None, Some(payload)) => Question::Bytes(payload.clone()),
            (None, None) => otherwise,
        }
    }

    /// `target`, at the port that its service has by default.
    pub fn at_port(&self, target: &Target) -> Target {
        let port = if self.dns.is_some() {
            DNS_PORT
        } else {
            DEFAULT_PORT
        };
        target.clone().at_port_or(port)
    }
}

fn parse_hex(text: &str) -> Result<Payload, String> {
    Payload::from_hex(text, PAYLOAD_V4_MAX as usize)
}
