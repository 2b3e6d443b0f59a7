//! What a person is told when something did not work: one line that says what is wrong, one that says what to
//! type next.

use std::io;

use conclave_store::config::ConfigError;
use conclave_store::keystore::KeyError;
use conclave_store::state::StateError;

/// Why a verb was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// It was refused or failed: exit 1.
    #[error("{what}")]
    Failed {
        /// What is wrong.
        what: String,
        /// What to do next; may be empty.
        next: String,
    },
    /// It was typed wrongly: exit 2.
    #[error("{what}")]
    Usage {
        /// What is wrong.
        what: String,
        /// What to type instead.
        next: String,
    },
    /// It said all that there is to say already: exit 1.
    #[error("failed")]
    Said,
    /// Nobody reads what is printed any more: exit 0, without a word.
    #[error("nobody reads the output")]
    Closed,
}

impl Failure {
    /// A failure (exit 1) and what to do next.
    pub fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Failed { what: what.into(), next: next.into() }
    }

    /// A misuse (exit 2) and what to type instead.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), next: next.into() }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(error.to_string(), error.advice())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(error.to_string(), error.advice())
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::new(error.to_string(), error.advice())
    }
}

/// Only the output is written without a word of its own about what went wrong.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::new(
                format!("the output cannot be written: {error}"),
                "look for a full disk or a closed terminal",
            )
        }
    }
}
