//! What each verb does.

mod account;
mod audit;
mod bridge;
mod channel;
mod contacts;
mod demo;
mod doctor;
mod hook;
mod host;
mod inbox;
mod kept;
mod local;
mod message;
mod perm;
mod post;
mod receipts;
mod shown;
mod skill;
mod status;
mod tail;
mod trust;
mod verdict;

use conclave_core::name::UserName;
use conclave_core::stream::ContactChange;
use serde_json::json;

use crate::args::Verb;
use crate::{Context, Failure};

/// Carries out a verb.
///
/// # Errors
/// Why it was not carried out.
pub fn run(verb: Verb, context: &Context) -> Result<(), Failure> {
    match verb {
        Verb::Demo(it) => demo::run(&it, context),
        Verb::Doctor(it) => doctor::run(&it, context),
        Verb::Key => local::key(context),
        Verb::Register(it) => account::register(it, context),
        Verb::Machine(action) => account::machine(action, context),
        Verb::Server(action) => local::server(action, context),
        Verb::Status(net) => status::run(&net, context),
        Verb::Join(it) => channel::join(it, context),
        Verb::Chat(it) => crate::chat::run(it, context),
        Verb::Tail(it) => tail::run(it, context),
        Verb::Send(it) => post::send(it, context),
        Verb::Receipts(it) => receipts::receipts(it, context),
        Verb::Whisper(it) => post::whisper(it, context),
        Verb::Inbox(it) => inbox::run(it, context),
        Verb::Ack(it) => contacts::ack(it, context),
        Verb::Block(of) => contacts::change(&of, ContactChange::Block, context),
        Verb::Unblock(of) => contacts::change(&of, ContactChange::Unblock, context),
        Verb::Allow(of) => contacts::change(&of, ContactChange::Allow, context),
        Verb::Disallow(of) => contacts::change(&of, ContactChange::Disallow, context),
        Verb::Contacts(net) => contacts::list(&net, context),
        Verb::Verify(it) => trust::verify(it, context),
        Verb::Who(it) => message::who(it, context),
        Verb::Channel(action) => channel::channel(action, context),
        Verb::Acl(action) => channel::acl(action, context),
        Verb::Invite(action) => channel::invite(action, context),
        Verb::Kick(it) => channel::kick(it, context),
        Verb::Ban(it) => channel::ban(it, context),
        Verb::Unban(it) => channel::unban(it, context),
        Verb::Bans(of) => channel::bans(of, context),
        Verb::Audit(it) => audit::run(it, context),
        Verb::User(action) => account::user(action, context),
        Verb::Release(it) => account::release(&it, context),
        Verb::Perm(action) => perm::run(action, context),
        Verb::Approve(it) => verdict::verdict(it, "yes", context),
        Verb::Deny(it) => verdict::verdict(it, "no", context),
        Verb::Bridge(it) => bridge::run(it, context),
        Verb::Hook(it) => hook::run(it, context),
        Verb::Host(it) => host::run(it, context),
        Verb::Serve(serve) => crate::serve::run(*serve, context),
        Verb::Bench(bench) => crate::bench::run(bench, context),
        Verb::Skill(skill) => skill::run(&skill, context),
        Verb::Completions(shell) => local::completions(shell.shell),
        Verb::Man(man) => local::man(&man, context),
        Verb::Backup(backup) => crate::serve::backup(backup, context),
        Verb::Restore(restore) => crate::serve::restore(restore, context),
    }
}

/// Prints a list of users.
fn names(context: &Context, users: &[UserName], none: &str) -> Result<(), Failure> {
    let items: Vec<_> = users.iter().map(|user| json!({ "user": user.as_str() })).collect();
    context.output.list(&items, ["USER"], none, |it| [it["user"].as_str().unwrap_or_default().to_owned()])
}
