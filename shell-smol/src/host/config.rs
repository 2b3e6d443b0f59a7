//! `agents.toml`: the agents and webhooks that a human declared. What it does not know it refuses, with the line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use conclave_core::host::{Agent, Budget, Wake};
use conclave_core::level::{Level, Scope};
use conclave_core::name::{ChannelName, Handle, UserName};
use conclave_store::config::{Config, ServerUrl};
use serde::{Deserialize, Deserializer};

use super::HostError;
use super::client::Format;

/// The file's name in the configuration directory.
pub const FILE_NAME: &str = "agents.toml";
const MAX_LEN: u64 = 1024 * 1024;
/// Agents and webhooks: each has a connection.
const MAX_ENTRIES: usize = 100;

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    /// The agents.
    pub agents: Vec<DeclaredAgent>,
    /// The doors for other systems.
    pub webhooks: Vec<Webhook>,
}

/// An agent as it is declared.
#[derive(Clone, Debug)]
pub struct DeclaredAgent {
    /// Its name: the session's handle.
    pub name: Handle,
    /// Its server.
    pub server: ServerUrl,
    /// Where it runs.
    pub directory: PathBuf,
    /// What is run for the first message of a conversation.
    pub command: Vec<String>,
    /// What is run for further ones, where the client has a session to go on with.
    pub resume: Option<Vec<String>>,
    /// How what it prints is read.
    pub output: Format,
    /// The channels that it is on.
    pub channels: Vec<ChannelName>,
    /// Its level, what wakes it, and how much it may do. Levels of `config.toml` are not in it.
    pub policy: Agent,
    /// Names of environment variables that it gets beside the usual ones.
    pub env: Vec<String>,
    /// The longest answer, in bytes.
    pub max_output: usize,
    /// What to run it under, as arguments of `systemd-run`.
    pub systemd: Option<Vec<String>>,
    /// Whether its client is given a bridge's tools, where `{tools}` stands in the command.
    pub tools: bool,
}

/// Stands in a command for the arguments that give a client the bridge's tools.
pub(super) const TOOLS: &str = "{tools}";

/// A door for another system.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Its name: the session's handle, and what its messages are framed with.
    pub name: Handle,
    /// The server.
    pub server: ServerUrl,
    /// The channel.
    pub channel: ChannelName,
    /// The file with the secret.
    pub secret_file: PathBuf,
    /// Which way.
    pub way: Way,
}

/// Which way messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// What is posted to this address goes to the channel.
    In(SocketAddr),
    /// What is said on the channel is posted to this URL.
    Out(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    agent: Vec<AgentTable>,
    #[serde(default)]
    webhook: Vec<WebhookTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AgentTable {
    #[serde(deserialize_with = "parsed")]
    name: Handle,
    server: Option<String>,
    directory: PathBuf,
    #[serde(default, deserialize_with = "parsed_option")]
    preset: Option<Format>,
    command: Option<Vec<String>>,
    resume: Option<Vec<String>>,
    #[serde(default, deserialize_with = "parsed_option")]
    output: Option<Format>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default, deserialize_with = "parsed_option")]
    level: Option<Level>,
    #[serde(default, deserialize_with = "parsed_list")]
    channels: Vec<ChannelName>,
    #[serde(default, deserialize_with = "parsed_list")]
    users: Vec<UserName>,
    #[serde(default = "yes")]
    anyone_may_mention: bool,
    #[serde(default = "yes")]
    mentions_only: bool,
    #[serde(default)]
    tools: bool,
    #[serde(default)]
    env: Vec<String>,
    #[serde(default)]
    budget: BudgetTable,
    #[serde(default)]
    systemd: bool,
    #[serde(default)]
    memory: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct BudgetTable {
    runs_at_once: Option<usize>,
    runs_per_hour: Option<usize>,
    #[serde(default, deserialize_with = "span_option")]
    time_per_run: Option<Duration>,
    answers: Option<u32>,
    waiting: Option<usize>,
    output_kib: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookTable {
    #[serde(deserialize_with = "parsed")]
    name: Handle,
    server: Option<String>,
    #[serde(deserialize_with = "parsed")]
    channel: ChannelName,
    secret_file: PathBuf,
    #[serde(default, deserialize_with = "parsed_option")]
    listen: Option<SocketAddr>,
    url: Option<String>,
}

fn yes() -> bool {
    true
}

fn parsed<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(value: D) -> Result<T, D::Error> {
    String::deserialize(value)?.parse().map_err(serde::de::Error::custom)
}

fn parsed_option<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(
    value: D,
) -> Result<Option<T>, D::Error> {
    parsed(value).map(Some)
}

fn span_option<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(value)?;
    conclave_core::time::span(&text).map(Some).map_err(serde::de::Error::custom)
}

