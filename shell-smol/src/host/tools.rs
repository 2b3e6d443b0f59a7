//! The bridge's tools for a run: what a client is called with, so that it starts a bridge of its own.

use std::path::Path;

use conclave_core::host::Given;
use conclave_store::config::ServerUrl;
use serde_json::{Value, json};

use super::client::Format;

impl Format {
    /// Whether this client takes MCP servers as arguments.
    pub(super) fn takes_tools(self) -> bool {
        matches!(self, Self::Claude | Self::Codex)
    }

    /// The arguments that give a run of this client the tools, bounded by what the run was given.
    pub(super) fn tools(self, program: &Path, dir: &Path, server: &ServerUrl, given: Given) -> Vec<String> {
        let args = json!(["bridge", "--server", server.as_str()]);
        // Not all clients hand their own environment on.
        let env = [
            ("CONCLAVE_CONFIG_DIR", dir.to_string_lossy().into_owned()),
            ("CONCLAVE_LEVEL", given.level.to_string()),
            ("CONCLAVE_HOPS", given.chain.hops.to_string()),
            ("CONCLAVE_BUDGET", given.chain.most.unwrap_or_default().to_string()),
        ];
        let program = json!(program.to_string_lossy());
        match self {
            Self::Claude => {
                let env: serde_json::Map<_, _> =
                    env.map(|(name, value)| (name.to_owned(), Value::String(value))).into_iter().collect();
                let config = json!({
                    "mcpServers": { "conclave": { "command": program, "args": args, "env": env } },
                });
                ["--mcp-config", &config.to_string(), "--allowedTools", "mcp__conclave"]
                    .map(str::to_owned)
                    .into()
            }
            Self::Codex => {
                // Strings and lists of JSON are such of TOML, too.
                let env = env.map(|(name, value)| format!("{name} = {}", json!(value))).join(", ");
                let settings =
                    [format!("command={program}"), format!("args={args}"), format!("env={{ {env} }}")];
                let flags = settings.map(|said| ["-c".to_owned(), format!("mcp_servers.conclave.{said}")]);
                flags.into_iter().flatten().collect()
            }
            Self::Text | Self::Gemini => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::host::{AgentId, Chain, Job};
    use conclave_core::level::Level;
    use conclave_core::record::ChannelId;

    #[test]
    fn a_client_is_told_of_a_bridge_that_is_bounded_by_the_run() {
        let job = Job { agent: AgentId(1), stream: ChannelId(2), seq: 3 };
        let chain = Chain { hops: 4, most: Some(8) };
        let given = Given { job, attempt: 1, level: Level::Converse, chain };
        let (program, dir) = (Path::new("/opt/con \"clave"), Path::new("/home/a b"));
        let server: ServerUrl = "wss://conclave.example".parse().expect("a URL");
        let claude = Format::Claude.tools(program, dir, &server, given);
        assert_eq!(
            (&*claude[0], &*claude[2], &*claude[3]),
            ("--mcp-config", "--allowedTools", "mcp__conclave")
        );
        let config: Value = serde_json::from_str(&claude[1]).expect("JSON");
        let bridge = &config["mcpServers"]["conclave"];
        assert_eq!(bridge["command"], "/opt/con \"clave");
        assert_eq!(bridge["args"], json!(["bridge", "--server", server.as_str()]));
        let codex = Format::Codex.tools(program, dir, &server, given);
        let settings: String = codex.chunks(2).map(|flag| flag[1].replacen('=', " = ", 1) + "\n").collect();
        let read: Value = toml_edit::de::from_str(&settings).expect("TOML");
        let codex = &read["mcp_servers"]["conclave"];
        assert_eq!(codex["command"].as_str(), bridge["command"].as_str());
        for (name, value) in [
            ("CONCLAVE_CONFIG_DIR", "/home/a b"),
            ("CONCLAVE_LEVEL", "converse"),
            ("CONCLAVE_HOPS", "4"),
            ("CONCLAVE_BUDGET", "8"),
        ] {
            assert_eq!(
                (bridge["env"][name].as_str(), codex["env"][name].as_str()),
                (Some(value), Some(value))
            );
        }
    }
}
