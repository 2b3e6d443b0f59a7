//! Verbs of whoever runs a server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory as _};
use conclave_core::key::{InvalidKey, PublicKey};
use conclave_core::name::{InvalidName, UserName};
use conclave_core::time::span;
use conclave_shell_tokio::server::{Host, Origin};

/// Run a server
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave serve                                        for this machine, kept on disk
  conclave serve --ephemeral --bind 127.0.0.1:0         for a trial, kept nowhere
  conclave serve --bind 0.0.0.0:4390 --tls-cert cert.pem --tls-key key.pem --admin aaron
  conclave serve --admin aaron=PUBLIC_KEY --retention 30d

SIGTERM and Ctrl-C end it after everything accepted was answered. SIGHUP reads the
certificate anew; on a terminal it ends the server, since it means that the terminal was
closed. Behind a proxy that ends TLS, name it with --trusted-proxy.")]
pub struct Serve {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", env = "CONCLAVE_BIND", default_value = "127.0.0.1:4390")]
    pub bind: SocketAddr,
    /// Directory of the server's data [default: ~/.local/share/conclave]
    #[arg(long, value_name = "DIR", env = "CONCLAVE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Keep everything in memory only: all is gone when it ends
    #[arg(long, env = "CONCLAVE_EPHEMERAL", value_parser = clap::builder::FalseyValueParser::new())]
    pub ephemeral: bool,
    /// A user who is server admin; with a key, only that key can claim the name (repeatable)
    #[arg(long = "admin", value_name = "NAME[=KEY]", env = "CONCLAVE_ADMINS", value_delimiter = ',')]
    pub admins: Vec<AdminArg>,
    /// Who may register: everyone, whoever has an invite (`conclave invite user`), or only whom --admin names; users
    /// stay users either way
    #[arg(long, value_name = "WHO", env = "CONCLAVE_REGISTRATION", default_value = "open")]
    pub registration: Registration,
    /// Who is told that a user is online: everyone, or only those who share a channel with them
    #[arg(long, value_name = "WHOM", env = "CONCLAVE_PRESENCE", default_value = "everyone")]
    pub presence: Presence,
    /// How long messages are kept
    #[arg(long, value_name = "TIME", env = "CONCLAVE_RETENTION", default_value = "7d", value_parser = span)]
    pub retention: Duration,
    /// How long the name of a removed user, or of a channel that was deleted or renamed, is held back for whoever had it
    #[arg(long, value_name = "TIME", env = "CONCLAVE_HOLD_NAMES", default_value = "90d", value_parser = span)]
    pub hold_names: Duration,
    /// Set a limit, as in session-posts=50; all=off switches the rate limits off (repeatable)
    #[arg(long = "limit", value_name = "NAME=VALUE", env = "CONCLAVE_LIMIT", value_delimiter = ',')]
    pub limits: Vec<LimitArg>,
    /// Certificate chain for TLS, in PEM
    #[arg(long, value_name = "FILE", env = "CONCLAVE_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", env = "CONCLAVE_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A proxy whose forwarded addresses are believed (repeatable)
    #[arg(
        long = "trusted-proxy",
        value_name = "ADDR",
        env = "CONCLAVE_TRUSTED_PROXY",
        value_delimiter = ','
    )]
    pub trusted_proxies: Vec<IpAddr>,
    /// A web page's origin that may connect, as in `https://app.example`; native clients need none (repeatable)
    #[arg(
        long = "allow-origin",
        value_name = "ORIGIN",
        env = "CONCLAVE_ALLOW_ORIGIN",
        value_delimiter = ','
    )]
    pub origins: Vec<Origin>,
    /// A name that the server is reached by; once one is given, others are refused (repeatable) [default: on loopback
    /// localhost, elsewhere any]
    #[arg(long = "allow-host", value_name = "HOST", env = "CONCLAVE_ALLOW_HOST", value_delimiter = ',')]
    pub hosts: Vec<Host>,
    /// Serve /metrics at this address and port, without TLS, and no longer at the public one
    #[arg(long, value_name = "ADDR", env = "CONCLAVE_METRICS_BIND")]
    pub metrics_bind: Option<SocketAddr>,
    /// The runtime that carries it; they behave alike
    #[arg(long, value_name = "NAME", env = "CONCLAVE_RUNTIME", default_value = "tokio")]
    pub runtime: Runtime,
}

