//! What every verb starts from: the key, the configuration, the outputs, and which server is meant.

use std::path::PathBuf;

use conclave_core::key::SecretKey;
use conclave_store::config::{Config, ConfigFile, ServerUrl, default_dir};
use conclave_store::keystore;

use crate::args::Global;
use crate::error::Failure;
use crate::output::{Output, line};

/// Where a verb runs.
#[derive(Debug)]
pub struct Context {
    /// The outputs.
    pub output: Output,
    dir: Option<PathBuf>,
    /// Whether the directory was named, by a flag or in the environment.
    pub dir_given: bool,
}

impl Context {
    /// The context of what was typed.
    pub fn new(global: Global, output: Output) -> Self {
        let named = std::env::var_os("CONCLAVE_CONFIG_DIR").is_some_and(|dir| !dir.is_empty());
        let dir_given = global.config_dir.is_some() || named;
        let dir = global.config_dir.or_else(|| default_dir(|name| std::env::var_os(name)));
        Self { output, dir, dir_given }
    }

    /// The configuration directory.
    ///
    /// # Errors
    /// When neither flag nor environment names one.
    pub fn dir(&self) -> Result<&PathBuf, Failure> {
        self.dir.as_ref().ok_or_else(|| {
            Failure::new(
                "no configuration directory is known: HOME is not set",
                "name one with --config-dir DIR",
            )
        })
    }

    /// The configuration file.
    ///
    /// # Errors
    /// As [`Context::dir`].
    pub fn config_file(&self) -> Result<ConfigFile, Failure> {
        Ok(ConfigFile::in_dir(self.dir()?))
    }

    /// What the configuration says.
    ///
    /// # Errors
    /// Unreadable or malformed.
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(self.config_file()?.load()?)
    }

    /// This machine's key.
    ///
    /// # Errors
    /// Missing, unreadable, open to others or malformed.
    pub fn key(&self) -> Result<SecretKey, Failure> {
        Ok(keystore::load(self.dir()?)?)
    }

    /// The server that is meant: the one named by URL or host, or the only one known.
    ///
    /// # Errors
    /// None known, several known, or a name that is no URL.
    pub fn server(&self, named: Option<&str>) -> Result<ServerUrl, Failure> {
        choose(&self.config()?, named)
    }
}

/// The server that is meant, of those that are known.
pub(crate) fn choose(config: &Config, named: Option<&str>) -> Result<ServerUrl, Failure> {
    let known = || {
        let urls: Vec<_> = config.servers.iter().map(|server| server.url.as_str()).collect();
        urls.join(", ")
    };
    let Some(named) = named else {
        return match &config.servers[..] {
            [only] => Ok(only.url.clone()),
            [] => Err(Failure::new(
                "this machine knows no server yet",
                "register on one: conclave register --server wss://HOST --username NAME",
            )),
            [first, ..] => Err(Failure::usage(
                format!("several servers are known: {}", known()),
                format!("say which: --server {}", first.url),
            )),
        };
    };
    let hosts = |url: &ServerUrl| {
        named.eq_ignore_ascii_case(url.host()) || named.eq_ignore_ascii_case(&url.authority())
    };
    match named.parse::<ServerUrl>() {
        // The registration's spelling is the one that the file's other entries use.
        Ok(url) => Ok(config.server(&url).map_or(url, |server| server.url.clone())),
        Err(error) => {
            match &config.servers.iter().filter(|server| hosts(&server.url)).collect::<Vec<_>>()[..] {
                [only] => Ok(only.url.clone()),
                [first, ..] => Err(Failure::usage(
                    format!("several known servers are called {}: {}", line(named), known()),
                    format!("write the whole URL: --server {}", first.url),
                )),
                [] => Err(Failure::usage(
                    format!("--server {}: {error}", line(named)),
                    if !config.servers.is_empty() {
                        format!("write the whole URL; known: {}", known())
                    } else if named.contains("://") {
                        "write a URL as in wss://conclave.example or ws://127.0.0.1:4390".to_owned()
                    } else {
                        format!("write the whole URL: --server wss://{}", line(named))
                    },
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::name::{MachineName, UserName};
    use conclave_store::config::Server;

    fn config(urls: &[&str]) -> Config {
        let server = |url: &&str| Server {
            url: url.parse().unwrap(),
            username: UserName::new("a").unwrap(),
            machine: MachineName::new("m").unwrap(),
        };
        Config { servers: urls.iter().map(server).collect(), ..Config::default() }
    }

    #[test]
    fn the_server_may_be_left_out_where_one_is_known() {
        let one = config(&["wss://a.example"]);
        assert_eq!(choose(&one, None).unwrap().as_str(), "wss://a.example");
        assert_eq!(choose(&one, Some("WSS://A.example:443/")).unwrap().as_str(), "wss://a.example");
        assert_eq!(choose(&one, Some("a.example")).unwrap().as_str(), "wss://a.example");
        assert_eq!(choose(&one, Some("ws://other")).unwrap().as_str(), "ws://other");
    }

    #[test]
    fn otherwise_the_error_says_what_to_type() {
        let next = |config: &Config, named| match choose(config, named).unwrap_err() {
            Failure::Failed { what, next } | Failure::Usage { what, next } => format!("{what}\n{next}"),
            other => other.to_string(),
        };
        assert!(next(&config(&[]), None).contains("conclave register"));
        let two = config(&["ws://a:1", "ws://a:2"]);
        for named in [None, Some("a")] {
            let text = next(&two, named);
            assert!(text.contains("ws://a:1, ws://a:2") && text.contains("--server ws://a:1"), "{text}");
        }
        assert!(next(&two, Some("elsewhere")).contains("known: ws://a:1"));
    }
}
