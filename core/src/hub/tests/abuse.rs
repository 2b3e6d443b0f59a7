//! Limits: each is met, says so, and the session lives on.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::world::{World, is_refused, proven};
use crate::handshake::{Format, Terms};
use crate::hub::{ConnId, Limits, Rate};
use crate::name::ChannelName;
use crate::protocol::Command;
use crate::stream::{Start, StreamCommand, StreamRef};

fn bounded(change: impl FnOnce(&mut Limits)) -> World {
    World::with(|limits| {
        *limits = core::mem::take(limits).without_rates();
        change(limits);
    })
}

/// The milliseconds that a refusal says to wait.
fn wait(answer: &str) -> Option<u64> {
    answer.strip_prefix("Unauthorized: rate limit: try again in ")?.strip_suffix(" ms")?.parse().ok()
}

/// Asks until it is refused for its rate; says how often it was not.
fn exhaust(world: &mut World, conn: ConnId, request: &str) -> (usize, u64) {
    for passed in 0..1_000 {
        if let Some(wait) = wait(&world.ask(conn, request)) {
            return (passed, wait);
        }
    }
    panic!("'{request}' is never refused");
}

fn talkers(change: impl FnOnce(&mut Limits)) -> (World, ConnId, ConnId) {
    let mut world = bounded(change);
    let ann = world.register("ann");
    let bob = world.register("bob");
    world.must(ann, "create public c");
    world.must(ann, "join c");
    world.must(bob, "join c");
    (world, ann, bob)
}

#[test]
fn each_rate_is_kept_and_says_when_to_try_again() {
    type Pick = fn(&mut Limits) -> &mut Rate;
    let rates: [(Pick, &str); 8] = [
        (|limits| &mut limits.session.posts, "post c x"),
        (|limits| &mut limits.session.whispers, "whisper bob/m/s x"),
        (|limits| &mut limits.session.bytes, "post c 1"),
        (|limits| &mut limits.session.control, "machines"),
        (|limits| &mut limits.user.posts, "post c x"),
        (|limits| &mut limits.user.whispers, "whisper bob/m/s x"),
        (|limits| &mut limits.user.bytes, "whisper bob/m/s x"),
        (|limits| &mut limits.user.control, "machines"),
    ];
    for (nth, (rate, request)) in rates.into_iter().enumerate() {
        let (mut world, ann, bob) = talkers(|limits| *rate(limits) = Rate::new(2, 10));
        let used = usize::from(request == "machines") * 2;
        let (passed, ms) = exhaust(&mut world, ann, request);
        assert_eq!((passed, ms), (10 - used, 500), "rate {nth}");
        assert!(world.lives(ann));
        assert_eq!(world.must(ann, "ping"), "pong", "a ping is free");
        assert!(!is_refused(&world.ask(bob, request)) || request.contains("bob"), "others are not concerned");
        world.pass(Duration::from_millis(ms));
        world.must(ann, request);
    }
}

#[test]
fn a_users_sessions_share_the_users_rate() {
    let (mut world, ann, _) = talkers(|limits| limits.user.posts = Rate::new(1, 4));
    let other = world.open("ann/m/other");
    world.must(other, "join c");
    for conn in [ann, other, ann, other] {
        world.must(conn, "post c x");
    }
    assert!(wait(&world.ask(other, "post c x")).is_some());
}

#[test]
fn a_reconnect_does_not_refill_the_users_rate() {
    let (mut world, ann, _) = talkers(|limits| limits.user.posts = Rate::new(1, 100));
    exhaust(&mut world, ann, "post c x");
    world.close(ann);
    let ann = world.open("ann/m/s");
    world.must(ann, "join c");
    assert!(wait(&world.ask(ann, "post c x")).is_some());
    world.close(ann);
    world.pass(Duration::from_secs(30));
    let ann = world.open("ann/m/s");
    world.must(ann, "join c");
    assert_eq!(exhaust(&mut world, ann, "post c x").0, 30);
    world.close(ann);
    // Nobody is here, and the deadlines come: what is not full is not forgotten.
    world.pass(Duration::from_secs(61));
    world.handle(crate::hub::Input::Tick);
    let ann = world.open("ann/m/s");
    world.must(ann, "join c");
    assert_eq!(exhaust(&mut world, ann, "post c x").0, 61);
}

