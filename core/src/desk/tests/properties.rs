//! Whatever order things arrive in, what is shown is what the stream holds, and the counts are right once all is answered.

use alloc::collections::BTreeSet;
use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::model::{Held, OPS, Scene, channel, ops};
use crate::desk::timeline::MAX_MESSAGES;
use crate::desk::{Count, Followed, Intent, Kept, Place, Source};

#[derive(Clone, Debug)]
enum Step {
    Post { own: bool, mentions: bool },
    Send,
    Deliver,
    Answer(usize),
    Drop,
    Connect,
    Open,
    Close,
    Look { at: usize, rows: usize, older: bool, newer: bool },
    Newest,
    Go(u64),
    MarkRead,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<(bool, bool)>().prop_map(|(own, mentions)| Step::Post { own, mentions: mentions && !own }),
        2 => Just(Step::Send),
        6 => Just(Step::Deliver),
        6 => (0usize..4).prop_map(Step::Answer),
        1 => Just(Step::Drop),
        2 => Just(Step::Connect),
        2 => Just(Step::Open),
        1 => Just(Step::Close),
        6 => (0usize..40, 0usize..8, any::<bool>(), any::<bool>())
            .prop_map(|(at, rows, older, newer)| Step::Look { at, rows, older, newer }),
        1 => Just(Step::Newest),
        1 => (1u64..60).prop_map(Step::Go),
        1 => Just(Step::MarkRead),
    ]
}

fn held() -> impl Strategy<Value = Vec<Held>> {
    proptest::collection::vec((any::<bool>(), any::<bool>(), 0..4), 0..40).prop_map(|all| {
        (1..)
            .zip(all)
            .map(|(nth, (own, mentions, purged)): (usize, _)| Held {
                own,
                mentions: mentions && !own,
                purged: purged == 0,
                text: nth.to_string(),
            })
            .collect()
    })
}

fn source() -> Source {
    Source::Channel(ops())
}

/// What a reader of the whole stream knows.
struct Truth {
    on_screen: BTreeSet<u64>,
    /// Everything up to here was marked as read.
    marked: u64,
    start: u64,
}

impl Truth {
    fn count(&self, scene: &Scene) -> Count {
        let is_unread = |(seq, held): &(u64, &Held)| {
            *seq > self.marked.max(self.start) && !held.own && !held.purged && !self.on_screen.contains(seq)
        };
        let unread: Vec<_> = (1..).zip(&scene.held).filter(is_unread).collect();
        let mentions = unread.iter().filter(|(_, held)| held.mentions).count();
        Count { unread: unread.len() as u64, mentions: mentions as u64 }
    }

    /// Everything up to here needed no showing, or was shown.
    fn seen(&self, scene: &Scene) -> u64 {
        let fine = |(seq, held): &(u64, &Held)| {
            *seq <= self.start || held.own || held.purged || self.on_screen.contains(seq)
        };
        (1..).zip(&scene.held).take_while(fine).last().map_or(0, |(seq, _)| seq)
    }
}

fn take(scene: &mut Scene, truth: &mut Truth, step: Step) {
    match step {
        Step::Post { own, mentions } => {
            let text = (scene.held.len() + 1).to_string();
            scene.post(own, mentions, &text);
        }
        Step::Send => {
            let text = "sent".to_string();
            scene.send(&text);
        }
        Step::Deliver => scene.deliver(),
        Step::Answer(nth) => scene.answer(nth),
        Step::Drop if scene.up => scene.drop_connection(),
        Step::Connect if !scene.up => scene.connect(),
        Step::Drop | Step::Connect => {}
        Step::Open => scene.want(Intent::Open(channel())),
        Step::Close => scene.want(Intent::Close),
        Step::Look { at, rows, older, newer } => {
            let shown = scene.shown();
            let from = at.min(shown.len());
            let on: Vec<u64> = shown[from..].iter().take(rows).map(|(seq, _)| *seq).collect();
            // What is on the screen is what is open.
            if scene.desk.0.open.is_some() {
                truth.on_screen.extend(on.iter().copied());
            }
            scene.look(&on, older, newer);
        }
        Step::Newest => scene.want(Intent::Newest(channel())),
        Step::Go(seq) => scene.want(Intent::Go(source(), seq)),
        Step::MarkRead => {
            scene.want(Intent::MarkRead(channel()));
            truth.marked = scene.position as u64;
        }
    }
}