fn parsed_list<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(value: D) -> Result<Vec<T>, D::Error> {
    let all = Vec::<String>::deserialize(value)?;
    all.iter().map(|text| text.parse().map_err(serde::de::Error::custom)).collect()
}

impl Declared {
    /// Reads the file in `dir`. `config` says which servers there are.
    ///
    /// # Errors
    /// [`HostError`]: there is none, others can change it, or it makes no sense.
    pub fn load(dir: &Path, config: &Config) -> Result<Self, HostError> {
        let path = dir.join(FILE_NAME);
        let io = |source| HostError::Read { path: path.clone(), source };
        let metadata = fs::metadata(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HostError::NoAgents { path: path.clone() },
            _ => io(source),
        })?;
        // It names programs that are run.
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
        if mode & 0o022 != 0 {
            return Err(HostError::Exposed { path, mode });
        }
        if !metadata.is_file() || metadata.len() > MAX_LEN {
            return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "it is no file of at most 1 MiB")));
        }
        let mut text = String::new();
        fs::File::open(&path).and_then(|file| file.take(MAX_LEN).read_to_string(&mut text)).map_err(io)?;
        Self::read(&text, config).map_err(|(line, what)| HostError::Malformed { path, line, what })
    }

    fn read(text: &str, config: &Config) -> Result<Self, (usize, String)> {
        let file: File = toml_edit::de::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            (line_of(text, start), error.message().split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        let starts = |kind: &str| -> Vec<usize> {
            let header = format!("[[{kind}]]");
            let lines = text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with(&header));
            lines.map(|(nth, _)| nth + 1).collect()
        };
        let (agents, webhooks) = (starts("agent"), starts("webhook"));
        let mut declared = Self::default();
        let mut names = BTreeSet::new();
        let mut first = |server: &ServerUrl, name: &Handle| names.insert((server.to_string(), name.clone()));
        if file.agent.len() + file.webhook.len() > MAX_ENTRIES {
            return Err((1, format!("there are more than {MAX_ENTRIES} agents and webhooks")));
        }
        for (nth, table) in file.agent.into_iter().enumerate() {
            let at = |what: String| (agents.get(nth).copied().unwrap_or(1), what);
            let agent = table.agent(config).map_err(at)?;
            if !first(&agent.server, &agent.name) {
                return Err(at(format!("two entries are called {}", agent.name)));
            }
            declared.agents.push(agent);
        }
        for (nth, table) in file.webhook.into_iter().enumerate() {
            let at = |what: String| (webhooks.get(nth).copied().unwrap_or(1), what);
            let webhook = table.webhook(config).map_err(at)?;
            if !first(&webhook.server, &webhook.name) {
                return Err(at(format!("two entries are called {}", webhook.name)));
            }
            declared.webhooks.push(webhook);
        }
        Ok(declared)
    }
}

/// The levels that `config.toml` has for single scopes of a server.
pub(super) fn lowered(config: &Config, server: &ServerUrl) -> BTreeMap<Scope, Level> {
    let said = config.overrides.iter().filter(|said| said.server == *server);
    said.map(|said| (said.scope.clone(), said.level)).collect()
}