#[test]
fn a_refused_request_takes_nothing_and_waiting_as_told_is_enough() {
    let (mut world, ann, _) = talkers(|limits| {
        limits.session.posts = Rate::new(3, 3);
        limits.session.bytes = Rate::new(7, 20);
        limits.user.bytes = Rate::new(5, 30);
    });
    let post = format!("post c {}", "x".repeat(13));
    for _ in 0..20 {
        let mut told = None;
        while let Some(ms) = wait(&world.ask(ann, &post)) {
            // Asking again and again makes nobody wait longer.
            assert!(told.is_none_or(|before| ms <= before));
            told = Some(ms);
            if world.now.mono.0 % 2 == 0 {
                world.pass(Duration::from_millis(ms));
                world.must(ann, "ping");
                world.must(ann, &post);
                break;
            }
            world.pass(Duration::from_millis(1));
        }
    }
}

#[test]
fn answers_cost_their_bytes() {
    for limited in ["session", "user"] {
        let (mut world, ann, bob) = talkers(|limits| {
            let rates = if limited == "session" { &mut limits.session } else { &mut limits.user };
            rates.replies = Rate::new(1_000, 5_000);
        });
        for nth in 0..100 {
            world.must(ann, &format!("create public c{nth}"));
        }
        for _ in 0..10 {
            world.must(ann, &format!("post c {}", "x".repeat(900)));
        }
        // Each list is some 4,900 bytes with what was looked at, each page some 10,000.
        assert_eq!(exhaust(&mut world, ann, "channels").0, 2, "{limited}");
        let ms = wait(&world.ask(ann, "read c")).unwrap();
        assert!((4_000..5_500).contains(&ms), "{ms}");
        world.must(ann, "post c still");
        world.must(ann, "create public another");
        world.must(bob, "channels");
        world.pass(Duration::from_millis(ms));
        world.must(ann, "read c");
        assert!(wait(&world.ask(ann, "who")).is_some());
        assert!(world.lives(ann));
    }
}

#[test]
fn what_a_subscription_catches_up_with_costs_its_bytes() {
    let (mut world, ann, _) = talkers(|limits| limits.user.replies = Rate::new(1_000, 5_000));
    for _ in 0..10 {
        world.must(ann, &format!("post c {}", "x".repeat(900)));
    }
    let reader = {
        let mut proven = proven("bob", "m", "v2", false);
        proven.terms = Terms { format: Format::V2, keep: false };
        world.connect(proven)
    };
    let from_start = || {
        Command::Stream(StreamCommand::Subscribe {
            stream: StreamRef::Channel(ChannelName::new("c").unwrap()),
            from: Start::After(0),
            invite: None,
        })
    };
    world.submit_command(reader, from_start());
    world.settle();
    let again = world.submit_command(reader, from_start());
    assert!(wait(&world.reply(reader, again).unwrap()).is_some());
}

#[test]
fn posts_that_are_refused_for_another_reason_count_too() {
    let (mut world, ann, _) = talkers(|limits| limits.session.posts = Rate::new(1, 5));
    assert_eq!(exhaust(&mut world, ann, "post no-such x").0, 5);
}

/// Does `request` until it is refused with a bound; says how often it was granted.
fn fill(world: &mut World, conn: ConnId, request: impl Fn(usize) -> String) -> usize {
    for nth in 0..100 {
        let answer = world.ask(conn, &request(nth));
        if is_refused(&answer) {
            assert!(answer.starts_with("Unauthorized: at most"), "{answer}");
            assert!(answer.ends_with("remove one first"), "{answer}");
            return nth;
        }
    }
    panic!("there is no bound");
}

#[test]
fn channels_of_a_user_are_bounded() {
    let mut world = bounded(|limits| limits.channels_per_user = 3);
    let ann = world.register("ann");
    assert_eq!(fill(&mut world, ann, |nth| format!("create public c{nth}")), 3);
    world.must(ann, "delete c1");
    world.must(ann, "create public again");
}

#[test]
fn members_of_a_channel_are_bounded_also_for_invites() {
    let mut world = bounded(|limits| limits.members_per_channel = 3);
    let conns = ["ann", "b0", "b1", "b2"].map(|user| world.register(user));
    world.must(conns[0], "create private c");
    assert_eq!(fill(&mut world, conns[0], |nth| format!("add c b{nth}")), 2);
    let token = world.must(conns[0], "invite c");
    assert!(world.ask(conns[3], &format!("join c {token}")).starts_with("Unauthorized: at most 3 members"));
    assert_eq!(world.must(conns[0], "invites c"), format!("invites {token}"));
}

