//! The tool table as MCP lists it, and a call's arguments as the bridge takes them.

use std::time::Duration;

use conclave_core::bridge::{
    CardId, Effect, Filter, Kind, Level, Param, Scope, Tool, ToolCall, WhisperTarget, find,
};
use conclave_core::name::{ChannelName, InvalidName, SessionPath, UserName};
use conclave_core::opaque::Opaque;
use conclave_core::protocol::{Admin, KickTarget, Token, Visibility};
use conclave_core::stream::ReceiptState;
use conclave_core::time::Since;
use serde_json::{Map, Value, json};

use super::rpc::{Object, Scalar};

/// A tool as `tools/list` shows it.
pub(crate) fn listed(tool: &Tool) -> Value {
    let properties: Map<_, _> =
        tool.params.iter().map(|param| (param.name.to_owned(), schema(param))).collect();
    let required: Vec<_> =
        tool.params.iter().filter(|param| param.required).map(|param| param.name).collect();
    let mut input = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        input["required"] = json!(required);
    }
    let destroys = matches!(tool.effect, Effect::Destroys | Effect::Decides);
    let mut listed = json!({
        "name": tool.name,
        "title": tool.title,
        "description": tool.about,
        "inputSchema": input,
        "annotations": {
            "title": tool.title,
            "readOnlyHint": tool.effect == Effect::Reads,
            "destructiveHint": destroys,
            "idempotentHint": matches!(tool.effect, Effect::Reads | Effect::Destroys),
            "openWorldHint": tool.effect != Effect::Session,
        },
    });
    if tool.eager {
        listed["_meta"] = json!({ "anthropic/alwaysLoad": true });
    }
    if tool.effect == Effect::Decides {
        listed["_meta"] = json!({ "anthropic/requiresUserInteraction": true });
    }
    listed
}

fn schema(param: &Param) -> Value {
    let mut schema = match param.kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Number(least, most) => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::List(most) => json!({ "type": "array", "items": { "type": "string" }, "maxItems": most }),
        Kind::OneOf(words) => json!({ "type": "string", "enum": words }),
    };
    schema["description"] = json!(param.about);
    schema
}

/// Why arguments make no call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadCall {
    /// There is no such tool.
    NoTool,
    /// They do not have the tool's schema.
    Schema(String),
    /// They have, but mean nothing.
    Value(String),
}

struct Arguments {
    tool: &'static Tool,
    given: Vec<(String, Scalar)>,
}

/// The call that `name` with `arguments` is.
pub(crate) fn call(name: &str, arguments: Object) -> Result<ToolCall, BadCall> {
    let Some(tool) = find(name) else { return Err(BadCall::NoTool) };
    let args = Arguments { tool, given: arguments.0 };
    args.check()?;
    let server = args.text("server");
    Ok(match tool.name {
        "join_channel" => ToolCall::Join {
            server,
            channel: args.channel("channel")?,
            token: args.text("token").map(|token| Token::new(&token)),
            level: args.text("perm").and_then(|level| level.parse().ok()),
        },
        "leave_channel" => ToolCall::Leave { server, channel: args.channel("channel")? },
        "send_channel" => ToolCall::Send {
            server,
            channel: args.channel("channel")?,
            text: Opaque(args.need("text")?),
            reply_to: args.number("reply_to"),
            mentions: args.mentions()?,
            wait: args.wait(),
        },
        "receipts" => ToolCall::Receipts {
            server,
            channel: args.channel("channel")?,
            seq: args.number("seq").unwrap_or_default(),
        },
        "acknowledge" => ToolCall::Acknowledge {
            server,
            channel: args.channel("channel")?,
            seq: args.number("seq").unwrap_or_default(),
            word: Opaque(args.text("word").unwrap_or_default()),
        },
        "whisper" => ToolCall::Whisper {
            server,
            target: args.parse("target", str::parse::<WhisperTarget>)?,
            text: Opaque(args.need("text")?),
            mentions: args.mentions()?,
            wait: args.wait(),
        },
        "list_channels" => ToolCall::ListChannels { server },
        "who" => ToolCall::Who { server, channel: args.optional("channel", channel)? },
        "catch_up" => ToolCall::CatchUp {
            server,
            channel: args.channel("channel")?,
            since: args.optional("since", str::parse::<Since>)?,
        },
        "inbox" => args.inbox(server)?,
        "wait_for_message" => {
            ToolCall::Wait { timeout: args.number("timeout_secs").map(Duration::from_secs) }
        }
        "set_perm" => {
            let level = args.optional("level", str::parse::<Level>)?.unwrap_or_default();
            let scope = match (args.optional("channel", channel)?, args.flag("whisper")) {
                (Some(channel), false) => Scope::Channel(channel),
                (None, true) => Scope::Whispers,
                _ => return Err(BadCall::Value("Say either which channel, or whisper: true".to_owned())),
            };
            ToolCall::SetLevel { server, scope, level }
        }
        "submit_permission" => ToolCall::Submit {
            from: args.optional("from", str::parse::<SessionPath>)?,
            id: args.parse("request_id", str::parse::<CardId>)?,
            allow: args.text("decision").as_deref() == Some("allow"),
        },
        "status" => ToolCall::Status,
        _ => ToolCall::Admin { server, what: args.admin()? },
    })
}

