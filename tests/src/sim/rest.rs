//! The end of a run: all is whole again, time passes, and whatever was promised must hold.

use std::collections::BTreeMap;

use conclave_core::name::ChannelName;
use conclave_core::payload::Payload;
use conclave_core::record::{ChannelId, UserId};

use super::client::{DEN_ID, PREFIX, within_budgets};
use super::notation::{Node, Said};
use super::plan::SECOND;
use super::world::{Event, World};

/// Long enough for half-open connections to be noticed, waits to pass and gaps to be filled.
const ENOUGH: u64 = 200 * SECOND;

/// Lets the world come to rest and checks what holds then.
pub(super) fn settle(world: &mut World) {
    for nth in 1..5 {
        world.after(nth * ENOUGH / 5, Event::Inspect);
    }
    let end = world.at + ENOUGH;
    world.run_until(end - ENOUGH / 4);
    let written = world.store.rows(DEN_ID).len();
    world.run_until(end);
    if world.plan.agents > 0 && world.store.rows(DEN_ID).len() != written {
        world.fail("the agents answer each other without a person".to_owned());
    }
    if world.failure.is_none()
        && let Err(what) = check(world)
    {
        world.fail(what);
    }
    if world.failure.is_none() {
        // Last, an orderly end.
        world.shut_down();
        world.run_until(world.at + SECOND);
        if world.failure.is_none() && world.server.life < 2 {
            world.fail("the shutdown never came to its end".into());
        }
    }
}

fn check(world: &mut World) -> Result<(), String> {
    let Some(process) = world.server.process.take() else { return Err("the server does not run".into()) };
    let verdict = process
        .outside
        .watch
        .compare(world.now(), process.engine.hub())
        .and_then(|()| process.outside.watch.at_rest());
    let gauges = process.engine.hub().gauges();
    world.server.process = Some(process);
    verdict?;
    if gauges.waiting + gauges.gathering > 0 {
        return Err(format!("at rest, something waits: {gauges:?}"));
    }
    let (mut complete, mut incomparable) = (0, 0);
    for link in world.links() {
        let number = link.identity.number;
        if link.identity.twin || link.ended {
            continue;
        }
        let Some(path) = link.path() else {
            // Two with one handle yield to each other, the longer the more often.
            if world.plan.twins || !link.is_enrolled(world) {
                continue;
            }
            return Err(format!("link {number} has not come back"));
        };
        if link.unanswered() > 0 {
            return Err(format!("link {number} was not answered {} times", link.unanswered()));
        }
        let Some(process) = &world.server.process else { continue };
        let Some(conn) = process.outside.watch.conn(path) else {
            return Err(format!("link {number} is up, and {path} is not there"));
        };
        for (channel, follow) in &link.follows {
            if follow.incomparable || follow.ended {
                incomparable += 1;
                continue;
            }
            let subscribed = follow.channel.is_some_and(|known| {
                process.outside.watch.subscriptions(conn).any(|subscribed| subscribed == known)
            });
            if !subscribed {
                return Err(format!("link {number} follows {channel} and is not subscribed to it"));
            }
            if renamed(world, channel, follow.channel) {
                incomparable += 1;
                continue;
            }
            link.complete(world, channel)?;
            complete += 1;
        }
    }
    let mut whole = 0;
    for speaker in world.speakers() {
        whole += speaker.at_rest(world)?;
    }
    for resumer in world.resumers() {
        whole += resumer.at_rest(world)?;
    }
    if world.plan.agents > 0 {
        within_budgets(world, world.store.rows(DEN_ID))?;
    }
    world.coverage.whole += whole;
    world.coverage.complete += complete;
    world.coverage.incomparable += incomparable;
    posts(world)
}

fn renamed(world: &World, name: &ChannelName, channel: Option<ChannelId>) -> bool {
    world
        .server
        .process
        .as_ref()
        .is_some_and(|process| process.outside.watch.model.channel_named(name).map(|(id, _)| id) != channel)
}

/// Acknowledged posts are in the history exactly once, denied ones are not, and nothing else is.
fn posts(world: &World) -> Result<(), String> {
    for (text, fate) in &world.fates {
        let stored = world.store.count(text);
        if stored < fate.acknowledged {
            return Err(format!(
                "{} posts of {text:?} were acknowledged, {stored} are there",
                fate.acknowledged
            ));
        }
        if stored + fate.denied > fate.asked {
            return Err(format!(
                "of {} posts of {text:?} {} did not happen, and {stored} are there",
                fate.asked, fate.denied
            ));
        }
    }
    drafts(world)?;
    match world.store.texts().find(|(text, _)| !world.fates.contains_key(*text)) {
        Some((text, _)) => Err(format!("{text:?} is in the history, and nobody posted it")),
        None => Ok(()),
    }
}

/// A post of version 2 that is acknowledged is where it was said to be; each id is stored once, as it was sent.
fn drafts(world: &World) -> Result<(), String> {
    let mut places: BTreeMap<([u8; 16], Option<UserId>), u64> = BTreeMap::new();
    for (channel, log) in world.store.logs() {
        for row in &log.rows {
            // The links of version 2 look after their own.
            let of_link = row.from.session.as_str().starts_with(PREFIX);
            let Some(signed) = row.origin.signed.as_deref().filter(|_| !of_link) else { continue };
            let Some(draft) = world.drafts.get(&signed.id.0) else {
                return Err(format!("{:?} is in the history, and nobody posted it", signed.id));
            };
            let said = match &*row.payload {
                Payload::Body(body) => Said::read(Node::Proto(body)),
                _ => None,
            };
            let same = channel.0 + 1 == draft.stream
                && row.from.user.as_str() == draft.user
                && said.as_ref() == Some(&draft.said)
                && signed.signature.0 == draft.signature
                && signed.acknowledge == draft.acknowledge
                && !draft.denied;
            if !same {
                return Err(format!("{draft:?} is stored as another message, or was denied"));
            }
            // Once the first is purged, the id is free.
            let user = row.origin.sender.map(|(user, _)| user);
            if let Some(first) = places.insert((signed.id.0, user), row.stamp.seq)
                && first > log.purged as u64
            {
                return Err(format!("{draft:?} is stored twice"));
            }
        }
    }
    let lost = world.drafts.iter().find(|(id, draft)| match draft.stored {
        Some((seq, _)) => !places.iter().any(|((of, _), found)| of == *id && *found >= seq),
        None => false,
    });
    lost.map_or(Ok(()), |(_, draft)| Err(format!("{draft:?} was acknowledged and is gone")))
}
