//! Error messages for refusals and failed connections: what happened, and what to type next.

use conclave_core::handshake::HandshakeError;
use conclave_core::key::PublicKey;
use conclave_core::protocol::{Admin, Code, Command, Refusal};
use conclave_core::stream::{StreamCommand, StreamRef};
use conclave_core::text::shell_word;
use conclave_shell_tokio::client::SessionError;
use conclave_store::config::{Server, ServerUrl};

use crate::error::Failure;

/// Why no session was opened.
pub(crate) fn opening(
    url: &ServerUrl,
    known: Option<&Server>,
    key: &PublicKey,
    error: &SessionError,
) -> Failure {
    let text = match error {
        SessionError::Handshake(HandshakeError::Refused(refusal)) => match refusal.code() {
            Code::QuotaExceeded => {
                return Failure::new(
                    format!("{url} takes no more sessions of this user: {refusal}"),
                    "end one of them, an agent or a tail, or wait until one has ended",
                );
            }
            Code::RateLimited | Code::Unavailable | Code::Internal => return busy(url, refusal),
            Code::InvalidArgument | Code::NotFound => return general(url, error),
            Code::PermissionDenied
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::WrongEpoch
            | Code::RemovalsDue
            | Code::Unauthenticated => refusal.to_string(),
        },
        SessionError::Handshake(HandshakeError::Ended { end, text }) if end.may_reconnect() => {
            return busy(url, text);
        }
        SessionError::Handshake(HandshakeError::Ended { text, .. }) => text.clone(),
        other => return general(url, other),
    };
    let what = format!("{url} does not let this machine's key in: {text}");
    let next = match known {
        Some(known) => format!(
            "if {} was removed there, type this on another machine of {}: conclave machine add --name {} --pubkey {key}",
            known.machine,
            known.username,
            shell_word(known.machine.as_str())
        ),
        None => format!(
            "claim a name: conclave register --server {url} --username NAME; or on a machine that is enrolled: conclave machine add --name NAME --pubkey {key}"
        ),
    };
    Failure::new(what, next)
}

/// Why a name was not claimed.
pub(crate) fn registering(url: &ServerUrl, user: &str, key: &PublicKey, error: &SessionError) -> Failure {
    let refusal = match error {
        SessionError::Handshake(HandshakeError::Refused(refusal)) => refusal,
        SessionError::Handshake(HandshakeError::Ended { end, text }) if end.may_reconnect() => {
            return busy(url, text);
        }
        other => return general(url, other),
    };
    let yours = format!(
        "if '{user}' is yours, type this on a machine of yours: conclave machine add --name NAME --pubkey {key}"
    );
    let next = match refusal.code() {
        _ if refusal.may_succeed_later() => return busy(url, refusal),
        Code::InvalidArgument => {
            "choose another name; if nothing is wrong with it, compare the versions: `conclave --version` here and on the \
             server"
                .into()
        }
        Code::FailedPrecondition => format!(
            "this machine has a name there: conclave status --server {url} shows it; for another one, make another \
             key with --config-dir DIR"
        ),
        _ if matches!(
            refusal,
            Refusal::RegistrationClosed | Refusal::UsersFull | Refusal::TooManyRegistrations
        ) =>
        {
            format!("ask the server's operator; {yours}")
        }
        // Registration is closed, or takes an invite: under every name.
        Code::PermissionDenied if *refusal != Refusal::NameReserved => {
            format!("ask the server's operator or an admin of it; {yours}")
        }
        Code::QuotaExceeded => format!("ask the server's operator; {yours}"),
        _ => format!("choose another name; {yours}"),
    };
    Failure::new(format!("{url} does not register '{user}': {refusal}"), next)
}

/// The server refuses everybody for a while.
fn busy(url: &ServerUrl, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        format!("{url} lets nobody in for now: {why}"),
        "wait a little, then type it again; if it stays so, tell the server's operator",
    )
}

/// Why a request was not carried out.
pub(crate) fn request(url: &ServerUrl, command: &Command, error: &SessionError) -> Failure {
    match error {
        SessionError::Refused(refusal) => Failure::new(refusal.to_string(), advice(url, command, refusal)),
        other => general(url, other),
    }
}

