//! Rules broken on purpose, one at a time, to see that the tests notice. By hand, for it takes minutes:
//!
//! ```sh
//! cargo test -p conclave-core --test mutations -- --ignored --nocapture
//! ```
//!
//! It works on a copy in `target/mutations` and writes what caught each into `MUTATIONS.md` beside this file.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that talks")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

struct Mutation {
    /// What is wrong then.
    breaks: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const fn mutation(
    breaks: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
) -> Mutation {
    Mutation { breaks, file, from, to }
}

const MUTATIONS: &[Mutation] = &[
    mutation(
        "a banned user sees a public channel",
        "hub/decide.rs",
        "(channel.visibility != Visibility::Private && !channel.banned.contains(&asker.user))",
        "(channel.visibility != Visibility::Private)",
    ),
    mutation(
        "an invite lets a banned user in",
        "hub/decide.rs",
        "(invited == Some(*id) && !channel.banned.contains(&asker.user))",
        "(invited == Some(*id))",
    ),
    mutation(
        "a post is acknowledged before it is durable",
        "hub/decide.rs",
        "to: Destination::Channel,\n        });\n        Ok(None)",
        "to: Destination::Channel,\n        });\n        Ok(Some(Reply::Sent))",
    ),
    mutation(
        "a post is delivered to its sender",
        "hub/commit.rs",
        "origin, to, except: conn }",
        "origin, to, except: ConnId(u64::MAX) }",
    ),
    mutation(
        "a kick leaves the subscriptions",
        "hub/admin.rs",
        "Some((id, _)) => self.unsubscribe_user(id, channel, EndReason::Kicked, actions),",
        "Some((id, _)) => self.conns_of(id).len(),",
    ),
    mutation(
        "a ban leaves the subscriptions",
        "hub/commit.rs",
        "self.unsubscribe_user(*user, *channel, EndReason::Banned, actions);",
        "let _ = (user, channel);",
    ),
    mutation(
        "a deleted channel leaves its subscriptions",
        "hub/commit.rs",
        "self.unsubscribe_all(*channel, actions);",
        "",
    ),
    mutation(
        "a newer connection does not supersede the older",
        "hub/live.rs",
        "self.close(now, older, CloseReason::Superseded, actions);",
        "let _ = older;",
    ),
    mutation("a stamp is used twice", "hub/commit.rs", "before.ts.0.saturating_add(1)", "before.ts.0"),
    mutation("a sequence has gaps", "hub/commit.rs", "seq: before.seq + 1,", "seq: before.seq + 2,"),
    mutation(
        "a weak key is accepted",
        "key.rs",
        "if key.is_weak() { Err(InvalidKey) } else { Ok(key) }",
        "Ok(key)",
    ),
    mutation(
        "administration tells of hidden channels",
        "hub/admin.rs",
        "let (id, channel) = self.visible(asker, name)?;",
        "let found = self.directory.channel_named(name.as_str());\n        let (id, channel) = found.ok_or_else(|| Refusal::NoChannel(name.clone()))?;",
    ),
    mutation(
        "a post tells of hidden channels",
        "hub/decide.rs",
        "let (id, _) = self.visible(asker, name)?;\n        if",
        "let found = self.directory.channel_named(name.as_str());\n        let (id, _) = found.ok_or_else(|| Refusal::NoChannel(name.clone()))?;\n        if",
    ),
    mutation(
        "the last use of an invite is used twice",
        "directory/mod.rs",
        "*uses = uses.saturating_sub(1);",
        "*uses = (*uses).max(1);",
    ),
    mutation(
        "an invite does not expire",
        "directory/mod.rs",
        "self.expires.is_none_or(|at| wall < at)",
        "self.expires.is_none_or(|at| wall < at || true)",
    ),
    mutation(
        "anyone revokes an invite",
        "hub/admin.rs",
        "(Some((channel, _)), _) if administered(channel) => {",
        "(Some((channel, _)), _) => {",
    ),
    mutation(
        "rates are forgotten",
        "hub/decide.rs",
        "if let Err(wait) = self.take_tokens(now, conn, &command) {",
        "if let Err(wait) = self.take_tokens(now, conn, &command) && false {",
    ),
    mutation(
        "a reconnect refills the user's rates",
        "hub/live.rs",
        "if live.buckets.are_full(now.mono) {",
        "if true {",
    ),
    mutation(
        "a change is seen before it is durable",
        "hub/line.rs",
        "self.gathering.changes.push(change);",
        "change.records.iter().for_each(|record| self.directory.apply(record));\n        self.gathering.changes.push(change);",
    ),
    mutation(
        "a failed post is acknowledged",
        "hub/commit.rs",
        "reply(actions, post.conn, post.request, refusal.clone());",
        "reply(actions, post.conn, post.request, Reply::Sent);",
    ),
    mutation(
        "a post overtakes the change before it",
        "hub/line.rs",
        "self.is_subscribed(conn, channel) && self.line.bars(user, channel)",
        "self.is_subscribed(conn, channel) && self.line.bars(user, channel) && false",
    ),
    mutation(
        "a change joins another that it depends on",
        "hub/line.rs",
        "free &= !self.touched.contains(&touch)",
        "free |= self.touched.contains(&touch)",
    ),
    mutation(
        "the same user is always first",
        "hub/line.rs",
        "self.line.turn = UserId(first.0 + 1);",
        "let _ = first;",
    ),
    mutation(
        "a removed user leaves its memberships",
        "directory/mod.rs",
        "channel.members.remove(&id);",
        "let _ = &channel.members;",
    ),
    mutation(
        "a removed machine leaves its sessions",
        "hub/commit.rs",
        "session.machine == *machine",
        "session.machine != *machine",
    ),
    mutation(
        "a registration whose connection closed becomes a session",
        "hub/commit.rs",
        "change.follow_up = FollowUp::Nothing;",
        "let _ = &change.follow_up;",
    ),
    mutation(
        "a pinned name is claimed by any key",
        "hub/live.rs",
        "if pinned.is_some_and(|pin| pin != key) {",
        "if pinned.is_some_and(|pin| pin != key) && false {",
    ),
    mutation(
        "a silent session lives twice as long",
        "hub/live.rs",
        "let due = session.heard + self.config.limits.idle;",
        "let due = session.heard + self.config.limits.idle * 2;",
    ),
    mutation(
        "what cannot be asked is answered as what was asked instead",
        "wire/v1/edge.rs",
        "slot.refusal.take().map_or(reply, Reply::from)",
        "reply",
    ),
    mutation(
        "a drain forgets what gathers for the next commit",
        "hub/mod.rs",
        "let idle = self.in_flight.is_none() && !self.has_batch();",
        "let idle = self.in_flight.is_none();",
    ),
    mutation(
        "a page of history reaches who was kicked",
        "hub/decide.rs",
        "_ if !subscribed => Refusal",
        "_ if !subscribed && false => Refusal",
    ),
    mutation(
        "one session too many is let in",
        "hub/live.rs",
        "if live.conns.len() >= most {",
        "if live.conns.len() > most {",
    ),
    mutation(
        "replies leave in the order of their answers",
        "wire/v1/edge.rs",
        "let slot = self.slots.get_mut(nth)?;",
        "let _ = self.slots.get_mut(nth)?;\n        let slot = self.slots.iter_mut().find(|slot| slot.reply.is_none())?;",
    ),
    mutation(
        "a request overtakes the posts before it",
        "wire/v1/edge.rs",
        "if !self.slots.is_empty() && !overtakes {",
        "if !self.slots.is_empty() && !overtakes && false {",
    ),
    mutation(
        "a list from a client is decoded",
        "wire/v1/frame.rs",
        "            _ => Err(Malformed),",
        "            _ => Self::decode(bytes),",
    ),
    mutation(
        "another key than the registered one is proven",
        "wire/v1/handshake/server.rs",
        "Some((_, registered)) if registered != key.as_bytes() =>",
        "Some((_, registered)) if registered.is_empty() =>",
    ),
    mutation(
        "a signature of another nonce proves",
        "wire/v1/handshake/server.rs",
        "key::verify(pubkey, &self.nonce, signature)",
        "key::verify(pubkey, &[1; 32], signature)",
    ),
    mutation(
        "a burst brings a sender its own post",
        "fanout.rs",
        "if *from == conn {",
        "if *from == conn && false {",
    ),
    mutation(
        "items are taken after the last word",
        "pump.rs",
        "let mut progress = self.is_live() && self.take_items(carrier);",
        "let mut progress = self.take_items(carrier);",
    ),
    mutation("the end waits for a peer that does not read", "mailbox.rs", "!(room || self.closed)", "!room"),
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

#[test]
fn every_mutation_still_applies() {
    for Mutation { breaks, file, from, to } in MUTATIONS {
        let text = fs::read_to_string(repository().join("core/src").join(file)).unwrap();
        assert_eq!(text.matches(from).count(), 1, "'{breaks}': {from}");
        assert_ne!(from, to);
    }
}

#[test]
#[ignore = "takes minutes: by hand"]
fn every_mutation_is_caught() {
    let (repository, copy) = (repository(), repository().join("target/mutations/copy"));
    let _ = fs::remove_dir_all(&copy);
    let files = Command::new("git").args(["ls-files"]).current_dir(&repository).output().unwrap();
    for file in String::from_utf8(files.stdout).unwrap().lines() {
        let (from, to) = (repository.join(file), copy.join(file));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        // What is listed and was deleted is not there.
        if from.exists() {
            fs::copy(from, to).unwrap();
        }
    }
    let sound = failures(&copy);
    assert!(sound.is_ok_and(|failed| failed.is_empty()), "without a mutation, all tests must pass");

    let mut table = String::from("| what is broken | where | caught by |\n|---|---|---|\n");
    let mut missed = Vec::new();
    for Mutation { breaks, file, from, to } in MUTATIONS {
        let path = copy.join("core/src").join(file);
        let sound = fs::read_to_string(&path).unwrap();
        fs::write(&path, sound.replacen(from, to, 1)).unwrap();
        let failed = failures(&copy).unwrap_or_else(|why| panic!("'{breaks}' does not build: {why}"));
        fs::write(&path, sound).unwrap();
        println!("{breaks}: caught by {}", failed.len());
        if failed.is_empty() {
            missed.push(*breaks);
        }
        let named: Vec<_> = failed.iter().take(3).map(|name| format!("`{name}`")).collect();
        let more = failed.len().saturating_sub(named.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        writeln!(table, "| {breaks} | `{file}` | {}{more} |", named.join(", ")).unwrap();
    }
    let head = "# Rules broken on purpose, and the tests that noticed\n\nWritten by `cargo test -p conclave-core --test mutations -- --ignored --nocapture`.\n\n";
    fs::write(repository.join("core/tests/MUTATIONS.md"), format!("{head}{table}")).unwrap();
    assert!(missed.is_empty(), "nobody noticed: {missed:#?}");
}

/// The names of the tests that fail in the copy, of the first binary where some do, or why it does not build.
fn failures(copy: &Path) -> Result<Vec<String>, String> {
    // A rule that is broken may leave a test waiting for ever: that is noticed, too.
    let tested = Command::new("timeout")
        .args([
            "600",
            env!("CARGO"),
            "test",
            "-p",
            "conclave-core",
            "--lib",
            "--tests",
            "--",
            "--skip",
            "every_mutation",
        ])
        .env("CARGO_TARGET_DIR", repository().join("target/mutations/target"))
        .env("RUST_BACKTRACE", "0")
        .env("RUSTFLAGS", "-Awarnings")
        .current_dir(copy)
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&tested.stdout), String::from_utf8_lossy(&tested.stderr));
    if err.contains("could not compile") {
        return Err(err.into_owned());
    }
    let failed = out.lines().filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    let mut failed: Vec<_> = failed.map(|name| name.rsplit("::").next().unwrap_or(name).to_owned()).collect();
    // Tests end in any order.
    failed.sort_unstable();
    match (tested.status.success(), failed.is_empty()) {
        (true, _) | (_, false) => Ok(failed),
        // It aborted or hung: noticed, without a name.
        _ => Ok(vec!["an abort, or no end".to_owned()]),
    }
}
