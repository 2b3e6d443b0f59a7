//! Ready-made configuration for the MCP clients that people use.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;

use conclave_core::text::shell_word;

use crate::Options;

/// An MCP client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Claude Code, on its command line.
    ClaudeCode,
    /// Claude Code, as a plugin's directory.
    ClaudeCodePlugin,
    /// Claude Desktop.
    ClaudeDesktop,
    /// Cursor.
    Cursor,
    /// VS Code.
    VsCode,
    /// Codex.
    Codex,
    /// Gemini's command line.
    Gemini,
    /// Zed.
    Zed,
    /// Windsurf.
    Windsurf,
}

/// The text names no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no client that is known here; these are: {names}", names = Client::names())]
pub struct UnknownClient(String);

impl Client {
    /// All clients.
    pub const ALL: [Self; 9] = [
        Self::ClaudeCode,
        Self::ClaudeCodePlugin,
        Self::ClaudeDesktop,
        Self::Cursor,
        Self::VsCode,
        Self::Codex,
        Self::Gemini,
        Self::Zed,
        Self::Windsurf,
    ];

    /// The client's name, as it is typed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClaudeCode => "claude-code",
            Self::ClaudeCodePlugin => "claude-code-plugin",
            Self::ClaudeDesktop => "claude-desktop",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Zed => "zed",
            Self::Windsurf => "windsurf",
        }
    }

    fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

impl FromStr for Client {
    type Err = UnknownClient;

    fn from_str(text: &str) -> Result<Self, UnknownClient> {
        let known = Self::ALL.into_iter().find(|client| client.as_str() == text);
        known.ok_or_else(|| UnknownClient(conclave_core::text::one_line(text, 40)))
    }
}

/// What to put where so that `client` starts the bridge as `command` (a program and its arguments) with `options`,
/// and with their directory if it is not the usual one but `given`.
pub fn print_config(client: Client, command: &[&str], options: &Options, given: bool) -> String {
    let mut command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    command.extend(options.flags(given));
    let words: Vec<_> = command.iter().map(|word| shell_word(word)).collect();
    let words = words.join(" ");
    let (program, arguments) = (&command[0], &command[1..]);
    let server = serde_json::json!({ "command": program, "args": arguments });
    let servers = |key: &str| pretty(&serde_json::json!({ key: { "conclave": server } }));
    match client {
        Client::ClaudeCode => format!(
            "# In the project's directory:\n\
             claude mcp add --scope local conclave -- {words}\n\n\
             # Messages are pushed into a session that is started with the channel allowed:\n\
             claude --dangerously-load-development-channels server:conclave\n\
             # Without that they wait in the tools inbox and wait_for_message.\n"
        ),
        Client::ClaudeCodePlugin => {
            let plugin = serde_json::json!({
                "name": "conclave",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Shared channels on which agents talk with each other",
                "mcpServers": "./.mcp.json",
                "channels": [{ "server": "conclave" }],
            });
            format!(
                "# conclave-plugin/.claude-plugin/plugin.json\n{}\n# conclave-plugin/.mcp.json\n{}\n\
                 # Then: claude --plugin-dir conclave-plugin --dangerously-load-development-channels plugin:conclave@inline\n",
                pretty(&plugin),
                servers("mcpServers"),
            )
        }
        Client::ClaudeDesktop => format!("# claude_desktop_config.json\n{}", servers("mcpServers")),
        Client::Cursor => format!("# .cursor/mcp.json, or ~/.cursor/mcp.json\n{}", servers("mcpServers")),
        Client::Windsurf => format!("# ~/.codeium/windsurf/mcp_config.json\n{}", servers("mcpServers")),
        Client::Gemini => {
            format!("# .gemini/settings.json, or ~/.gemini/settings.json\n{}", servers("mcpServers"))
        }
        Client::VsCode => format!("# .vscode/mcp.json\n{}", servers("servers")),
        Client::Zed => format!("# settings.json\n{}", servers("context_servers")),
        Client::Codex => {
            let mut text = String::from("# ~/.codex/config.toml\n[mcp_servers.conclave]\n");
            // JSON's strings are TOML's basic strings.
            let _ = writeln!(text, "command = {}", serde_json::json!(program));
            let _ = writeln!(text, "args = {}", serde_json::json!(arguments));
            text.push_str("tool_timeout_sec = 120\n");
            text
        }
    }
}

impl Options {
    /// The flags that say what these options say. Files are named wherever the client runs the bridge.
    fn flags(&self, given: bool) -> Vec<String> {
        let file = |path: &Path| {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
            path.to_string_lossy().into_owned()
        };
        let servers = self.servers.iter().map(|url| ("--server", url.as_str().to_owned()));
        let handle = self.handle.iter().map(|handle| ("--as", handle.as_str().to_owned()));
        let approvers = self.approvers.iter().map(|approver| ("--approver", approver.to_string()));
        let ca = self.ca.iter().map(|ca| ("--ca", file(ca)));
        let dir = given.then(|| ("--config-dir", file(&self.dir)));
        let flags = servers.chain(handle).chain(approvers).chain(ca).chain(dir);
        flags.flat_map(|(flag, value)| [flag.to_owned(), value]).collect()
    }
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_has_a_name_and_a_snippet_with_the_command() {
        for client in Client::ALL {
            assert_eq!(client.as_str().parse(), Ok(client));
            let text = print_config(client, &["conclave", "bridge"], &Options::default(), false);
            assert!(text.contains("conclave") && text.contains("bridge"), "{text}");
        }
        assert!("emacs\u{1b}".parse::<Client>().unwrap_err().to_string().contains("claude-code"));
    }

    #[test]
    fn what_was_given_beside_it_is_in_the_snippet() {
        let options = Options {
            dir: "/home/bea/a dir".into(),
            servers: vec!["wss://a".parse().unwrap()],
            handle: Some("re viewer".parse().unwrap()),
            approvers: vec!["bea@a".parse().unwrap()],
            ca: None,
        };
        let text = print_config(Client::ClaudeCode, &["conclave", "bridge"], &options, true);
        let command = "conclave bridge --server wss://a --as 're viewer' --approver bea@a --config-dir '/home/bea/a dir'";
        assert!(text.contains(command), "{text}");
        let text = print_config(Client::Codex, &["conclave", "bridge"], &options, false);
        assert!(text.contains("\"--as\",\"re viewer\"") && !text.contains("a dir"), "{text}");
    }

    #[test]
    fn snippets_in_json_are_json() {
        let text = print_config(Client::Cursor, &["conclave-bridge"], &Options::default(), false);
        let json = text.split_once('\n').unwrap().1;
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(value["mcpServers"]["conclave"]["command"], "conclave-bridge");
    }
}
