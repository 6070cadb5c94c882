//! ICMP errors instead of answers.

use super::translation::translated;
use crate::diagnosis::Finding;
use crate::facts::Facts;

/// Who refuses, and what that means.
pub(crate) fn refusals(facts: &Facts) -> Vec<Finding> {
    let Some(refusal) = facts.first_refusal() else {
        return Vec::new();
    };
    let by = refusal
        .by
        .map_or_else(|| "somebody".to_owned(), |ip| ip.to_string());
    let said = format!("{by} says: {}.", refusal.meaning());
    let port = facts.asked.port();
    let text = if !refusal.is_port_unreachable() {
        format!("{said} It is a router or a firewall on the way, not the service.")
    } else if refusal.by == Some(facts.asked.ip()) {
        format!(
            "{said} Nobody listens on UDP port {port} there, or only on another address of that \
             host, or a firewall rejects in its name."
        )
    } else {
        format!(
            "{said} That is not the address asked, so a NAT or a router took the question for its \
             own: a published port with nobody behind it, or an answer that came to nobody \
             because its flow is unknown there."
        )
    };
    let mut findings = vec![Finding::new("refused", text)];
    findings.extend(translated(facts));
    findings
}
