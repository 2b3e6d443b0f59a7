//! Channels, who belongs to them and who may stay.

use std::fs;
use std::io::{self, Read as _};
use std::path::PathBuf;

use conclave_core::level::Scope;
use conclave_core::name::{ChannelName, UserName};
use conclave_core::protocol::{Admin, Command, KickTarget, Reply, Token, Visibility};
use conclave_core::text::shell_word;
use conclave_core::time::UnixMillis;
use conclave_store::config::Override;
use serde_json::json;

use crate::args::{Acl, Channel, Invite, Join, Kick, OfChannel, OfUser, TokenArg};
use crate::confirm::confirm;
use crate::connect::{Connection, unexpected};
use crate::{Context, Failure};

pub(super) fn join(join: Join, context: &Context) -> Result<(), Failure> {
    let token = token(join.token, join.token_file)?;
    let mut connection = Connection::open(context, &join.net)?;
    let channel = join.channel;
    connection.done(&Command::Join { channel: channel.clone(), token })?;
    let server = connection.url.clone();
    if let Some(level) = join.perm {
        let scope = Scope::Channel(channel.clone());
        let mentions_only = context.config()?.mentions_only(&server, &scope);
        super::perm::remember(context, Override { server: server.clone(), scope, level, mentions_only })?;
    }
    let level = context.config()?.level(&server, &Scope::Channel(channel.clone()));
    context.output.result(
        format_args!("may join #{channel} on {server}; agents here: {level}"),
        json!({ "server": server.as_str(), "channel": channel.as_str(), "level": level.as_str() }),
    )?;
    let word = shell_word(channel.as_str());
    context.output.note(format_args!("follow it: conclave tail {word}; agents use join_channel"));
    Ok(())
}

/// The token that was typed, piped in or put into a file.
pub(super) fn token(typed: Option<TokenArg>, file: Option<PathBuf>) -> Result<Option<Token>, Failure> {
    let mut text = String::new();
    match (typed, file) {
        (_, Some(file)) => {
            fs::File::open(&file).and_then(|open| open.take(MAX_TOKEN).read_to_string(&mut text)).map_err(
                |error| {
                    Failure::new(
                        format!("{} cannot be read: {error}", file.display()),
                        format!("look at `ls -l {}`", file.display()),
                    )
                },
            )?;
        }
        (Some(TokenArg::Typed(token)), None) => return Ok(Some(token)),
        (Some(TokenArg::Input), None) => {
            let read = io::stdin().lock().take(MAX_TOKEN).read_to_string(&mut text);
            read.map_err(|error| Failure::new(format!("standard input cannot be read: {error}"), NO_TOKEN))?;
        }
        (None, None) => return Ok(None),
    }
    if text.trim().is_empty() { Err(no_token()) } else { Ok(Some(Token::new(text.trim()))) }
}

/// More than any token has.
const MAX_TOKEN: u64 = 4096;
const NO_TOKEN: &str = "pipe the token in, or name the file that holds it (`--help` shows how)";

fn no_token() -> Failure {
    Failure::usage("there is no token", NO_TOKEN)
}

pub(super) fn channel(action: Channel, context: &Context) -> Result<(), Failure> {
    let (net, command, text, value) = match action {
        Channel::List(net) => return list(&net, context),
        Channel::Create { net, name, visibility } => {
            let visibility = Visibility::from(visibility);
            let text = format!("created the {visibility} channel #{name}");
            let value = json!({ "channel": name.as_str(), "visibility": visibility.as_str() });
            (net, Admin::CreateChannel { name, visibility }, text, value)
        }
        Channel::Delete { net, yes, name } => {
            let what = format!("#{name} will be deleted with its history, members and invites.");
            confirm(context, yes, &what)?;
            let text = format!("deleted #{name}");
            let value = json!({ "channel": name.as_str() });
            (net, Admin::DeleteChannel { name }, text, value)
        }
        Channel::Rename { net, name, new_name } => {
            let text = format!("renamed #{name} to #{new_name}");
            let value = json!({ "channel": new_name.as_str(), "old_name": name.as_str() });
            (net, Admin::RenameChannel { name, new_name }, text, value)
        }
        Channel::SetVisibility { net, name, visibility } => {
            let visibility = Visibility::from(visibility);
            let text = format!("#{name} is {visibility} now");
            let value = json!({ "channel": name.as_str(), "visibility": visibility.as_str() });
            (net, Admin::SetVisibility { name, visibility }, text, value)
        }
    };
    let mut connection = Connection::open(context, &net)?;
    connection.done(&Command::Admin(command))?;
    context.output.result(text, value)
}

