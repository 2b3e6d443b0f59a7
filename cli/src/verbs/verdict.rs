//! `approve` and `deny`: verdicts on permission requests, and what became of them.

use std::time::{Duration, Instant};

use conclave_core::bridge::{CardId, Decision};
use conclave_core::name::SessionPath;
use conclave_core::payload::Payload;
use conclave_core::protocol::Command;
use serde_json::json;

use super::message::sessions;
use crate::args::Verdict;
use crate::connect::{Connection, is_one_shot};
use crate::{Context, Failure};

/// Answers a prompt: the asking bridge takes it from an approver's whisper. Bridges that did not ask drop it.
pub(super) fn verdict(verdict: Verdict, word: &str, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open(context, &verdict.net)?;
    let text = format!("{word} {}", verdict.id);
    let targets = match verdict.to {
        Some(target) => vec![target],
        None => {
            let user = connection.registration().map(|it| it.username);
            let all = sessions(&mut connection, None)?;
            all.into_iter()
                .filter(|it| Some(&it.user) == user.as_ref() && !is_one_shot(&it.session))
                .collect()
        }
    };
    if targets.is_empty() {
        return Err(Failure::new(
            "no other session of your user is online",
            format!(
                "name the one that asks, as its card shows it: --to USER/MACHINE/SESSION; `{word}` needs it to be online"
            ),
        ));
    }
    let mut told = Vec::new();
    let mut failure = None;
    for target in targets {
        let payload = Payload::Plain(text.clone());
        match connection.done(&Command::Whisper { target: target.clone(), payload }) {
            Ok(()) => told.push(target.to_string()),
            // One that has left meanwhile did not ask.
            Err(why) => failure = Some(why),
        }
    }
    if let Some(failure) = failure.filter(|_| told.is_empty()) {
        return Err(failure);
    }
    let decided = decision(&mut connection, verdict.id, told.len())?;
    match decided {
        Some((by, Decision::Accepted)) => {
            let by = by.to_string();
            context.output.result(
                format_args!("{by} took it: {word} {}", verdict.id),
                json!({ "id": verdict.id.to_string(), "verdict": word, "by": by }),
            )
        }
        Some((_, Decision::TooLate)) => {
            Err(Failure::new("that request was answered before, or has expired", "nothing is left to do"))
        }
        Some((_, Decision::Unknown)) => Err(Failure::new(
            format!("nobody asked under the name {}", verdict.id),
            "compare the five letters with the card",
        )),
        None => Err(Failure::new(
            format!("{} did not say that it took the answer", told.join(", ")),
            "it asked nothing, or does not name you as an approver: compare with the card, and name the session that asks \
             with --to USER/MACHINE/SESSION",
        )),
    }
}

/// How long the asking session may take to say what became of a verdict.
const DECIDED_WITHIN: Duration = Duration::from_secs(3);

/// What the asking session says about a verdict. Of several, the one that decided counts.
fn decision(
    connection: &mut Connection<'_>,
    id: CardId,
    asked: usize,
) -> Result<Option<(SessionPath, Decision)>, Failure> {
    let until = Instant::now() + DECIDED_WITHIN;
    let mut found = None;
    for _ in 0..asked {
        let left = until.saturating_duration_since(Instant::now());
        let Some((from, text)) = connection.whisper(left)? else { break };
        match Decision::read(&text) {
            Some((of, decision)) if of == id => {
                if decision != Decision::Unknown {
                    return Ok(Some((from, decision)));
                }
                found = Some((from, decision));
            }
            _ => {}
        }
    }
    Ok(found)
}