/// The window is what the stream holds there: without a hole, but for own messages that are not stored here yet.
fn check_window(scene: &Scene) {
    let mut shown = scene.shown();
    // An own message may be stored before others come that lie before it: it stands at the end until they do.
    shown.retain(|(seq, _)| *seq <= scene.desk.0.rooms[&source()].timeline.as_ref().unwrap().window().1);
    let (Some(first), Some(last)) = (shown.first(), shown.last()) else { return };
    let expected = (1u64..).zip(&scene.held);
    let expected = expected.filter(|(seq, held)| (first.0..=last.0).contains(seq) && !held.purged);
    let mut rest = shown.iter().peekable();
    for (seq, held) in expected {
        match rest.next_if(|(shown, _)| *shown == seq) {
            Some((_, text)) => assert_eq!(*text, held.text),
            None => assert!(held.own, "message {seq} is missing in {shown:?}"),
        }
    }
    assert_eq!(rest.next(), None, "a message that does not exist");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn what_is_shown_is_what_the_stream_holds_and_the_counts_are_right(
        held in held(),
        read in 0u64..40,
        is_new in any::<bool>(),
        steps in proptest::collection::vec(step(), 0..80),
    ) {
        let last = held.len() as u64;
        let read = read.min(last);
        let followed = Followed { stream: OPS, read, given_up: None };
        let kept = if is_new { Kept::default() } else { Kept { channels: [(ops(), followed)].into(), ..Kept::default() } };
        let mut scene = Scene::new(kept, held);
        if is_new {
            scene.settle();
        }
        let start = if is_new { last } else { read };
        let mut truth = Truth { on_screen: BTreeSet::new(), marked: 0, start };
        for step in steps {
            take(&mut scene, &mut truth, step);
            check_window(&scene);
            // It claims no more than was on the screen, at any time.
            let claimed = scene.reports.last().map_or(0, |(_, seen)| *seen);
            prop_assert!(claimed <= truth.seen(&scene), "{claimed} of {}", truth.seen(&scene));
        }
        if !scene.up {
            scene.connect();
        }
        scene.settle();
        check_window(&scene);
        let conversations = scene.desk.conversations();
        let found = conversations.iter().find(|it| it.place == channel()).unwrap();
        prop_assert_eq!(found.count, truth.count(&scene));
        // All of it can be read: from the first message to the last, without a hole.
        scene.want(Intent::Open(channel()));
        scene.want(Intent::Newest(channel()));
        for _ in 0..40 {
            scene.settle();
            let seqs: Vec<u64> = scene.shown().iter().map(|(seq, _)| *seq).collect();
            let on: Vec<u64> = seqs.first().into_iter().chain(seqs.last()).copied().collect();
            truth.on_screen.extend(on.iter().copied());
            scene.look(&on, true, true);
        }
        scene.settle();
        let kept: Vec<(u64, alloc::string::String)> = (1..)
            .zip(&scene.held)
            .filter(|(_, held)| !held.purged)
            .map(|(seq, held)| (seq, held.text.clone()))
            .collect();
        prop_assert_eq!(scene.shown(), kept);
    }

    #[test]
    fn any_text_may_come_in_a_mailbox(texts in proptest::collection::vec(any::<alloc::string::String>(), 1..8)) {
        let mut scene = Scene::new(Kept::default(), Vec::new());
        scene.open_mailbox();
        for (seq, text) in (1..).zip(&texts) {
            scene.mail("bea", seq, text);
        }
        let bea = Place::Person(crate::name::UserName::new("bea").unwrap());
        prop_assert_eq!(scene.desk.view(&bea).entries.len(), texts.len());
    }
}

#[test]
fn memory_is_bounded_however_many_messages_come() {
    let mut scene = Scene::new(Kept::default(), Vec::new());
    scene.settle();
    scene.want(Intent::Open(channel()));
    for nth in 0..50_000_u32 {
        scene.post(false, nth % 100 == 0, "x");
        scene.deliver();
    }
    assert!(scene.desk.held() <= MAX_MESSAGES);
    let count = scene.desk.conversations()[0].count;
    assert_eq!(count, Count { unread: 50_000, mentions: 500 });
    scene.want(Intent::Close);
    assert!(scene.desk.held() <= 100);
}

#[test]
fn a_backlog_is_counted_to_a_thousand_and_no_further() {
    let held = (0..5000).map(|_| Held { own: false, mentions: false, purged: false, text: "x".into() });
    let followed = Followed { stream: OPS, read: 10, given_up: None };
    let mut scene =
        Scene::new(Kept { channels: [(ops(), followed)].into(), ..Kept::default() }, held.collect());
    scene.page_rows = 200;
    scene.settle();
    let conversations = scene.desk.conversations();
    let found = conversations.iter().find(|it| it.place == channel()).unwrap();
    assert!(found.more && (999..1300).contains(&found.count.unread), "{found:?}");
}