fn list(net: &crate::args::Net, context: &Context) -> Result<(), Failure> {
    let mut connection = Connection::open_newest(context, net)?;
    let Reply::Channels(channels) = connection.request(&Command::ListChannels)? else {
        return Err(unexpected(&connection.url));
    };
    let items: Vec<_> = channels
        .iter()
        .map(|it| {
            json!({
                "name": it.name.as_str(),
                "visibility": it.visibility.as_str(),
                "member": it.member,
                "sealed": it.sealed,
            })
        })
        .collect();
    let none = "no channel that you may see; make one: conclave channel create NAME";
    context.output.list(&items, ["CHANNEL", "VISIBILITY", "MEMBER"], none, |it| {
        let text = |key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let member = if it["member"] == true { "yes" } else { "no" };
        let sealed = if it["sealed"] == true { ", sealed" } else { "" };
        [text("name"), text("visibility") + sealed, member.into()]
    })
}

pub(super) fn acl(action: Acl, context: &Context) -> Result<(), Failure> {
    match action {
        Acl::Add(it) => {
            on_user(it, context, "is a member of", |channel, user| Admin::AclAdd { channel, user })
        }
        Acl::Remove(it) => on_user(it, context, "is no member any more of", |channel, user| {
            Admin::AclRemove { channel, user }
        }),
        Acl::List(of) => users(of, context, "it has no members", |channel| Admin::AclList { channel }),
    }
}

pub(super) fn ban(it: OfUser, context: &Context) -> Result<(), Failure> {
    on_user(it, context, "is banned from", |channel, user| Admin::Ban { channel, user })
}

pub(super) fn unban(it: OfUser, context: &Context) -> Result<(), Failure> {
    on_user(it, context, "is not banned any more from", |channel, user| Admin::Unban { channel, user })
}

pub(super) fn bans(of: OfChannel, context: &Context) -> Result<(), Failure> {
    users(of, context, "nobody is banned", |channel| Admin::BanList { channel })
}

pub(super) fn kick(kick: Kick, context: &Context) -> Result<(), Failure> {
    let (channel, target) = kick.of.split::<KickTarget>()?;
    let mut connection = Connection::open(context, &kick.of.net)?;
    connection.done(&Command::Admin(Admin::Kick { channel: channel.clone(), target: target.clone() }))?;
    context.output.result(
        format_args!("kicked {target} from #{channel}"),
        json!({ "channel": channel.as_str(), "target": target.to_string() }),
    )
}

type OnUser = fn(ChannelName, UserName) -> Admin;

fn on_user(of: OfUser, context: &Context, is: &str, admin: OnUser) -> Result<(), Failure> {
    let (channel, user) = of.split::<UserName>()?;
    let mut connection = Connection::open(context, &of.net)?;
    connection.done(&Command::Admin(admin(channel.clone(), user.clone())))?;
    context.output.result(
        format_args!("{user} {is} #{channel}"),
        json!({ "channel": channel.as_str(), "user": user.as_str() }),
    )
}

fn users(
    of: OfChannel,
    context: &Context,
    none: &str,
    admin: fn(ChannelName) -> Admin,
) -> Result<(), Failure> {
    let mut connection = Connection::open(context, &of.net)?;
    let Reply::Users(users) = connection.request(&Command::Admin(admin(of.channel()?)))? else {
        return Err(unexpected(&connection.url));
    };
    super::names(context, &users, none)
}

