//! What is read of the inbox, in which order, and what of it counts as seen.

use super::*;
use crate::body::{self, Context};
use crate::link::{Place, Proof};
use crate::record::UserId;
use crate::stream::Origin;
use alloc::collections::BTreeMap;
use proptest::prelude::*;

const STREAM: ChannelId = ChannelId(3);
const ME: UserId = UserId(6);
/// Longer than a client takes to cancel.
const CONFIRMED: Duration = Duration::from_millis(500);

/// A bridge, and what its shell keeps of one channel on disk.
struct Shell {
    scene: Scene,
    disk: BTreeMap<u64, Payload>,
    last: u64,
    /// Of which the bridge was told at a restart.
    skipped: Option<u64>,
    seen: Vec<u64>,
    pushed: usize,
    given_up: BTreeSet<u64>,
}

fn quiet_settings(mentions_only: bool) -> Settings {
    let mut settings = settings(&[(A, ops(), Level::Converse)]);
    settings.permissions.attention.insert((Server::new(A), ops()), mentions_only);
    settings
}

fn message(text: &str, mentions: &[UserId]) -> Payload {
    Payload::Body(body::of_content(text, &Context { mentions: mentions.to_vec(), ..Context::default() }))
}

fn of_ops() -> Filter {
    Filter { channel: Some(channel("ops")), ..Filter::default() }
}

impl Shell {
    fn new(mentions_only: bool) -> Self {
        let scene = Scene::new(&[A], quiet_settings(mentions_only), false);
        let mut shell = Self {
            scene,
            disk: BTreeMap::new(),
            last: 0,
            skipped: None,
            seen: Vec::new(),
            pushed: 0,
            given_up: BTreeSet::new(),
        };
        shell.come_up();
        shell
    }

    fn come_up(&mut self) {
        self.event(LinkEvent::Up { path: path("me/m/s"), user: Some(ME), admin: false });
        let (unread, skipped) = (!self.disk.is_empty(), self.skipped);
        self.event(LinkEvent::Followed { channel: Some(channel("ops")), stream: STREAM, unread, skipped });
    }

    fn restart(&mut self, mentions_only: bool) {
        self.scene = Scene::new(&[A], quiet_settings(mentions_only), false);
        self.come_up();
    }

    fn event(&mut self, event: LinkEvent) -> Vec<Action> {
        let actions = self.scene.link(A, event);
        self.carry_out(actions)
    }

    /// Does what a shell does; returns what is left for the client.
    fn carry_out(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let mut left = Vec::new();
        for action in actions {
            match action {
                Action::Seen { seq, .. } => {
                    assert!(self.seen.last() < Some(&seq), "seen only moves forward");
                    assert!(
                        self.skipped.is_none_or(|skipped| seq < skipped),
                        "{seq} behind what was given up"
                    );
                    self.seen.push(seq);
                    self.disk.retain(|it, _| *it > seq);
                }
                Action::Shown { seqs, .. } => self.disk.retain(|it, _| !seqs.contains(it)),
                Action::Skip { from, to, .. } => {
                    self.given_up.extend(self.disk.range(from..=to).map(|(seq, _)| *seq));
                    self.disk.retain(|it, _| *it < from || *it > to);
                    self.skipped = self.skipped.into_iter().chain([from]).min();
                }
                Action::LoadUnread { after, .. } => {
                    let rest: Vec<_> =
                        self.disk.range(after + 1..).map(|(seq, it)| (*seq, it.clone())).collect();
                    let more = rest.len() > 3;
                    let kept = |(seq, payload)| Stamped {
                        from: path("eve/m/s"),
                        ts: UnixMillis(1),
                        payload,
                        seq,
                        origin: Origin::default(),
                    };
                    let messages = rest.into_iter().take(3).map(|it| (kept(it), Proof::Verified)).collect();
                    left.extend(self.event(LinkEvent::Unread { stream: STREAM, after, messages, more }));
                }
                Action::Push(_) => self.pushed += 1,
                other => left.push(other),
            }
        }
        left
    }

    fn arrives(&mut self, payload: Payload) -> u64 {
        self.last += 1;
        let seq = self.last;
        self.disk.insert(seq, payload.clone());
        let place = Some(Place { stream: STREAM, seq, origin: Origin::default(), proof: Proof::Verified });
        let (channel, from, at) = (Some(channel("ops")), path("eve/m/s"), Some(UnixMillis(1)));
        self.event(LinkEvent::Message { channel, from, at, payload, place });
        seq
    }

