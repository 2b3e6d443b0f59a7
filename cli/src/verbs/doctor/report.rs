//! What was found, as it is shown.

use conclave_store::config::ServerUrl;
use serde_json::{Value, json};

use crate::output::{BAD, GOOD, STRONG, WARN, hanging, line, styled};
use crate::{Context, Failure};

/// How something is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Good,
    Warn,
    Bad,
}

/// What was found about one thing, and what to do about it.
pub(super) struct Finding {
    verdict: Verdict,
    what: String,
    next: String,
}

impl Finding {
    pub(super) fn good(what: impl Into<String>) -> Self {
        Self { verdict: Verdict::Good, what: what.into(), next: String::new() }
    }

    pub(super) fn warn(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what: what.into(), next: next.into() }
    }

    pub(super) fn bad(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { verdict: Verdict::Bad, what: what.into(), next: next.into() }
    }

    #[cfg(test)]
    pub(super) fn is_good(&self) -> bool {
        self.verdict == Verdict::Good
    }

    pub(super) fn failure(failure: &Failure) -> Self {
        match failure {
            Failure::Failed { what, next } | Failure::Usage { what, next } => Self::bad(what, next),
            Failure::Said | Failure::Closed => Self::bad(failure.to_string(), ""),
        }
    }
}

/// Shows findings as they come; as JSON all at once.
pub(super) struct Report<'a> {
    context: &'a Context,
    server: Option<ServerUrl>,
    findings: Vec<Value>,
    bad: usize,
    warned: usize,
}

impl<'a> Report<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, server: None, findings: Vec::new(), bad: 0, warned: 0 }
    }

    /// What follows is about this server.
    pub(super) fn server(&mut self, url: &ServerUrl) -> Result<(), Failure> {
        self.server = Some(url.clone());
        if self.context.output.is_json() {
            return Ok(());
        }
        self.context.output.text(format_args!("\n{}", styled(STRONG, url)))
    }

    pub(super) fn add(&mut self, check: &str, finding: Finding) -> Result<(), Failure> {
        let Finding { verdict, what, next } = finding;
        let (word, mark) = match verdict {
            Verdict::Good => ("ok", styled(GOOD, "ok  ")),
            Verdict::Warn => ("warn", styled(WARN, "warn")),
            Verdict::Bad => ("fail", styled(BAD, "FAIL")),
        };
        self.bad += usize::from(verdict == Verdict::Bad);
        self.warned += usize::from(verdict == Verdict::Warn);
        if self.context.output.is_json() {
            self.findings.push(json!({
                "server": self.server.as_ref().map(ServerUrl::as_str),
                "check": check,
                "result": word,
                "what": what,
                "next": (!next.is_empty()).then_some(next),
            }));
            return Ok(());
        }
        self.context.output.text(format_args!("{mark}  {check:<10}  {}", hanging(&line(&what), 18)))?;
        if !next.is_empty() {
            self.context.output.text(format_args!(
                "{:18}{STRONG}next:{STRONG:#} {}",
                "",
                hanging(&line(&next), 24)
            ))?;
        }
        Ok(())
    }

    pub(super) fn end(self) -> Result<(), Failure> {
        let output = &self.context.output;
        if output.is_json() {
            output.json(&json!({ "ok": self.bad == 0, "checks": self.findings }))?;
        } else {
            let all = match (self.bad, self.warned) {
                (0, 0) => styled(GOOD, "All is well."),
                (0, 1) => styled(WARN, "No check failed; one needs a look."),
                (0, warned) => styled(WARN, format_args!("No check failed; {warned} need a look.")),
                (1, _) => styled(BAD, "One check failed."),
                (bad, _) => styled(BAD, format_args!("{bad} checks failed.")),
            };
            output.text(format_args!("\n{all}"))?;
        }
        if self.bad == 0 { Ok(()) } else { Err(Failure::Said) }
    }
}