#[test]
fn bans_of_a_channel_are_bounded() {
    let mut world = bounded(|limits| limits.bans_per_channel = 2);
    let conns = ["ann", "b0", "b1", "b2"].map(|user| world.register(user));
    world.must(conns[0], "create public c");
    assert_eq!(fill(&mut world, conns[0], |nth| format!("ban c b{nth}")), 2);
}

#[test]
fn invites_to_a_channel_are_bounded_and_expired_ones_make_room() {
    let mut world = bounded(|limits| limits.invites_per_channel = 3);
    let ann = world.register("ann");
    world.must(ann, "create private c");
    world.must(ann, "invite c - 5");
    assert_eq!(fill(&mut world, ann, |_| "invite c".into()), 2);
    world.pass(Duration::from_secs(5));
    world.must(ann, "invite c");
    assert!(is_refused(&world.ask(ann, "invite c")));
}

#[test]
fn machines_of_a_user_are_bounded() {
    let mut world = bounded(|limits| limits.machines_per_user = 3);
    let ann = world.register("ann");
    assert_eq!(fill(&mut world, ann, |nth| format!("enrol m{nth} of ann")), 2);
}

#[test]
fn users_are_bounded_but_for_named_admins_and_nobody_who_is_there_is_kept_out() {
    let mut world = bounded(|limits| limits.users = 2);
    world.register("ann");
    world.register("bob");
    let carl = world.connect(proven("carl", "m", "s", true));
    world.settle();
    assert!(world.closed(carl).unwrap().starts_with("Unauthorized: no more users can register here"));
    world.open("ann/m/t");
    world.register("root");
}

#[test]
fn subscriptions_of_a_session_are_bounded_also_for_invites() {
    let mut world = bounded(|limits| limits.subscriptions_per_session = 2);
    let (ann, bob) = (world.register("ann"), world.register("bob"));
    for channel in ["c0", "c1", "c2"] {
        world.must(ann, &format!("create public {channel}"));
    }
    world.must(ann, "create private den");
    let token = world.must(ann, "invite den 1");
    assert_eq!(fill(&mut world, bob, |nth| format!("join c{nth}")), 2);
    assert!(is_refused(&world.ask(bob, &format!("join den {token}"))));
    assert_eq!(world.must(ann, "invites den"), format!("invites {token}x1"), "the use is not lost");
    world.must(bob, "join c0");
    world.must(bob, "leave c0");
    world.must(bob, "join c2");
}

#[test]
fn sessions_of_a_user_are_bounded_and_a_superseded_one_makes_room() {
    let mut world = bounded(|limits| limits.sessions_per_user = 2);
    let first = world.register("ann");
    world.open("ann/m/t");
    let third = world.connect(proven("ann", "m", "u", false));
    assert!(world.closed(third).unwrap().starts_with("Unauthorized: at most 2 live sessions"));
    world.open("ann/m/s");
    assert!(!world.lives(first));
    assert_eq!(world.hub.sessions().count(), 2);
}

#[test]
fn sessions_of_all_are_bounded_and_some_are_left_for_who_comes_later() {
    let mut world = bounded(|limits| limits.sessions = 20);
    world.register("ann");
    for nth in 0..15 {
        world.connect(proven("ann", "m", &format!("t{nth}"), false));
    }
    assert_eq!(world.hub.sessions().count(), 10);
    let bob = world.register("bob");
    assert!(world.lives(bob));
}

#[test]
fn bounds_hold_for_changes_that_wait() {
    let mut world = bounded(|limits| limits.channels_per_user = 2);
    let ann = world.register("ann");
    let requests: [_; 4] = core::array::from_fn(|nth| world.submit(ann, &format!("create public c{nth}")));
    world.settle();
    let granted = requests.iter().filter(|id| !is_refused(&world.reply(ann, **id).unwrap())).count();
    assert_eq!((granted, world.stored.channel_count()), (2, 2));
}

#[test]
fn a_commit_holds_a_bounded_number_of_posts_and_bytes() {
    let (mut world, ann, bob) = talkers(|limits| {
        limits.batch_posts = 3;
        limits.batch_bytes = 100;
    });
    let long = "y".repeat(150);
    for text in ["a", "b", "c", "d", &long, "e", &long] {
        world.submit(ann, &format!("post c {text}"));
    }
    world.submit(bob, "create public later");
    let mut batches = alloc::vec::Vec::new();
    while world.seal() {
        batches.push(world.in_flight.as_ref().unwrap().1.len());
        world.persist();
    }
    assert_eq!(
        batches,
        [3, 1, 1, 1, 4],
        "posts, one that is too large for company, the change and its entry of the trail with the last"
    );
    assert_eq!(world.received(bob).len(), 7);
}
