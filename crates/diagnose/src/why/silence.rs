//! Nobody answers.

use super::origin;
use super::translation::translated;
use crate::diagnosis::Finding;
use crate::facts::Facts;
use crate::question::Question;

/// Why nothing came.
pub(crate) fn silent(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(neighbour) = facts.unresolved {
        let interface = facts.route.as_ref().map_or("the link", |it| &it.interface);
        findings.push(Finding::new(
            "neighbour",
            format!(
                "Nobody on {interface} says that it has {neighbour} (ARP or neighbour discovery \
                 failed), so the question never left: the host is off, or on another network."
            ),
        ));
        return findings;
    }
    if facts.is_dropped_here() {
        findings.push(Finding::new(
            "dropped_here",
            format!(
                "{} does answer, from the right address, but a filter of this host drops the \
                 answer before any socket sees it.",
                facts.asked
            ),
        ));
        return findings;
    }
    if facts.counted.reverse_path_filter > 0 {
        findings.push(Finding::new(
            "rp_filter",
            format!(
                "This host's reverse path filter dropped {} packets meanwhile \
                 (IPReversePathFilter): an answer may have come from an address whose route \
                 leads elsewhere.",
                facts.counted.reverse_path_filter
            ),
        ));
    }
    findings.extend(translated(facts));
    findings.push(Finding::new("nothing_seen", nothing_seen(facts)));
    findings
}

fn nothing_seen(facts: &Facts) -> String {
    let service = match &facts.question {
        Question::Echo | Question::EchoInfo => "it is no echo service and ignores the question; ",
        Question::Bytes(_) => "it ignores these bytes; ",
        Question::Dns(_) => "it is no DNS server, or refuses to serve us; ",
    };
    let behind = match &facts.route {
        Some(route) if route.gateway.is_some() && origin::is_container(&facts.interface_kind) => {
            " This is a container: if its host translates addresses (MASQUERADE), that is where a \
             wrong source would be dropped."
        }
        _ => "",
    };
    let seen = match facts.seen_on_interface {
        Some(_) => "No answer reaches this host, on any socket or on the interface",
        None => {
            "No answer reaches a socket (as root this command also looks at the interface, before \
             this host's own filters)"
        }
    };
    format!(
        "{seen}. What that can be: {service}it drops the question by a rule of its own (a \
         reflector answers only whom --allow lets, and nobody where the kernel does not say which \
         address was asked, as in some sandboxes; its log says so); a firewall drops the question \
         or the answer; a connection tracking table on the server's host or on the way is full; or \
         the service answers from another address, and a NAT or a stateful firewall on the way \
         drops that.{behind}"
    )
}

/// Other addresses of the name that answer, where the one asked does not.
pub(crate) fn another_address_answers(facts: &Facts) -> Option<Finding> {
    let (other, _) = facts.also_asked().find(|(_, is_right)| *is_right)?;
    let (word, option) = family(other.ip());
    let only = match facts.asked.is_ipv4() == other.is_ipv4() {
        true => String::new(),
        false => format!(
            " The service is on {word} only, or only its {word} is reached: a client that takes \
             the first address gets no answer; `{option}` asks over {word}."
        ),
    };
    Some(Finding::new(
        "other_address_answers",
        format!(
            "The name has another address, {other}, and that one answers, while {} does not.{only}",
            facts.asked
        ),
    ))
}

/// The word for the family of `ip`, and the option that chooses it.
fn family(ip: std::net::IpAddr) -> (&'static str, &'static str) {
    if ip.is_ipv4() {
        ("IPv4", "-4")
    } else {
        ("IPv6", "-6")
    }
}
