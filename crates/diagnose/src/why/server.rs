//! What the answers themselves tell of the server.

use crate::attempt::{Attempt, Outcome};
use crate::diagnosis::Finding;
use crate::facts::Facts;
use crate::question::{Answer, Question};

/// It is not the service that was thought of.
pub(crate) fn answers_otherwise(facts: &Facts) -> Option<Finding> {
    let is_foreign = |it: &Attempt| {
        matches!(
            it.outcome,
            Outcome::Answered {
                answer: Answer::Other,
                ..
            }
        )
    };
    if !facts.attempts.iter().any(is_foreign) {
        return None;
    }
    let what = match facts.question {
        Question::Dns(_) => "It is no DNS answer to the query, but",
        _ => "It does not echo, but",
    };
    Some(Finding::new(
        "other_service",
        format!("{what} whatever it answers comes from the right address."),
    ))
}

/// It answers a socket what another one asked.
pub(crate) fn mixes_up(facts: &Facts) -> Option<Finding> {
    (facts.mixed_up() > 0).then(|| Finding::new(
        "mixed_up",
        format!(
            "The server answered another client's question to this one: {} of the answers carry \
             the number of a question that another socket asked. No NAT and no loss does that, \
             for neither looks into a datagram: the server, or a proxy that answers in its name, \
             mixes up its peers.",
            facts.mixed_up()
        ),
    ))
}
