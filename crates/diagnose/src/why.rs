//! Why the verdict is what it is, in sentences for this host.
//!
//! What a fact shows is said first, and as it is; what is merely possible comes last, and is said
//! to be.

mod flows;
mod here;
mod origin;
mod refused;
mod server;
mod silence;
mod source;
mod translation;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::diagnosis::{Finding, Verdict};
use crate::facts::Facts;

/// What explains `verdict`, with `right` questions answered from the address asked.
pub(crate) fn findings(
    facts: &Facts,
    verdict: Verdict,
    seen: &BTreeMap<SocketAddr, usize>,
    right: usize,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(here::unsent(facts));
    findings.extend(flows::denied_port(facts));
    match verdict {
        Verdict::Answered => findings.extend(server::answers_otherwise(facts)),
        Verdict::MixedUp => findings.extend(server::mixes_up(facts)),
        Verdict::FlowSilent => findings.extend(flows::one_is_silent(facts)),
        Verdict::Partly => findings.extend(flows::some_are_silent(facts, right)),
        Verdict::WrongSource => findings.extend(source::wrong(facts, seen)),
        Verdict::Refused => findings.extend(refused::refusals(facts)),
        Verdict::Silent => findings.extend(silence::silent(facts)),
        Verdict::Unsent => {}
    }
    findings.extend(silence::another_address_answers(facts));
    findings
}