    fn call(&mut self, call: ToolCall) -> (CallId, Vec<Action>) {
        let (id, actions) = self.scene.call(call);
        (id, self.carry_out(actions))
    }

    /// What a read shows, whole, and what it says in all.
    fn reads(&mut self, filter: Filter) -> (CallId, Vec<u64>, String) {
        let (id, actions) = self.call(ToolCall::Inbox { limit: None, filter });
        let outcome = answer(&actions).unwrap();
        let Outcome::Read { page, .. } = &outcome else { panic!("{outcome:?}") };
        let whole = page.entries.iter().filter(|unread| unread.around().1 == 0);
        let seqs = whole.filter_map(|unread| match &unread.entry {
            Entry::Message(message) => message.place.as_ref().map(|place| place.seq),
            Entry::Notice(_) => None,
        });
        (id, seqs.collect(), outcome.text())
    }

    fn pass(&mut self) {
        let actions = self.scene.pass(CONFIRMED);
        assert_eq!(self.carry_out(actions), []);
    }

    fn marks(&mut self, channel: Option<ChannelName>) -> usize {
        match answer(&self.call(ToolCall::MarkRead { server: None, channel }).1) {
            Ok(Outcome::Marked { count, .. }) => count,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_read_before_older_ones_is_seen_with_them() {
    let mut shell = Shell::new(false);
    shell.arrives(message("one", &[]));
    shell.arrives(message("two", &[ME]));
    let mentions = Filter { mentions_only: true, ..Filter::default() };
    assert_eq!(shell.reads(mentions).1, [2]);
    shell.pass();
    assert_eq!((shell.seen.len(), shell.disk.contains_key(&2)), (0, false), "not seen, and not shown again");
    let of = |from: &str| Filter { from: Some(from.parse().unwrap()), ..Filter::default() };
    assert!(shell.reads(of("bob")).1.is_empty());
    assert_eq!(shell.reads(of("eve/m/s")).1, [1]);
    shell.pass();
    assert_eq!(shell.seen, [2]);
}

#[test]
fn what_is_marked_as_read_is_never_reported_as_seen() {
    let mut shell = Shell::new(false);
    for text in ["one", "two"] {
        shell.arrives(message(text, &[]));
    }
    assert_eq!(shell.reads(Filter::default()).1, [1, 2]);
    shell.pass();
    for text in ["three", "four"] {
        shell.arrives(message(text, &[]));
    }
    assert_eq!(shell.marks(Some(channel("den"))), 0);
    assert_eq!(shell.marks(Some(channel("ops"))), 2);
    assert!(shell.disk.is_empty() && shell.scene.bridge.inbox().is_empty());
    shell.arrives(message("five", &[]));
    assert_eq!(shell.reads(Filter::default()).1, [5]);
    shell.pass();
    assert_eq!(shell.seen, [2]);
    // Nor after a restart.
    shell.restart(false);
    shell.arrives(message("six", &[]));
    assert_eq!(shell.reads(Filter::default()).1, [6]);
    shell.pass();
    assert_eq!(shell.seen, [2]);
    assert!(shell.disk.is_empty());
}

#[test]
fn where_only_mentions_are_shown_the_others_wait_until_they_are_asked_for() {
    let mut shell = Shell::new(true);
    let (_, waits) = shell.call(ToolCall::Wait { timeout: None });
    assert_eq!(waits, []);
    for _ in 0..5 {
        shell.arrives(message("chatter", &[UserId(9)]));
    }
    assert_eq!((shell.pushed, shell.scene.bridge.inbox().len()), (0, 0));
    shell.arrives(message("you", &[ME]));
    assert_eq!(shell.pushed, 1, "it was read by the call that waited");
    let (_, seqs, text) = shell.reads(Filter::default());
    assert!(seqs.is_empty() && text.contains("#ops: 5 unread that do not mention you"), "{text}");
    shell.pass();
    assert!(shell.seen.is_empty());
    // From disk, three at a time.
    assert_eq!(shell.reads(of_ops()).1, [1, 2, 3]);
    assert_eq!(shell.reads(of_ops()).1, [4, 5]);
    shell.pass();
    assert_eq!(shell.seen.last(), Some(&6));
    assert_eq!(shell.reads(of_ops()).2, "Nothing is unread.");
}

#[test]
fn a_restart_knows_what_waits_and_a_human_who_wants_it_all_gets_it() {
    let mut shell = Shell::new(true);
    for n in 0..8 {
        shell.arrives(message("x", if n == 6 { &[ME] } else { &[] }));
    }
    shell.restart(true);
    assert_eq!(shell.reads(Filter::default()).1, [7]);
    assert_eq!(shell.marks(None), 7);
    shell.arrives(message("x", &[]));
    let configured = Input::Configured { settings: quiet_settings(false), again: false };
    let actions = shell.scene.input(configured);
    shell.carry_out(actions);
    assert_eq!(shell.reads(Filter::default()).1, [9]);
}

#[test]
fn what_waits_quietly_is_bounded_and_what_is_given_up_is_told() {
    let mut shell = Shell::new(true);
    let long = "x".repeat(500_000);
    for _ in 0..20 {
        shell.arrives(message(&long, &[]));
    }
    assert!(shell.disk.len() <= 8, "{}", shell.disk.len());
    let text = shell.reads(Filter::default()).2;
    assert!(text.contains("12 messages of #ops on wss://a.example were lost unread"), "{text}");
    for _ in 0..5_000 {
        shell.arrives(message("", &[]));
    }
    assert!(shell.disk.len() <= 4096, "{}", shell.disk.len());
}

#[test]
fn version_1_has_no_mentions_and_its_messages_wait_in_the_inbox() {
    let mut shell = Shell::new(true);
    let actions = shell.scene.hear(A, Some("ops"), "eve/m/s", "hi");
    assert_eq!(shell.carry_out(actions), []);
    assert_eq!(shell.pushed, 0);
    assert!(shell.reads(Filter::default()).2.contains("#ops: 1 unread that do not mention you"));
    assert!(shell.reads(of_ops()).2.contains("\nhi\n"));
}

#[test]
fn of_a_long_message_the_rest_wakes_nobody_and_can_be_passed_over() {
    let mut shell = Shell::new(false);
    shell.arrives(message(&"x".repeat(900_000), &[]));
    shell.arrives(message("URGENT", &[]));
    let (_, seqs, text) = shell.reads(Filter::default());
    assert_eq!(seqs, [2]);
    assert!(text.contains("URGENT") && text.contains("bytes=\"0..16384 of 900000\""));
    assert!(
        text.ends_with("1 more unread: call inbox again.\n#ops: 1 unread."),
        "{}",
        &text[text.len() - 90..]
    );
    assert_eq!(shell.call(ToolCall::Wait { timeout: None }).1, []);
    shell.arrives(message("more", &[]));
    assert!(shell.scene.bridge.inbox().len() == 1, "the call that waited read it");
    let (_, seqs, text) = shell.reads(Filter::default());
    assert!(seqs.is_empty() && text.contains("bytes=\"16384..49152 of 900000\""), "the rest goes on");
    shell.pass();
    assert!(shell.seen.is_empty(), "all of the first was not shown");
    assert_eq!(shell.marks(None), 1);
    assert!(shell.disk.is_empty());
}

#[test]
fn a_read_that_waits_is_answered_whatever_becomes_of_the_channel() {
    let mut shell = Shell::new(true);
    shell.arrives(message("chatter", &[]));
    let (_, actions) = shell.scene.call(ToolCall::Inbox { limit: None, filter: of_ops() });
    assert!(matches!(actions[..], [Action::LoadUnread { after: 0, .. }]), "{actions:?}");
    shell.event(LinkEvent::Lost { channel: channel("ops"), why: "kicked".into() });
    let none = LinkEvent::Unread { stream: STREAM, after: 0, messages: vec![], more: false };
    assert!(matches!(answer(&shell.event(none)), Ok(Outcome::Read { .. })));

    // What is kept no more, or turns out to be forged, is not asked for again and again.
    let mut shell = Shell::new(true);
    shell.arrives(message("gone", &[]));
    shell.arrives(message("chatter", &[]));
    shell.disk.remove(&1);
    assert_eq!(shell.reads(of_ops()).1, [2]);
    shell.arrives(message("altered on disk", &[]));
    let (_, actions) = shell.scene.call(ToolCall::Inbox { limit: None, filter: of_ops() });
    assert!(matches!(actions[..], [Action::LoadUnread { after: 2, .. }]), "{actions:?}");
    let stamped = Stamped {
        from: path("eve/m/s"),
        ts: UnixMillis(1),
        payload: plain("x"),
        seq: 3,
        origin: Origin::default(),
    };
    let messages = vec![(stamped, Proof::Forged)];
    let forged = LinkEvent::Unread { stream: STREAM, after: 2, messages, more: false };
    assert!(
        matches!(answer(&shell.event(forged)), Ok(Outcome::Read { page, .. }) if page.entries.is_empty())
    );
    let actions = shell.scene.input(Input::Configured { settings: quiet_settings(false), again: false });
    assert!(matches!(actions[..], [Action::LoadBindings { .. }]), "{actions:?}");

    // A muted channel is not read.
    let mut shell = Shell::new(true);
    shell.arrives(message("chatter", &[]));
    shell.scene.call(set(Level::Mute));
    assert!(shell.reads(of_ops()).1.is_empty());
}

#[test]
fn whispers_are_not_passed_over() {
    let mut shell = Shell::new(false);
    shell.arrives(message("one", &[]));
    shell.scene.hear(A, None, "eve/m/s", "psst");
    assert_eq!(shell.marks(None), 1);
    assert!(shell.reads(Filter::default()).2.contains("psst"));
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(bool, usize),
    Read(bool, bool),
    Mark,
    Cancel,
    Pass,
    Attention(bool),
    Restart(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0..100_usize, 1 => 30_000..70_000_usize, 1 => 1_000_000..1_200_000_usize];
    prop_oneof![
        8 => (any::<bool>(), size).prop_map(|(mention, size)| Step::Arrive(mention, size)),
        5 => (any::<bool>(), any::<bool>()).prop_map(|(channel, mentions)| Step::Read(channel, mentions)),
        1 => Just(Step::Mark),
        1 => Just(Step::Cancel),
        3 => Just(Step::Pass),
        1 => any::<bool>().prop_map(Step::Attention),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is read in whatever order: nothing is reported as seen that was not shown, nothing is lost but what is
    /// given up, and nothing is shown twice but what nobody confirmed.
    #[test]
    fn seen_means_shown_and_nothing_is_lost(steps in proptest::collection::vec(any_step(), 0..60)) {
        let mut shell = Shell::new(false);
        let mut shown = BTreeSet::new();
        let mut last: Option<(CallId, Vec<u64>)> = None;
        let mut unsure = BTreeSet::new();
        let read = |shell: &mut Shell, filter: Filter, shown: &mut BTreeSet<u64>, unsure: &BTreeSet<u64>| {
            let (id, seqs, _) = shell.reads(filter);
            for seq in &seqs {
                assert!(shown.insert(*seq) || unsure.contains(seq), "{seq} twice");
            }
            (id, seqs)
        };
        for step in steps {
            match step {
                Step::Arrive(mention, size) => {
                    shell.arrives(message(&"x".repeat(size), if mention { &[ME] } else { &[] }));
                }
                Step::Read(named, mentions_only) => {
                    let filter = Filter { mentions_only, ..if named { of_ops() } else { Filter::default() } };
                    last = Some(read(&mut shell, filter, &mut shown, &unsure));
                }
                Step::Mark => {
                    shell.marks(None);
                }
                Step::Cancel => if let Some((id, seqs)) = last.take() {
                    let actions = shell.scene.input(Input::Cancel { id });
                    shell.carry_out(actions);
                    shown.retain(|seq| !seqs.contains(seq) || unsure.contains(seq));
                }
                Step::Pass => {
                    shell.pass();
                    last = None;
                }
                Step::Attention(mentions_only) => {
                    let settings = quiet_settings(mentions_only);
                    let actions = shell.scene.input(Input::Configured { settings, again: false });
                    shell.carry_out(actions);
                }
                Step::Restart(mentions_only) => {
                    shell.restart(mentions_only);
                    unsure.extend(shown.iter().copied().filter(|seq| shell.disk.contains_key(seq)));
                    last = None;
                }
            }
            if let Some(seen) = shell.seen.last() {
                for seq in 1..=*seen {
                    prop_assert!(shown.contains(&seq), "{} was reported as seen, and {} was not shown", seen, seq);
                }
            }
        }
        let actions = shell.scene.input(Input::Configured { settings: quiet_settings(false), again: false });
        shell.carry_out(actions);
        for _ in 0..5_000 {
            shell.pass();
            if shell.disk.is_empty() && shell.scene.bridge.inbox().is_empty() {
                break;
            }
            read(&mut shell, Filter::default(), &mut shown, &unsure);
        }
        for seq in 1..=shell.last {
            prop_assert!(shown.contains(&seq) || shell.given_up.contains(&seq), "{} is lost", seq);
        }
    }
}