pub(super) fn invite(action: Invite, context: &Context) -> Result<(), Failure> {
    match action {
        Invite::Create { of, uses, expires_in } => {
            let channel = of.channel()?;
            let mut connection = Connection::open(context, &of.net)?;
            let create = Admin::InviteCreate { channel: channel.clone(), uses, lifetime: expires_in };
            let Reply::Invite(token) = connection.request(&Command::Admin(create))? else {
                return Err(unexpected(&connection.url));
            };
            context.output.result(
                token.expose(),
                json!({
                    "channel": channel.as_str(),
                    "token": token.expose(),
                    "uses": uses,
                    "expires_in_secs": expires_in.map(|span| span.as_secs()),
                }),
            )?;
            let url = &connection.url;
            context.output.note(format_args!(
                "they type: conclave join --server {url} {} --token TOKEN",
                shell_word(channel.as_str())
            ));
            Ok(())
        }
        Invite::User { net, uses, expires_in } => {
            let mut connection = Connection::open_newest(context, &net)?;
            let create = Admin::UserInvite { uses: Some(uses), lifetime: Some(expires_in) };
            let Reply::Invite(token) = connection.request(&Command::Admin(create))? else {
                return Err(unexpected(&connection.url));
            };
            context.output.result(
                token.expose(),
                json!({
                    "token": token.expose(),
                    "uses": uses,
                    "expires_in_secs": expires_in.as_secs(),
                }),
            )?;
            context.output.note(format_args!(
                "they type: conclave register --server {} --username NAME --invite TOKEN",
                connection.url
            ));
            Ok(())
        }
        Invite::Users(net) => {
            let mut connection = Connection::open_newest(context, &net)?;
            let list = Command::Admin(Admin::UserInviteList);
            let Reply::UserInvites(invites) = connection.request(&list)? else {
                return Err(unexpected(&connection.url));
            };
            let items: Vec<_> = invites
                .iter()
                .map(|it| {
                    json!({
                        "invite": it.id,
                        "by": it.by.as_str(),
                        "uses_remaining": it.uses,
                        "expires_at": it.expires.map(UnixMillis::rfc3339),
                    })
                })
                .collect();
            let none = "there are no invites to this server";
            context.output.list(&items, ["INVITE", "BY", "USES LEFT", "EXPIRES"], none, |it| {
                [
                    it["invite"].as_str().unwrap_or_default().to_owned(),
                    it["by"].as_str().unwrap_or_default().to_owned(),
                    it["uses_remaining"].as_u64().map_or("any".into(), |uses| uses.to_string()),
                    it["expires_at"].as_str().unwrap_or("never").to_owned(),
                ]
            })
        }
        Invite::Revoke { net, token, token_file } => {
            let Some(token) = self::token(token, token_file)? else { return Err(no_token()) };
            let mut connection = Connection::open(context, &net)?;
            connection.done(&Command::Admin(Admin::InviteRevoke { token }))?;
            context.output.result("revoked", json!({ "revoked": true }))
        }
        Invite::List(of) => {
            let mut connection = Connection::open(context, &of.net)?;
            let list = Command::Admin(Admin::InviteList { channel: of.channel()? });
            let Reply::Invites(invites) = connection.request(&list)? else {
                return Err(unexpected(&connection.url));
            };
            let items: Vec<_> = invites
                .iter()
                .map(|it| {
                    json!({
                        "token": it.token.expose(),
                        "uses_remaining": it.uses,
                        "expires_at": it.expires.map(UnixMillis::rfc3339),
                    })
                })
                .collect();
            context.output.list(&items, ["TOKEN", "USES LEFT", "EXPIRES"], "it has no invites", |it| {
                [
                    it["token"].as_str().unwrap_or_default().to_owned(),
                    it["uses_remaining"].as_u64().map_or("any".into(), |uses| uses.to_string()),
                    it["expires_at"].as_str().unwrap_or("never").to_owned(),
                ]
            })
        }
    }
}
