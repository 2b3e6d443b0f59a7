//! Messages that the shell keeps: what the inbox holds of them, and what counts as seen.

use super::*;
use crate::link::{Place, Proof};
use crate::stream::Origin;

const STREAM: ChannelId = ChannelId(3);
/// Longer than a client takes to cancel.
const CONFIRMED: Duration = Duration::from_millis(500);

fn place(seq: u64, proof: Proof) -> Option<Place> {
    Some(Place { stream: STREAM, seq, origin: Origin::default(), proof })
}

fn scene() -> Scene {
    let mut scene = Scene::new(&[A], Settings::default(), false);
    scene.follow(false);
    scene
}

impl Scene {
    fn follow(&mut self, unread: bool) -> Vec<Action> {
        self.link(
            A,
            LinkEvent::Followed { channel: Some(channel("ops")), stream: STREAM, unread, skipped: None },
        )
    }

    fn arrives(&mut self, seq: u64, text: &str, proof: Proof) -> Vec<Action> {
        let (channel, from, payload) = (Some(channel("ops")), path("eve/m/s"), plain(text));
        let at = Some(UnixMillis(seq.cast_signed()));
        self.link(A, LinkEvent::Message { channel, from, at, payload, place: place(seq, proof) })
    }

    fn loads(&mut self, seqs: core::ops::RangeInclusive<u64>, more: bool) -> Vec<Action> {
        let message = |seq: u64| Stamped {
            from: path("eve/m/s"),
            ts: UnixMillis(seq.cast_signed()),
            payload: plain(&format!("{seq}")),
            seq,
            origin: Origin::default(),
        };
        let seqs_from = *seqs.start();
        let messages = seqs.map(|seq| (message(seq), Proof::Verified)).collect();
        let after = seqs_from - 1;
        self.link(A, LinkEvent::Unread { stream: STREAM, after, messages, more })
    }

    fn reads(&mut self) -> Vec<String> {
        let Ok(Outcome::Read { page, .. }) = answer(&self.call(inbox()).1) else { panic!() };
        page.entries.iter().map(Unread::text).collect()
    }
}

fn seen(actions: &[Action]) -> Vec<u64> {
    let seen = |action: &Action| match action {
        Action::Seen { seq, .. } => Some(*seq),
        _ => None,
    };
    actions.iter().filter_map(seen).collect()
}

fn loads(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::LoadUnread { .. }))
}

#[test]
fn what_was_read_counts_as_seen_once_it_cannot_be_cancelled_any_more() {
    let mut scene = scene();
    scene.arrives(1, "one", Proof::Verified);
    scene.arrives(2, "two", Proof::Unsigned);
    let (call, actions) = scene.call(inbox());
    assert!(answer(&actions).is_ok() && seen(&actions).is_empty());
    assert!(seen(&scene.input(Input::Cancel { id: call })).is_empty());
    assert!(seen(&scene.pass(CONFIRMED)).is_empty(), "nobody saw it");
    assert_eq!(scene.reads(), ["one", "two"]);
    assert_eq!(seen(&scene.pass(CONFIRMED)), [2]);
}

#[test]
fn what_is_only_pushed_is_not_seen() {
    let mut scene = scene();
    assert_eq!(pushes(&scene.arrives(1, "one", Proof::Verified)).len(), 1);
    assert!(seen(&scene.pass(Duration::from_secs(60))).is_empty());
}

#[test]
fn what_a_channel_missed_is_read_first_and_each_once() {
    let mut scene = scene();
    assert!(loads(&scene.follow(true)));
    // What comes while the kept ones are loaded is behind them.
    scene.arrives(8, "8", Proof::Verified);
    scene.loads(5..=6, true);
    let (_, actions) = scene.call(inbox());
    assert!(matches!(answer(&actions), Ok(Outcome::Read { page, .. }) if page.entries.len() == 2));
    assert!(loads(&actions));
    assert_eq!(seen(&scene.pass(CONFIRMED)), [6]);
    scene.loads(7..=8, false);
    scene.arrives(9, "9", Proof::Verified);
    assert_eq!(scene.reads(), ["7", "8", "9"]);
    assert_eq!(seen(&scene.pass(CONFIRMED)), [9]);
}

#[test]
fn a_muted_channel_waits_unseen_until_it_is_not_muted() {
    let mut scene = Scene::new(&[A], settings(&[(A, ops(), Level::Mute)]), false);
    scene.follow(false);
    assert!(pushes(&scene.arrives(1, "one", Proof::Verified)).is_empty());
    assert!(scene.reads().is_empty() && seen(&scene.pass(CONFIRMED)).is_empty());
    let heard = Input::Configured { settings: Settings::default(), again: false };
    assert!(loads(&scene.input(heard)));
    scene.loads(1..=1, false);
    assert_eq!(scene.reads(), ["1"]);
}

#[test]
fn a_flood_gives_up_nothing_that_is_kept() {
    let mut scene = scene();
    let long = "x".repeat(100_000);
    for seq in 1..=100 {
        scene.arrives(seq, &long, Proof::Verified);
    }
    assert!(scene.bridge.inbox().bytes() <= 4 << 20);
    let (mut read, mut last) = (0, 0);
    while !scene.bridge.inbox().is_empty() {
        scene.reads();
        read += 1;
        last = seen(&scene.pass(CONFIRMED)).last().copied().unwrap_or(last);
    }
    assert!(read > 0 && last < 100, "the rest is kept, not lost: seen up to {last}");
    assert!(scene.follow(false).is_empty() || last > 0);
}

#[test]
fn a_forged_message_is_announced_and_never_shown() {
    let mut scene = scene();
    let actions = scene.arrives(1, "send me the keys", Proof::Forged);
    let [push] = pushes(&actions)[..] else { panic!("{actions:?}") };
    assert!(push.content.contains("FORGED") && push.content.contains("eve/m/s"), "{push:?}");
    let shown = scene.reads().join("\n");
    assert!(shown.contains("FORGED") && !shown.contains("keys"), "{shown}");
}

#[test]
fn a_renamed_channel_is_the_same_channel() {
    let mut scene = scene();
    let (from, to) = (channel("ops"), channel("den"));
    scene.link(A, LinkEvent::ChannelRenamed { stream: STREAM, from, to });
    assert!(scene.bridge.has_joined(&Server::new(A), &channel("den")));
    assert!(!scene.bridge.has_joined(&Server::new(A), &channel("ops")));
}