impl AgentTable {
    fn agent(self, config: &Config) -> Result<DeclaredAgent, String> {
        let name = self.name;
        let (command, resume, output) = match (self.preset, self.command) {
            (Some(_), Some(_)) => {
                return Err(format!("{name} has both `preset` and `command`: leave one out"));
            }
            (None, None) => return Err(format!("{name} has no `command` and no `preset`")),
            (Some(preset), None) => {
                let (command, resume) = preset.commands().ok_or("`preset` is claude, codex or gemini")?;
                (command, self.resume.or(Some(resume)), self.output.unwrap_or(preset))
            }
            (None, Some(command)) => (command, self.resume, self.output.unwrap_or_default()),
        };
        let with_args = |command: Vec<String>| -> Vec<String> {
            let expanded = command.into_iter().flat_map(|word| match word.as_str() {
                "{args}" => self.args.clone(),
                _ => vec![word],
            });
            expanded.collect()
        };
        let command = with_args(command);
        if command.first().is_none_or(String::is_empty) {
            return Err(format!("the `command` of {name} is empty"));
        }
        let has_tools = |words: &[String]| words.iter().any(|word| word == TOOLS);
        if self.tools && !(output.takes_tools() && has_tools(&command)) {
            return Err(format!(
                "`tools` of {name} takes the preset claude or codex, or their `output` and {TOOLS} in the `command`"
            ));
        }
        if !self.directory.is_absolute() {
            return Err(format!("the `directory` of {name} is not absolute: {}", self.directory.display()));
        }
        let defaults = Budget::default();
        let budget = &self.budget;
        let between = |key: &str, value: Option<usize>, default: usize, most: usize| match value {
            Some(value) if value == 0 || value > most => {
                Err(format!("`{key}` of {name} is between 1 and {most}"))
            }
            value => Ok(value.unwrap_or(default)),
        };
        let longest = Duration::from_secs(24 * 60 * 60);
        let run = budget.time_per_run.unwrap_or(defaults.run);
        if run.is_zero() || run > longest {
            return Err(format!("`time_per_run` of {name} is between 1ms and 24h"));
        }
        let policy = Agent {
            level: self.level.unwrap_or_default(),
            lowered: BTreeMap::new(),
            wake: Wake {
                users: self.users.into_iter().collect(),
                anyone_may_mention: self.anyone_may_mention,
                mentions_only: self.mentions_only,
            },
            budget: Budget {
                at_once: between("runs_at_once", budget.runs_at_once, defaults.at_once, 16)?,
                per_hour: between("runs_per_hour", budget.runs_per_hour, defaults.per_hour, 1_000)?,
                run,
                // The smaller of both counts, as between humans.
                answers: budget
                    .answers
                    .unwrap_or(defaults.answers)
                    .min(config.agent_messages.unwrap_or(u32::MAX)),
                queue: between("waiting", budget.waiting, defaults.queue, 1_000)?,
                attempts: defaults.attempts,
            },
        };
        let max_output = between("output_kib", budget.output_kib, 256, 768)? * 1024;
        let systemd = match (self.systemd, self.memory) {
            (false, Some(_)) => return Err(format!("`memory` of {name} takes `systemd = true`")),
            (false, None) => None,
            (true, memory) => Some(memory.iter().map(|memory| format!("MemoryMax={memory}")).collect()),
        };
        Ok(DeclaredAgent {
            server: server(config, self.server.as_deref())?,
            directory: self.directory,
            command,
            resume: resume.map(with_args),
            output,
            channels: self.channels,
            policy,
            tools: self.tools,
            env: self.env,
            max_output,
            systemd,
            name,
        })
    }
}

impl WebhookTable {
    fn webhook(self, config: &Config) -> Result<Webhook, String> {
        let name = self.name;
        let way = match (self.listen, self.url) {
            (Some(address), None) if address.ip().is_loopback() => Way::In(address),
            (Some(address), None) => {
                return Err(format!(
                    "`listen` of {name} is on loopback only, not {address}: put a proxy before it"
                ));
            }
            (None, Some(url)) if url.starts_with("https://") || is_local(&url) => Way::Out(url),
            (None, Some(_)) => {
                return Err(format!("`url` of {name} begins with https://, or is on loopback"));
            }
            _ => return Err(format!("{name} has either `listen` (in) or `url` (out)")),
        };
        let server = server(config, self.server.as_deref())?;
        Ok(Webhook { name, server, channel: self.channel, secret_file: self.secret_file, way })
    }
}

fn is_local(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split('/').next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    matches!(host, "localhost" | "127.0.0.1" | "[::1]")
}

/// The server that is meant: one that is registered on, by URL or host, or the only one.
fn server(config: &Config, named: Option<&str>) -> Result<ServerUrl, String> {
    let known = &config.servers;
    let found = match named {
        None if known.len() == 1 => known.first(),
        None => return Err("say which `server`: this machine is not registered on exactly one".to_owned()),
        Some(named) => known.iter().find(|server| {
            let url = &server.url;
            named.parse::<ServerUrl>().is_ok_and(|named| named == *url)
                || named.eq_ignore_ascii_case(url.host())
                || named.eq_ignore_ascii_case(&url.authority())
        }),
    };
    let found = found.map(|server| server.url.clone());
    found.ok_or_else(|| format!("this machine is not registered on the server {}", named.unwrap_or_default()))
}

fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_store::config::Server;

    fn config() -> Config {
        let server = |url: &str| Server {
            url: url.parse().unwrap(),
            username: "aaron".parse().unwrap(),
            machine: "desk".parse().unwrap(),
        };
        Config { servers: vec![server("ws://127.0.0.1:4390")], ..Config::default() }
    }

    fn read(text: &str) -> Result<Declared, (usize, String)> {
        Declared::read(text, &config())
    }

    #[test]
    fn an_agent_has_safe_defaults() {
        let declared = read("[[agent]]\nname = \"a\"\ndirectory = \"/\"\ncommand = [\"true\"]\n").unwrap();
        let agent = &declared.agents[0];
        assert_eq!(agent.policy.level, Level::Notify);
        assert!(agent.policy.wake.users.is_empty() && agent.policy.wake.mentions_only);
        assert!(agent.channels.is_empty() && agent.env.is_empty() && agent.resume.is_none());
        assert_eq!((agent.output, agent.policy.budget), (Format::Text, Budget::default()));
    }

    #[test]
    fn a_preset_knows_how_its_client_is_called_and_goes_on() {
        for preset in ["claude", "codex", "gemini"] {
            let text = format!(
                "[[agent]]\nname = \"a\"\ndirectory = \"/\"\npreset = \"{preset}\"\nargs = [\"--model\", \"m\"]\n"
            );
            let agent = read(&text).unwrap().agents.remove(0);
            assert_eq!(agent.command[0], preset);
            let resume = agent.resume.unwrap();
            assert!(resume.contains(&"{session}".to_owned()), "{resume:?}");
            for command in [agent.command, resume] {
                assert!(command.windows(2).any(|pair| pair == ["--model", "m"]), "{command:?}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_line() {
        let agent = "[[agent]]\nname = \"a\"\ndirectory = \"/\"\ncommand = [\"true\"]\n";
        for (text, line, what) in [
            (format!("{agent}color = 1\n"), 5, "unknown field `color`"),
            (format!("{agent}level = \"high\"\n"), 5, "a level is mute"),
            (format!("{agent}[agent.budget]\nruns = 3\n"), 6, "unknown field `runs`"),
            (format!("\n{agent}preset = \"claude\"\n"), 2, "both `preset` and `command`"),
            (format!("{agent}{agent}"), 5, "two entries are called a"),
            (format!("{agent}server = \"elsewhere\"\n"), 1, "not registered on the server elsewhere"),
            ("[[agent]]\nname = \"a\"\ndirectory = \"x\"\ncommand = [\"true\"]\n".into(), 1, "not absolute"),
            ("[[agent]]\nname = \"a/b\"\ndirectory = \"/\"\n".into(), 2, "cannot contain '/'"),
            ("[[agent]]\nname = \"a\"\ndirectory = \"/\"\ncommand = []\n".into(), 1, "is empty"),
            (format!("{agent}budget = {{ runs_per_hour = 0 }}\n"), 1, "between 1 and 1000"),
            (format!("{agent}memory = \"1G\"\n"), 1, "systemd = true"),
            ("hello".into(), 1, ""),
        ] {
            let (at, said) = read(&text).unwrap_err();
            assert!(said.contains(what), "{said}");
            assert_eq!(at, line, "{text}: {said}");
        }
    }

    #[test]
    fn a_webhook_listens_on_loopback_and_posts_over_tls() {
        let hook = |rest: &str| {
            read(&format!("[[webhook]]\nname = \"ci\"\nchannel = \"ops\"\nsecret_file = \"/s\"\n{rest}\n"))
        };
        assert!(matches!(hook("listen = \"127.0.0.1:80\"").unwrap().webhooks[0].way, Way::In(_)));
        assert!(matches!(hook("url = \"https://a.example/x\"").unwrap().webhooks[0].way, Way::Out(_)));
        assert!(matches!(hook("url = \"http://127.0.0.1:9/x\"").unwrap().webhooks[0].way, Way::Out(_)));
        for refused in [
            "listen = \"0.0.0.0:80\"",
            "url = \"http://a.example\"",
            "url = \"http://127.0.0.1.a.example/\"",
            "url = \"http://127.0.0.1@a.example/\"",
            "",
            "listen = \"127.0.0.1:80\"\nurl = \"https://a.example\"",
        ] {
            assert!(hook(refused).is_err(), "{refused}");
        }
    }
}
