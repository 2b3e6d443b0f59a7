//! What the log tells of the hub's doings: who came and went, and who changed what. Never a body, a token or a
//! key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use conclave_core::hub::{Action, ConnId, Hub, Input, RequestId, SessionInfo};
use conclave_core::name::SessionPath;
use conclave_core::protocol::{Admin, CloseReason, Command, Reply};
use tracing::{debug, info};

use super::budget::{Budget, Counted};

/// What must be remembered until its outcome is known.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Live sessions: when one ends, the hub has forgotten its path.
    sessions: BTreeMap<ConnId, Arc<SessionPath>>,
    registering: BTreeSet<ConnId>,
    asked: BTreeMap<(ConnId, RequestId), Asked>,
    budget: Budget,
}

/// An operation that somebody asked for.
#[derive(Debug)]
struct Asked {
    by: Arc<SessionPath>,
    operation: &'static str,
    channel: Option<String>,
    subject: Option<String>,
}

impl Log {
    /// Notes what the hub is about to be told.
    pub(crate) fn input(&mut self, hub: &Hub, input: &Input) {
        match input {
            Input::Open { conn, proven } if proven.claim.is_some() => {
                self.registering.insert(*conn);
            }
            Input::Request { conn, request, command: Command::Admin(admin), .. } => {
                if let (Some(by), Some((channel, subject))) = (hub.path(*conn), about(admin)) {
                    let asked = Asked { by: by.clone(), operation: admin.kind(), channel, subject };
                    self.asked.insert((*conn, *request), asked);
                }
            }
            Input::Closed { conn } => {
                if let Some(session) = self.forget(*conn) {
                    debug!(%session, "a session left");
                }
            }
            _ => {}
        }
    }

    /// Tells what the hub did.
    pub(crate) fn actions(&mut self, actions: &[Action]) {
        if self.budget.is_counting() {
            self.budget.due(Instant::now()).into_iter().for_each(tell_counted);
        }
        for action in actions {
            match action {
                Action::Established { conn, session: SessionInfo { path, admin, .. } } => {
                    if self.registering.remove(conn) {
                        info!(user = %path.user, machine = %path.machine, admin, "a user registered");
                    }
                    debug!(session = %path, admin, "a session began");
                    self.sessions.insert(*conn, path.clone());
                }
                Action::Reply { conn, request, reply } if !self.asked.is_empty() => {
                    if let Some(asked) = self.asked.remove(&(*conn, *request)) {
                        asked.tell(reply, &mut self.budget);
                    }
                }
                Action::Close { conn, reason } => self.closed(*conn, reason),
                _ => {}
            }
        }
    }

    fn closed(&mut self, conn: ConnId, reason: &CloseReason) {
        let ended = reason.label();
        match (self.forget(conn), reason) {
            (Some(session), CloseReason::Idle { .. } | CloseReason::Shutdown) => {
                debug!(%session, reason = ended, "a session was ended");
            }
            (Some(session), _) => info!(%session, reason = ended, "a session was ended"),
            (None, _) => debug!(reason = ended, "a connection did not become a session"),
        }
    }

    /// What was asked for and is not answered yet may still be done.
    fn forget(&mut self, conn: ConnId) -> Option<Arc<SessionPath>> {
        self.registering.remove(&conn);
        while let Some((key, _)) = self.asked.range((conn, RequestId(0))..).next()
            && key.0 == conn
        {
            let key = *key;
            if let Some(Asked { by, operation, channel, subject }) = self.asked.remove(&key) {
                info!(%by, operation, channel, subject, "asked for, and gone before it was answered");
            }
        }
        let session = self.sessions.remove(&conn)?;
        self.budget.end(&session.user).into_iter().for_each(tell_counted);
        Some(session)
    }
}

fn tell_counted(Counted { by, operations }: Counted) {
    info!(%by, operations, "done, too often to log each");
}

impl Asked {
    fn tell(self, reply: &Reply, budget: &mut Budget) {
        let Self { by, operation, channel, subject } = self;
        match reply {
            Reply::Refused(refusal) => {
                debug!(%by, operation, channel, subject, kind = refusal.kind(), "refused");
            }
            // Who is a user no longer is always in the log: it happens once to each.
            _ if operation == "user remove" || budget.take(Instant::now(), &by.user, operation) => {
                info!(%by, operation, channel, subject, "done");
            }
            _ => debug!(%by, operation, channel, subject, "done"),
        }
    }
}

/// What an operation that changes something is about: the channel, and who or what else.
fn about(admin: &Admin) -> Option<(Option<String>, Option<String>)> {
    let name = |name: &dyn ToString| Some(name.to_string());
    Some(match admin {
        Admin::CreateChannel { name: channel, visibility }
        | Admin::CreateSealedChannel { name: channel, visibility, .. }
        | Admin::SetVisibility { name: channel, visibility } => (name(channel), name(visibility)),
        Admin::DeleteChannel { name: channel } | Admin::InviteCreate { channel, .. } => (name(channel), None),
        Admin::RenameChannel { name: channel, new_name } => (name(channel), name(new_name)),
        Admin::AclAdd { channel, user }
        | Admin::AclRemove { channel, user }
        | Admin::Ban { channel, user }
        | Admin::Unban { channel, user } => (name(channel), name(user)),
        Admin::Kick { channel, target } => (name(channel), name(target)),
        Admin::InviteRevoke { .. } | Admin::UserInvite { .. } => (None, None),
        Admin::UserRemove { user } => (None, name(user)),
        Admin::NameRelease { name: released } => (None, name(released)),
        Admin::MachineAdd { name: machine, .. } | Admin::MachineRemove { name: machine } => {
            (None, name(machine))
        }
        Admin::AclList { .. }
        | Admin::BanList { .. }
        | Admin::InviteList { .. }
        | Admin::UserInviteList
        | Admin::Audit { .. } => {
            return None;
        }
    })
}
