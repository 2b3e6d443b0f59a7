//! Token buckets: who is too fast is told when to try again, and nobody else notices.

use std::time::Instant;

use conclave_core::hub::{Limits, Rate};
use conclave_core::wire::v1::{AdminOp, Frame, Path, ProtocolError, Visibility};

use super::{Options, ServerShell, Test, World, list};
use crate::client::{PATIENCE, Peer, key, post, show, whisper, why};

pub(super) fn tests<S: ServerShell>() -> Vec<Test> {
    list!["rates":
        posts_of_a_session_have_a_rate,
        whispers_of_a_session_have_a_rate,
        control_requests_of_a_session_have_a_rate,
        bytes_of_a_session_have_a_rate,
        a_users_sessions_share_a_rate,
        a_reconnect_does_not_refill,
        pings_cost_nothing,
        a_busy_agent_never_meets_a_default,
        an_address_that_fails_to_authenticate_registers_nobody_and_known_keys_come_in,
    ]
}

/// One a second, three at once.
const SLOW: Rate = Rate::new(1, 3);

/// Milliseconds that a refusal says to wait; `None` for what was not refused.
fn wait(reply: &Frame<'_>) -> Option<u64> {
    let Frame::Error(error) = reply else { return None };
    assert!(matches!(error, ProtocolError::Unauthorized(_)), "{error:?}");
    let told = why(error).strip_prefix("rate limit: try again in ").unwrap();
    Some(told.strip_suffix(" ms").unwrap().parse().unwrap())
}

/// Checks that a burst of three passes, then refusals say when to come back, then the session goes on.
fn is_slowed(peer: &mut Peer, frame: &Frame<'_>) {
    (0..20).for_each(|_| peer.send(frame));
    let waits: Vec<Option<u64>> = (0..20).map(|_| wait(&peer.reply())).collect();
    assert!(waits[..3].iter().all(Option::is_none), "{waits:?}");
    let told: Vec<u64> = waits.iter().copied().flatten().collect();
    assert!(!told.is_empty() && told.iter().all(|ms| (1..=1000).contains(ms)), "{waits:?}");
    passes(peer, frame);
}

/// Tries until the bucket has what it takes.
fn passes(peer: &mut Peer, frame: &Frame<'_>) {
    let start = Instant::now();
    while wait(&peer.ask(frame)).is_some() {
        assert!(start.elapsed() < PATIENCE, "refused for ever");
    }
}

fn limited(change: impl FnOnce(&mut Limits)) -> impl FnOnce(&mut Options) {
    |options| change(&mut options.hub.limits)
}

fn posts_of_a_session_have_a_rate<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| limits.session.posts = SLOW));
    let (mut ann, mut bob) = (world.register("ann"), world.register("bob"));
    ann.create("c", Visibility::Public);
    is_slowed(&mut ann, &post("c", "text"));
    // Another session is not slowed, not even of the same user.
    for mut other in [world.connect("ann", "t"), world.connect("bob", "t")] {
        other.join("c");
        (0..3).for_each(|_| other.post("c", "other"));
    }
    bob.join("c");
    let kept = bob.history("c").len();
    ann.ask(&Frame::Ping);
    assert!((10..30).contains(&kept), "{kept}");
}

fn whispers_of_a_session_have_a_rate<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| limits.session.whispers = SLOW));
    let (mut ann, _bob) = (world.register("ann"), world.register("bob"));
    is_slowed(&mut ann, &whisper(Path { user: "bob", machine: "m", session: "s" }, "text"));
}

fn control_requests_of_a_session_have_a_rate<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| limits.session.control = SLOW));
    let mut ann = world.register("ann");
    is_slowed(&mut ann, &Frame::ListChannels);
    passes(&mut ann, &Frame::Admin(AdminOp::CreateChannel { name: "c", visibility: Visibility::Public }));
    passes(&mut ann, &Frame::Join { channel: "c", token: None });
    (0..10).for_each(|_| ann.post("c", "posts have a rate of their own"));
}

