//! `config.toml`: the servers that this machine is registered on, and how far its agents may go there.
//!
//! [`ConfigFile`] reads it into a [`Config`] and changes it by [`Change`]s, so that what it does not know
//! (other keys, comments, order) stays as it is and two processes that write at once lose nothing.

mod dir;
mod document;
mod file;
mod url;

use std::path::{Path, PathBuf};

use conclave_core::bridge::Approver;
use conclave_core::key::{PublicKey, SecretKey};
use conclave_core::level::{Level, Scope};
use conclave_core::name::{MachineName, UserName};

pub use dir::default_dir;
pub use file::{ConfigError, ConfigFile, Fingerprint};
pub use url::{EXPOSED, InvalidUrl, ServerUrl};

/// The configuration's file name in its directory.
pub const FILE_NAME: &str = "config.toml";

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The level wherever nothing more specific is said.
    pub default_permission: Level,
    /// Whether channels are followed for mentions only wherever nothing more specific is said.
    pub default_mentions_only: bool,
    /// Where this machine is registered, in the file's order.
    pub servers: Vec<Server>,
    /// Levels of single channels and whisper scopes, in the file's order.
    pub overrides: Vec<Override>,
    /// How many messages in a row agents may write before a person writes; `None` for the default.
    pub agent_messages: Option<u32>,
    /// Who may answer this machine's permission prompts.
    pub approvers: Vec<Approver>,
    /// Files of certificates (PEM) that servers may have theirs from, beside the usual ones.
    pub cas: Vec<(ServerUrl, PathBuf)>,
    /// The keys of servers, as they were at first contact.
    pub pins: Vec<(ServerUrl, Pin)>,
}

/// A server's key, and which key of this machine the server knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The server's key.
    pub server_key: PublicKey,
    /// Whether this machine's key there is derived for the server. If not, it is the machine's own, which other servers
    /// know, too.
    pub derived: bool,
}

impl Pin {
    /// This machine's key at the server.
    pub fn key(this: Option<Self>, machine: SecretKey) -> SecretKey {
        match this {
            Some(Self { server_key, derived: true }) => machine.at_server(&server_key),
            _ => machine,
        }
    }
}

/// A registration of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where the server is.
    pub url: ServerUrl,
    /// The user whom this machine belongs to there.
    pub username: UserName,
    /// This machine's name there.
    pub machine: MachineName,
}

/// A level of one scope on one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The server.
    pub server: ServerUrl,
    /// The scope on it.
    pub scope: Scope,
    /// Its level.
    pub level: Level,
    /// Whether only mentions are shown there by themselves. Said of channels.
    pub mentions_only: bool,
}

/// A change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Set the level wherever nothing more specific is said.
    DefaultPermission(Level),
    /// Set whether channels are followed for mentions only, wherever nothing more specific is said.
    DefaultMentionsOnly(bool),
    /// Set how many messages in a row agents may write before a person writes; `None` sets the default back.
    AgentMessages(Option<u32>),
    /// Add a registration, or replace the one with the same URL.
    AddServer(Server),
    /// Forget a registration and every level set on it.
    RemoveServer(ServerUrl),
    /// Set a scope's level.
    SetLevel(Override),
    /// Remember the file of certificates of a server that is registered on.
    SetCa(ServerUrl, PathBuf),
    /// Remember the key of a server that is registered on.
    SetPin(ServerUrl, Pin),
}

impl Config {
    /// The level of a scope on a server. Where the file says it twice, the last word counts.
    pub fn level(&self, server: &ServerUrl, scope: &Scope) -> Level {
        self.said(server, scope).map_or(self.default_permission, |said| said.level)
    }

    /// Whether of a scope only mentions are shown by themselves.
    pub fn mentions_only(&self, server: &ServerUrl, scope: &Scope) -> bool {
        self.said(server, scope).map_or(self.default_mentions_only, |said| said.mentions_only)
    }

    fn said(&self, server: &ServerUrl, scope: &Scope) -> Option<&Override> {
        self.overrides.iter().rev().find(|said| said.server == *server && said.scope == *scope)
    }

    /// The file of certificates that a server may have its own from.
    pub fn ca(&self, url: &ServerUrl) -> Option<&Path> {
        self.cas.iter().find(|(of, _)| of == url).map(|(_, file)| file.as_path())
    }

    /// The key of a server, if it is known.
    pub fn pin(&self, url: &ServerUrl) -> Option<Pin> {
        self.pins.iter().find(|(of, _)| of == url).map(|(_, pin)| *pin)
    }

    /// The registration on a server.
    pub fn server(&self, url: &ServerUrl) -> Option<&Server> {
        self.servers.iter().find(|server| server.url == *url)
    }
}