/// Why a connection failed.
pub(crate) fn general(url: &ServerUrl, error: &SessionError) -> Failure {
    let next = match error {
        SessionError::Dial(dial) => return Failure::new(dial.to_string(), dial.advice()),
        SessionError::Handshake(HandshakeError::ServerKeyChanged { .. }) => {
            format!("ask its operator whether that is right, then type: conclave server trust {url}")
        }
        SessionError::Downgrade => format!(
            "ask its operator; if an older version runs there again: conclave server remove {url}, then register again"
        ),
        SessionError::Handshake(HandshakeError::VersionMismatch { .. }) => {
            "compare the versions: `conclave --version` here and on the server".into()
        }
        SessionError::Handshake(HandshakeError::Refused(_) | HandshakeError::Ended { .. }) => {
            format!("conclave doctor --server {url}")
        }
        SessionError::Handshake(_) | SessionError::Unexpected(_) => {
            "check that the URL is a conclave server's: conclave doctor".into()
        }
        SessionError::Timeout { sent: true, .. } | SessionError::Ended { sent: true, .. } => {
            "look whether it was done before you type it again".into()
        }
        SessionError::Timeout { .. } => "try again, or wait longer with --timeout 1m".into(),
        SessionError::Ended { .. } => "try again; `conclave doctor` finds out what is wrong".into(),
        SessionError::Refused(refusal) => return Failure::new(refusal.to_string(), ""),
    };
    Failure::new(format!("{url}: {error}"), next)
}

/// What to type after a refusal.
fn advice(url: &ServerUrl, command: &Command, refusal: &Refusal) -> String {
    let channels = || format!("see which there are: conclave channel list --server {url}");
    match (refusal.code(), command) {
        (Code::Internal, _) => "try again; if it stays so, tell the server's operator".into(),
        (Code::InvalidArgument, _) => "check the names and the size of what is sent".into(),
        (Code::RateLimited | Code::Unavailable, _) => "wait a little, then type it again".into(),
        (code, Command::Stream(command)) if let Some(advice) = of_stream(url, code, command) => advice,
        (Code::QuotaExceeded, _) => {
            "end or delete what is not needed any more; the server's operator sets the limit (--limit)".into()
        }
        (_, Command::Admin(_)) if matches!(refusal, Refusal::NoUser(_)) => {
            format!("check the name; see who is online: conclave who --server {url}")
        }
        (_, Command::Whisper { .. }) => format!("see who is online: conclave who --server {url}"),
        (_, Command::ListUsers) => "ask a server admin (`conclave serve --admin NAME` makes one)".into(),
        (_, Command::Join { channel, token: None }) => {
            format!(
                "with an invite: conclave join {} --token TOKEN; {}",
                shell_word(channel.as_str()),
                channels()
            )
        }
        (_, Command::Join { .. }) => {
            "check the token, or ask for a new one: each has its uses and its time".into()
        }
        (Code::NotFound, Command::Admin(Admin::MachineRemove { .. })) => {
            format!("see which there are: conclave machine list --server {url}")
        }
        (_, Command::Admin(Admin::MachineAdd { .. } | Admin::MachineRemove { .. })) => {
            format!("see what is enrolled: conclave machine list --server {url}")
        }
        (Code::NotFound, Command::Admin(Admin::Kick { channel, .. })) => {
            format!("see who is there: conclave who {} --server {url}", shell_word(channel.as_str()))
        }
        (Code::NotFound, _) => channels(),
        _ if matches!(refusal, Refusal::NeedsOtherVersion { .. }) => {
            "ask the server's operator to update it".into()
        }
        (Code::FailedPrecondition, Command::Admin(Admin::UserInvite { .. })) => {
            "ask the server's operator whether it shall take new users by invitation".into()
        }
        (
            _,
            Command::Admin(
                Admin::UserRemove { .. }
                | Admin::NameRelease { .. }
                | Admin::UserInvite { .. }
                | Admin::UserInviteList
                | Admin::Audit { channel: None, .. },
            ),
        ) => "ask a server admin".into(),
        (_, Command::Admin(Admin::CreateChannel { .. } | Admin::RenameChannel { .. })) => {
            format!("choose another name; {}", channels())
        }
        (_, Command::Admin(_)) => "ask whoever created the channel, or a server admin".into(),
        _ => channels(),
    }
}

/// What to type after a refusal of what version 2 adds.
fn of_stream(url: &ServerUrl, code: Code, command: &StreamCommand) -> Option<String> {
    match (code, command) {
        (Code::QuotaExceeded, StreamCommand::Post { stream: StreamRef::Mailbox(_), .. }) => {
            Some("wait until its owner has read some, then send it again".into())
        }
        (
            Code::NotFound,
            StreamCommand::Post { stream: StreamRef::Mailbox(_), .. }
            | StreamCommand::Locate { stream: StreamRef::Mailbox(_) },
        ) => Some(format!(
            "see who is online: conclave who --server {url}; whoever shares no channel with you has to type first: \
             conclave allow YOUR-NAME"
        )),
        (Code::NotFound, StreamCommand::SetContact { .. } | StreamCommand::Keys { .. }) => Some(format!(
            "check the name; the server tells of users with whom you share a channel: conclave who --server {url}"
        )),
        (Code::NotFound, StreamCommand::Receipts { .. }) => {
            Some("check the number: `--json` prints it when a message is sent".into())
        }
        _ => None,
    }
}