fn bytes_of_a_session_have_a_rate<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| limits.session.bytes = Rate::new(10_000, 30_000)));
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    is_slowed(&mut ann, &post("c", &"x".repeat(9_000)));
    // More than a full bucket holds is not refused for ever.
    let big = "x".repeat(40_000);
    passes(&mut ann, &post("c", &big));
    assert_eq!(ann.history("c").last().map(|last| crate::client::text(&last.payload)), Some(&*big));
}

fn a_users_sessions_share_a_rate<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| limits.user.posts = Rate::new(1, 4)));
    let mut sessions = [world.register("ann"), world.connect("ann", "t"), world.connect("ann", "u")];
    sessions[0].create("c", Visibility::Public);
    sessions.iter_mut().for_each(|session| session.join("c"));
    let start = Instant::now();
    let mut accepted = 0;
    for session in &mut sessions {
        (0..10).for_each(|_| session.send(&post("c", "text")));
    }
    for session in &mut sessions {
        accepted += (0..10).filter(|_| wait(&session.reply()).is_none()).count() as u64;
    }
    assert!(accepted >= 4 && accepted <= 5 + start.elapsed().as_secs(), "{accepted}");
    let mut bob = world.register("bob");
    bob.join("c");
    (0..4).for_each(|_| bob.post("c", "text"));
}

fn a_reconnect_does_not_refill<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| limits.user.posts = Rate::new(1, 20)));
    let start = Instant::now();
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let mut accepted = 0;
    for nth in 0..3 {
        (0..20).for_each(|_| ann.send(&post("c", "text")));
        accepted += (0..20).filter(|_| wait(&ann.reply()).is_none()).count() as u64;
        ann = world.connect("ann", &nth.to_string());
        ann.join("c");
    }
    assert!(accepted >= 20 && accepted <= 21 + start.elapsed().as_secs(), "{accepted}");
}

fn pings_cost_nothing<S: ServerShell>() {
    let world = World::<S>::with(limited(|limits| {
        limits.session.control = SLOW;
        limits.user.control = SLOW;
    }));
    let mut ann = world.register("ann");
    assert!((0..200).all(|_| ann.is_alive()));
}

fn a_busy_agent_never_meets_a_default<S: ServerShell>() {
    let world = World::<S>::with(|options| options.hub.limits = Limits::default());
    let mut ann = world.register("ann");
    ann.create("c", Visibility::Public);
    let text = "x".repeat(2_000);
    let frames =
        [post("c", &text), Frame::Who { channel: None }, Frame::ReadSince { channel: "c", since_ms: 0 }];
    for frame in &frames {
        (0..200).for_each(|_| ann.send(frame));
        for _ in 0..200 {
            let reply = ann.reply();
            assert!(!matches!(reply, Frame::Error(_)), "{}", show(&reply));
        }
    }
}

fn an_address_that_fails_to_authenticate_registers_nobody_and_known_keys_come_in<S: ServerShell>() {
    let world = World::<S>::with(|options| options.admission.failures = Rate::new(1, 3));
    let mut ann = world.register("ann");
    let fail = || {
        let mut peer = Peer::dial(world.address());
        peer.hello("s");
        assert!(matches!(peer.authenticate(&key("nobody")), Err(ProtocolError::Unauthorized(_))));
    };
    (0..30).for_each(|_| fail());
    // Who is in stays in, and whoever is known comes in.
    assert!(ann.is_alive());
    drop(world.connect("ann", "t"));
    fail();
    let mut new = Peer::dial(world.address());
    new.hello("s");
    let error = new.prove("new", "m", &key("new")).unwrap_err();
    assert!(why(&error).starts_with("too many registrations"), "{error:?}");
    world.until_metric("conclave_not_admitted_total{reason=\"registrations\"}", |count| count >= 1.0);
}
