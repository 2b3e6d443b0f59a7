//! One thing at a time.

use alloc::string::ToString as _;
use alloc::vec::Vec;

use super::model::{Held, OPS, Scene, channel, ops, path};
use crate::bridge::{Decision, PermissionRequest};
use crate::desk::{CardState, Entry, Followed, Intent, Keep, Kept, Place, Progress, Source};
use crate::link::{Action, RequestError};
use crate::name::UserName;
use crate::opaque::Opaque;
use crate::protocol::Command;
use crate::stream::{StreamCommand, StreamRef};
use crate::time::UnixMillis;

fn texts(count: usize) -> Vec<Held> {
    (1..=count)
        .map(|nth| Held { own: false, mentions: false, purged: false, text: nth.to_string() })
        .collect()
}

fn since(read: u64) -> Kept {
    let followed = Followed { stream: OPS, read, given_up: None };
    Kept { channels: [(ops(), followed)].into(), ..Kept::default() }
}

#[test]
fn what_was_on_the_screen_is_seen_and_what_was_skipped_is_not() {
    let mut scene = Scene::new(since(0), texts(5));
    scene.want(Intent::Open(channel()));
    scene.settle();
    assert_eq!(scene.reports.last(), Some(&(5, 0)), "it came, and nobody saw it");
    scene.look(&[4, 5], false, false);
    assert_eq!(scene.reports.last(), Some(&(5, 0)), "the ones before were not on the screen");
    scene.look(&[1, 2, 3], false, false);
    assert_eq!(scene.reports.last(), Some(&(5, 5)));
    let read = Keep::Position { stream: OPS, read: 5, seen: 5, given_up: None };
    assert_eq!(scene.keeps.last(), Some(&read));
}

#[test]
fn what_is_marked_as_read_is_not_claimed_to_be_seen() {
    let mut scene = Scene::new(since(2), texts(5));
    scene.want(Intent::MarkRead(channel()));
    assert_eq!(scene.reports.last(), Some(&(5, 2)));
    assert_eq!(scene.desk.conversations()[0].count.unread, 0);
    scene.post(false, false, "6");
    scene.deliver();
    scene.want(Intent::Open(channel()));
    scene.settle();
    scene.look(&[6], false, false);
    assert_eq!(scene.reports.last(), Some(&(6, 2)));
}

#[test]
fn a_conversation_opens_at_the_first_unread_message() {
    let mut scene = Scene::new(since(900), texts(3000));
    scene.page_rows = 200;
    scene.want(Intent::Open(channel()));
    scene.settle();
    let shown = scene.shown();
    assert!(shown[0].0 < 901 && shown.iter().any(|(seq, _)| *seq == 901), "{:?}", shown[0]);
    assert!(!scene.desk.view(&channel()).at_end);
    scene.want(Intent::Newest(channel()));
    scene.settle();
    assert!(scene.desk.view(&channel()).at_end);
    assert_eq!(scene.shown().last().unwrap().0, 3000);
}