/// How long `wait_for` waits where no time is given.
const RECEIPT_WAIT: Duration = Duration::from_secs(30);

fn state(word: &str) -> Option<ReceiptState> {
    let states = [ReceiptState::Delivered, ReceiptState::Seen, ReceiptState::Acknowledged];
    states.into_iter().find(|state| state.as_str() == word)
}

/// A channel's name, given as it is or as it is shown: one `#` before it does not belong to it.
fn channel(text: &str) -> Result<ChannelName, InvalidName> {
    ChannelName::new(text.strip_prefix('#').unwrap_or(text))
}

impl Arguments {
    /// Holds them against the tool's parameters.
    fn check(&self) -> Result<(), BadCall> {
        let bad = |name: &str, why: &str| Err(self.bad(name, why));
        for (name, value) in &self.given {
            let Some(param) = self.tool.params.iter().find(|param| param.name == name) else {
                let shown: String = name.chars().take(40).collect();
                return bad(&shown, "is no parameter of this tool");
            };
            match (param.kind, value) {
                (Kind::OneOf(words), Scalar::Text(word)) if !words.contains(&&**word) => {
                    return bad(param.name, &format!("must be one of {}", words.join(", ")));
                }
                (Kind::Number(least, most), Scalar::Number(number))
                    if number.fract() != 0.0 || *number < least as f64 || *number > most as f64 =>
                {
                    return bad(param.name, &format!("must be a whole number from {least} to {most}"));
                }
                (_, Scalar::Null) if !param.required => {}
                (Kind::Text | Kind::OneOf(_), Scalar::Text(_))
                | (Kind::Number(..), Scalar::Number(_))
                | (Kind::Flag, Scalar::Flag(_)) => {}
                (Kind::List(most), Scalar::Texts(texts)) if texts.len() <= most => {}
                (Kind::List(most), _) => {
                    return bad(param.name, &format!("must be a list of at most {most} texts"));
                }
                (Kind::Text | Kind::OneOf(_), _) => return bad(param.name, "must be a text"),
                (Kind::Number(..), _) => return bad(param.name, "must be a whole number"),
                (Kind::Flag, _) => return bad(param.name, "must be true or false"),
            }
        }
        let missing = |param: &&Param| param.required && self.get(param.name).is_none();
        match self.tool.params.iter().find(missing) {
            Some(param) => bad(param.name, "is missing"),
            None => Ok(()),
        }
    }

    /// What is wrong with a parameter, and what the tool takes, so that whoever called can do better.
    fn bad(&self, name: &str, why: &str) -> BadCall {
        let names = |required: bool| {
            let params = self.tool.params.iter().filter(|param| param.required == required);
            params.map(|param| param.name).collect::<Vec<_>>().join(", ")
        };
        let mut text = format!("`{name}` {why}. {}", self.tool.name);
        match (names(true), names(false)) {
            (needs, may) if needs.is_empty() && may.is_empty() => text.push_str(" takes nothing"),
            (needs, may) if needs.is_empty() => text.push_str(&format!(" may take {may}")),
            (needs, may) if may.is_empty() => text.push_str(&format!(" takes {needs}")),
            (needs, may) => text.push_str(&format!(" takes {needs}, and may take {may}")),
        }
        BadCall::Schema(text)
    }

    fn get(&self, name: &str) -> Option<&Scalar> {
        let found = self.given.iter().find(|(given, _)| given == name).map(|(_, value)| value);
        found.filter(|value| **value != Scalar::Null)
    }

    fn text(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Some(Scalar::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    fn need(&self, name: &'static str) -> Result<String, BadCall> {
        self.text(name).ok_or_else(|| self.bad(name, "is missing"))
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.get(name) {
            // Checked against its range, which no number loses anything in.
            Some(Scalar::Number(number)) => Some(*number as u64),
            _ => None,
        }
    }

    fn flag(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Scalar::Flag(true)))
    }

    fn parse<T, E: ToString>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, BadCall> {
        parse(&self.need(name)?).map_err(|error| BadCall::Value(format!("{name}: {}", error.to_string())))
    }