impl Serve {
    /// Lets what was typed outweigh what the environment says: `--ephemeral` a directory, and a directory
    /// `CONCLAVE_EPHEMERAL`.
    ///
    /// # Errors
    /// Two that contradict each other and have the same weight.
    pub fn settle(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        if !self.ephemeral || self.data_dir.is_none() {
            return Ok(());
        }
        let typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        match (typed("ephemeral"), typed("data_dir")) {
            (true, false) => self.data_dir = None,
            (false, true) => self.ephemeral = false,
            (both, _) => {
                let what = if both {
                    "the argument '--ephemeral' cannot be used with '--data-dir <DIR>'"
                } else {
                    "CONCLAVE_EPHEMERAL and CONCLAVE_DATA_DIR contradict each other: unset one of them"
                };
                return Err(super::Cli::command().error(ErrorKind::ArgumentConflict, what));
            }
        }
        Ok(())
    }
}

/// Who may become a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Registration {
    /// everyone
    Open,
    /// with an invite, and whom --admin names
    Invite,
    /// only whom --admin names
    Closed,
}

/// Who is told that a user is online.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Presence {
    /// everyone
    Everyone,
    /// those who share a channel with them, and server admins
    Shared,
}

/// What carries a server's sockets and tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Runtime {
    /// tokio
    Tokio,
    /// smol
    #[cfg(feature = "smol-server")]
    Smol,
}

/// A server admin: a name, perhaps pinned to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminArg {
    /// The user.
    pub name: UserName,
    /// The only key that can claim the name.
    pub key: Option<PublicKey>,
}

impl FromStr for AdminArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, key) = text.split_once('=').map_or((text, None), |(name, key)| (name, Some(key)));
        Ok(Self {
            name: name.parse().map_err(|error: InvalidName| error.to_string())?,
            key: key.map(str::parse).transpose().map_err(|error: InvalidKey| error.to_string())?,
        })
    }
}

/// A limit as it is typed; which there are is the server's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitArg {
    /// Which limit.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl FromStr for LimitArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                Ok(Self { name: name.into(), value: value.into() })
            }
            _ => Err("a limit is written NAME=VALUE, or all=off".into()),
        }
    }
}

/// Copy a server's data, consistent even while it runs
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave backup conclave-backup.db
  conclave backup --data-dir /var/lib/conclave /backups/today.db")]
pub struct Backup {
    /// Directory of the server's data [default: ~/.local/share/conclave]
    #[arg(long, value_name = "DIR", env = "CONCLAVE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// The file to write; it must not exist
    pub file: PathBuf,
}

/// Put a backup where a server finds it
#[derive(Clone, Args)]
#[command(after_help = "\
Examples:
  conclave restore --data-dir /var/lib/conclave /backups/today.db
  conclave restore --replace /backups/today.db          what is there is kept beside it

All of the backup is checked before anything changes. No server may run on the directory.")]
pub struct Restore {
    /// Directory of the server's data [default: ~/.local/share/conclave]
    #[arg(long, value_name = "DIR", env = "CONCLAVE_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Put it in the place of a server's data that is there, which is kept under another name
    #[arg(long)]
    pub replace: bool,
    /// The backup
    pub file: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_may_be_pinned_to_a_key() {
        let key = "Hti55KmYOxroDy-NHcaj-2XuAS4PzXzGfsmWfNNl8fg";
        let pinned: AdminArg = format!("aaron={key}").parse().unwrap();
        assert_eq!(pinned.key.map(|key| key.to_string()).as_deref(), Some(key));
        assert_eq!(format!("aaron={key}=").parse(), Ok(pinned));
        assert!("aaron".parse::<AdminArg>().is_ok_and(|admin| admin.key.is_none()));
        assert!("aaron=short".parse::<AdminArg>().is_err());
        assert!("".parse::<AdminArg>().is_err());
    }
}