#[test]
fn a_message_is_on_the_screen_at_once_and_once_only() {
    let mut scene = Scene::new(since(0), Vec::new());
    scene.want(Intent::Open(channel()));
    scene.settle();
    scene.drop_connection();
    scene.send("hello");
    let progress = |scene: &Scene| {
        let view = scene.desk.view(&channel());
        view.entries
            .iter()
            .filter_map(|it| match it {
                Entry::Outgoing(outgoing) => Some(outgoing.progress.clone()),
                Entry::Message(..) => None,
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(progress(&scene), [Progress::Sending]);
    scene.connect();
    scene.settle();
    assert_eq!(progress(&scene), []);
    assert_eq!(scene.shown(), [(1, "hello".to_string())]);
}

#[test]
fn what_could_not_be_sent_stays_until_it_is_sent_again_or_dropped() {
    let mut scene = Scene::new(since(0), Vec::new());
    scene.settle();
    scene.send("hello");
    let (id, _) = scene.open_requests.pop_back().unwrap();
    scene.tell(Action::Replied { id, result: Err(RequestError::TimedOut) });
    let failed = |scene: &Scene| match &scene.desk.view(&channel()).entries[..] {
        [Entry::Outgoing(outgoing)] => (outgoing.id, outgoing.progress.clone()),
        other => panic!("{other:?}"),
    };
    let (number, progress) = failed(&scene);
    assert!(matches!(progress, Progress::Failed(why) if why.contains("may have happened")));
    scene.want(Intent::Retry(number));
    assert_eq!(failed(&scene).1, Progress::Sending);
    scene.settle();
    assert_eq!(scene.shown(), [(1, "hello".to_string())]);
}

#[test]
fn mentions_are_looked_up_before_the_message_goes_out() {
    let mut scene = Scene::new(since(0), Vec::new());
    scene.settle();
    scene.send("@bea look");
    let kind = |scene: &Scene| scene.open_requests.iter().map(|(_, it)| it.kind()).collect::<Vec<_>>();
    assert_eq!(kind(&scene), ["keys"]);
    scene.settle();
    assert_eq!(scene.shown(), [(1, "@bea look".to_string())]);
}

fn request() -> PermissionRequest {
    let id = "abcde".parse().unwrap();
    PermissionRequest {
        id,
        tool: "Bash".into(),
        description: "Remove it".into(),
        preview: "rm -r x\ny".into(),
    }
}

#[test]
fn a_card_waits_is_answered_and_says_what_the_answer_came_to() {
    let mut scene = Scene::new(Kept::default(), Vec::new());
    scene.open_mailbox();
    scene.mail("agent", 1, &request().card(&path("agent"), UnixMillis(0)));
    let card = scene.desk.cards()[0].clone();
    assert_eq!((card.part("tool"), card.part("input")), (["Bash"].into(), ["rm -r x", "y"].into()));
    scene.settle();
    let (from, id) = (path("agent"), card.id);
    scene.want(Intent::Answer { from: from.clone(), id, allow: true });
    scene.want(Intent::Answer { from, id, allow: false });
    let answers: Vec<_> = scene
        .open_requests
        .iter()
        .filter_map(|(_, command)| match command {
            Command::Whisper { target, payload } => Some((target.clone(), payload.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(answers, [(path("agent"), crate::payload::Payload::Plain("yes abcde".into()))]);
    scene.mail("mallory", 2, &Decision::Unknown.whisper(id));
    assert_eq!(scene.desk.cards()[0].state, CardState::Answering { allow: true });
    scene.mail("agent", 3, &Decision::Accepted.whisper(id));
    assert_eq!(scene.desk.cards()[0].state, CardState::Decided(Decision::Accepted));
}

#[test]
fn people_are_counted_apart() {
    let mut scene = Scene::new(Kept::default(), Vec::new());
    scene.open_mailbox();
    for (seq, from) in (1..).zip(["bea", "bob", "bea"]) {
        scene.mail(from, seq, "psst");
    }
    let unread = |scene: &Scene, user: &str| {
        let place = Place::Person(UserName::new(user).unwrap());
        scene.desk.conversations().iter().find(|it| it.place == place).unwrap().count.unread
    };
    assert_eq!((unread(&scene, "bea"), unread(&scene, "bob")), (2, 1));
    scene.want(Intent::Open(Place::Person(UserName::new("bea").unwrap())));
    let shown = [1, 3].map(|seq| (Source::Mailbox(crate::link::OwnMailbox::User), seq));
    scene.want(Intent::Look(crate::desk::Look { shown: shown.into(), older: false, newer: false }));
    assert_eq!((unread(&scene, "bea"), unread(&scene, "bob")), (0, 1));
}

#[test]
fn words_are_found_page_by_page() {
    let mut held = texts(60);
    held[4].text = "The Build is green".into();
    let mut scene = Scene::new(since(60), held);
    scene.settle();
    let words = Opaque("build GREEN".to_string());
    scene.want(Intent::Search { place: channel(), words });
    scene.settle();
    let search = scene.desk.search().unwrap();
    assert!(search.is_done && search.read == 60);
    assert_eq!(search.hits.iter().map(|(_, it)| it.seq).collect::<Vec<_>>(), [5]);
}

#[test]
fn receipts_are_asked_for_what_is_on_the_screen() {
    let mut held = texts(3);
    held[0].own = true;
    held[2].own = true;
    let mut scene = Scene::new(since(0), held);
    scene.want(Intent::Open(channel()));
    scene.settle();
    scene.look(&[2, 3], false, false);
    let asked: Vec<_> = scene
        .open_requests
        .iter()
        .filter_map(|(_, command)| match command {
            Command::Stream(StreamCommand::Receipts { stream: StreamRef::Number(OPS), seq }) => Some(*seq),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [3]);
}