    fn optional<T, E: ToString>(
        &self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, BadCall> {
        if self.get(name).is_none() { Ok(None) } else { self.parse(name, parse).map(Some) }
    }

    fn channel(&self, name: &'static str) -> Result<ChannelName, BadCall> {
        self.parse(name, channel)
    }

    fn new_channel(&self, name: &'static str) -> Result<ChannelName, BadCall> {
        let channel = self.channel(name)?;
        if channel.as_str().starts_with('#') {
            let why =
                "a channel's own name does not begin with '#', which is put before it where it is shown";
            return Err(BadCall::Value(format!("{name}: {why}")));
        }
        Ok(channel)
    }

    fn wait(&self) -> Option<(ReceiptState, Duration)> {
        let state = self.text("wait_for").and_then(|word| state(&word))?;
        Some((state, self.number("timeout_secs").map_or(RECEIPT_WAIT, Duration::from_secs)))
    }

    fn user(&self) -> Result<UserName, BadCall> {
        self.parse("user", UserName::new)
    }

    fn inbox(&self, server: Option<String>) -> Result<ToolCall, BadCall> {
        let channel = self.optional("channel", channel)?;
        let from = self.optional("from", str::parse::<WhisperTarget>)?;
        let mentions_only = self.flag("mentions_only");
        if self.flag("mark_read") {
            if from.is_some() || mentions_only {
                let why = "mark_read goes with channel and server only";
                return Err(BadCall::Value(why.to_owned()));
            }
            return Ok(ToolCall::MarkRead { server, channel });
        }
        let limit = self.number("limit").map(|limit| limit as usize);
        Ok(ToolCall::Inbox { limit, filter: Filter { server, channel, from, mentions_only } })
    }

    /// Names of users, given as they are or as they are mentioned: one `@` before it does not belong to it.
    fn mentions(&self) -> Result<Vec<UserName>, BadCall> {
        let Some(Scalar::Texts(names)) = self.get("mentions") else { return Ok(Vec::new()) };
        let name = |name: &String| UserName::new(name.strip_prefix('@').unwrap_or(name));
        let names: Result<_, _> = names.iter().map(name).collect();
        names.map_err(|error| BadCall::Value(format!("mentions: {error}")))
    }

    fn visibility(&self) -> Result<Visibility, BadCall> {
        self.parse("visibility", str::parse)
    }

    fn admin(&self) -> Result<Admin, BadCall> {
        Ok(match self.tool.name {
            "create_channel" => {
                Admin::CreateChannel { name: self.new_channel("name")?, visibility: self.visibility()? }
            }
            "delete_channel" => Admin::DeleteChannel { name: self.channel("name")? },
            "rename_channel" => {
                Admin::RenameChannel { name: self.channel("name")?, new_name: self.new_channel("new_name")? }
            }
            "set_visibility" => {
                Admin::SetVisibility { name: self.channel("name")?, visibility: self.visibility()? }
            }
            "acl_add" => Admin::AclAdd { channel: self.channel("channel")?, user: self.user()? },
            "acl_remove" => Admin::AclRemove { channel: self.channel("channel")?, user: self.user()? },
            "acl_list" => Admin::AclList { channel: self.channel("channel")? },
            "invite_create" => Admin::InviteCreate {
                channel: self.channel("channel")?,
                uses: self.number("uses").and_then(|uses| u32::try_from(uses).ok()),
                lifetime: self.number("expires_in_secs").map(Duration::from_secs),
            },
            "invite_revoke" => Admin::InviteRevoke { token: Token::new(&self.need("token")?) },
            "invite_list" => Admin::InviteList { channel: self.channel("channel")? },
            "kick" => Admin::Kick {
                channel: self.channel("channel")?,
                target: self.parse("target", str::parse::<KickTarget>)?,
            },
            "ban" => Admin::Ban { channel: self.channel("channel")?, user: self.user()? },
            "unban" => Admin::Unban { channel: self.channel("channel")?, user: self.user()? },
            "ban_list" => Admin::BanList { channel: self.channel("channel")? },
            _ => return Err(BadCall::NoTool),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conclave_core::bridge::TOOLS;

    fn read(text: &str) -> Object {
        serde_json::from_str(text).unwrap()
    }

    /// Arguments that a tool's own schema asks for.
    fn sample(tool: &Tool, all: bool) -> Object {
        let value = |param: &Param| match (param.name, param.kind) {
            ("target" | "from", _) => Scalar::Text("a/b/c".into()),
            ("since", _) => Scalar::Text("2h".into()),
            ("request_id", _) => Scalar::Text("abcde".into()),
            (_, Kind::Text) => Scalar::Text("x".into()),
            (_, Kind::Number(least, _)) => Scalar::Number(least as f64),
            (_, Kind::Flag) => Scalar::Flag(false),
            (_, Kind::List(_)) => Scalar::Texts(vec!["x".into()]),
            (_, Kind::OneOf(words)) => Scalar::Text(words[0].into()),
        };
        let given = tool.params.iter().filter(|param| all || param.required);
        Object(given.map(|param| (param.name.to_owned(), value(param))).collect())
    }

    #[test]
    fn every_tool_of_the_table_is_called_with_what_its_schema_says() {
        for tool in &TOOLS {
            assert!(call(tool.name, sample(tool, true)).is_ok(), "{}", tool.name);
            let least = call(tool.name, sample(tool, false));
            assert!(least.is_ok() || tool.name == "set_perm", "{}: {least:?}", tool.name);
            for param in tool.params.iter().filter(|param| param.required) {
                let mut less = sample(tool, true);
                less.0.retain(|(name, _)| name != param.name);
                assert!(
                    matches!(call(tool.name, less), Err(BadCall::Schema(_))),
                    "{} {}",
                    tool.name,
                    param.name
                );
            }
        }
    }

    #[test]
    fn a_channel_may_be_named_as_it_is_shown() {
        let named = |tool: &str, arguments: &str| match call(tool, read(arguments)) {
            Ok(ToolCall::Join { channel, .. } | ToolCall::Send { channel, .. }) => {
                channel.as_str().to_owned()
            }
            Ok(ToolCall::Who { channel, .. }) => channel.unwrap().as_str().to_owned(),
            Ok(ToolCall::SetLevel { scope, .. }) => scope.channel().unwrap().as_str().to_owned(),
            Ok(ToolCall::Admin { what: Admin::CreateChannel { name, .. }, .. }) => name.as_str().to_owned(),
            other => panic!("{tool} {arguments}: {other:?}"),
        };
        assert_eq!(named("join_channel", r##"{"channel":"#ops"}"##), "ops");
        assert_eq!(named("send_channel", r##"{"channel":"#ops","text":"x"}"##), "ops");
        assert_eq!(named("who", r##"{"channel":"#ops"}"##), "ops");
        assert_eq!(named("set_perm", r##"{"channel":"#ops","level":"mute"}"##), "ops");
        assert_eq!(named("create_channel", r##"{"name":"#ops","visibility":"public"}"##), "ops");
        assert_eq!(named("join_channel", r###"{"channel":"##ops"}"###), "#ops");
        for (tool, arguments) in [
            ("create_channel", r###"{"name":"##ops","visibility":"public"}"###),
            ("rename_channel", r###"{"name":"ops","new_name":"##ops"}"###),
        ] {
            assert!(matches!(call(tool, read(arguments)), Err(BadCall::Value(_))), "{tool} {arguments}");
        }
    }

    #[test]
    fn arguments_of_another_shape_are_refused() {
        for (tool, arguments) in [
            ("inbox", r#"{"limit":0}"#),
            ("inbox", r#"{"limit":1.5}"#),
            ("inbox", r#"{"limit":"1"}"#),
            ("inbox", r#"{"limit":1e300}"#),
            ("inbox", r#"{"limt":1}"#),
            ("join_channel", r#"{"channel":["ops"]}"#),
            ("join_channel", r#"{"channel":null}"#),
            ("join_channel", r#"{"channel":"ops","perm":"root"}"#),
            ("set_perm", r#"{"level":"act","whisper":"yes"}"#),
        ] {
            let Err(BadCall::Schema(why)) = call(tool, read(arguments)) else { panic!("{tool} {arguments}") };
            assert!(why.contains(" take"), "it says what the tool takes: {why}");
        }
        assert_eq!(call("rm", read("{}")), Err(BadCall::NoTool));
    }

    #[test]
    fn values_that_mean_nothing_are_explained() {
        for (tool, arguments) in [
            ("join_channel", r#"{"channel":""}"#),
            ("join_channel", r#"{"channel":"a/b"}"#),
            ("whisper", r#"{"target":"bob/m","text":"x"}"#),
            ("catch_up", r#"{"channel":"ops","since":"yesterday"}"#),
            ("set_perm", r#"{"level":"mute"}"#),
            ("set_perm", r#"{"level":"mute","channel":"ops","whisper":true}"#),
            ("submit_permission", r#"{"request_id":"hello","decision":"allow"}"#),
        ] {
            assert!(matches!(call(tool, read(arguments)), Err(BadCall::Value(_))), "{tool} {arguments}");
        }
    }
}
