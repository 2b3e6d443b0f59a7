//! Sealed channels: epochs, removals that are due, key packages, welcomes, rosters.

use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::streams::{ask, c, join_v2, start, told};
use super::world::{World, proven};
use crate::body::{self, Commit};
use crate::handshake::{Format, Terms};
use crate::hub::ConnId;
use crate::name::{ChannelName, UserName};
use crate::opaque::Opaque;
use crate::payload::Payload;
use crate::protocol::{Admin, Command, Limit, Refusal, Reply, Visibility};
use crate::record::{ChannelId, MachineId, Record, Stamp, UserId};
use crate::sealed::{
    GroupState, GroupWelcome, KeyPackage, NewGroup, RosterEntry, SealedCommand, SealedReply, WaitingWelcome,
};
use crate::stream::{MessageId, Signed, Start, StreamCommand, StreamReply};

pub(super) const C: ChannelId = ChannelId(0);

pub(super) fn blob(text: &str) -> Opaque<bytes::Bytes> {
    Opaque(bytes::Bytes::copy_from_slice(text.as_bytes()))
}

pub(super) fn create(visibility: Visibility) -> Command {
    let group = NewGroup::new(3, "group".into()).unwrap();
    Command::Admin(Admin::CreateSealedChannel { name: ChannelName::new("c").unwrap(), visibility, group })
}

/// A world with the sealed channel `c`, made by `ann`, who is in it with machine 0.
fn world() -> (World, ConnId) {
    with(World::new(), Visibility::Private)
}

fn with(mut world: World, visibility: Visibility) -> (World, ConnId) {
    let ann = join_v2(&mut world, "ann", false);
    let request = world.submit_command(ann, create(visibility));
    world.settle();
    assert!(matches!(world.raw_reply(ann, request), Some(Reply::Done(_))));
    subscribe(&mut world, ann);
    (world, ann)
}

fn subscribe(world: &mut World, conn: ConnId) -> Reply {
    ask(world, conn, StreamCommand::Subscribe { stream: c(), from: Start::Latest, invite: None })
}

/// A user who is added by `ann` and is subscribed, but not in the group yet.
fn member(world: &mut World, ann: ConnId, name: &str) -> ConnId {
    let conn = join_v2(world, name, false);
    world.must(ann, &alloc::format!("add c {name}"));
    assert!(matches!(subscribe(world, conn), Reply::Stream(StreamReply::Subscribed { .. })));
    conn
}

pub(super) fn signed(id: u8) -> Arc<Signed> {
    Signed { id: MessageId([id; 16]), signature: Opaque([id; 64]), acknowledge: false }.into()
}

pub(super) fn committing(id: u8, commit: &Commit<'_>, welcomed: &[u64]) -> StreamCommand {
    let welcome = blob("welcome");
    StreamCommand::Sealed(SealedCommand::Commit {
        stream: c(),
        body: Payload::Body(body::of_commit(commit)),
        signed: signed(id),
        group_info: blob(&alloc::format!("info of {}", commit.epoch + 1)),
        welcomes: vec![GroupWelcome { machines: welcomed.iter().copied().map(MachineId).collect(), welcome }],
    })
}

pub(super) fn change<'a>(epoch: u64, adds: &[u64], removes: &[u64]) -> Commit<'a> {
    let ids = |ids: &[u64]| ids.iter().copied().map(MachineId).collect();
    Commit { epoch, commit: b"commit", adds: ids(adds), removes: ids(removes), external: false }
}

fn commit(world: &mut World, conn: ConnId, id: u8, commit: &Commit<'_>) -> Result<u64, Refusal> {
    let adds: Vec<u64> = commit.adds.iter().map(|machine| machine.0).collect();
    let welcomed = if commit.external { &[][..] } else { &adds };
    committed(ask(world, conn, committing(id, commit, welcomed)))
}

fn committed(reply: Reply) -> Result<u64, Refusal> {
    match reply {
        Reply::Stream(StreamReply::Sealed(reply)) => match *reply {
            SealedReply::Committed { epoch, .. } => Ok(epoch),
            other => panic!("{other:?}"),
        },
        Reply::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

pub(super) fn sealed(id: u8, epoch: u64) -> StreamCommand {
    let payload = Payload::Body(body::of_sealed(b"ciphertext", epoch));
    StreamCommand::Post { stream: c(), payload, signed: signed(id), lifetime: None }
}

fn post(world: &mut World, conn: ConnId, id: u8, epoch: u64) -> Result<u64, Refusal> {
    posted(ask(world, conn, sealed(id, epoch)))
}

fn posted(reply: Reply) -> Result<u64, Refusal> {
    match reply {
        Reply::Stream(StreamReply::Stored { stamp, .. }) => Ok(stamp.seq),
        Reply::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn asked(world: &mut World, conn: ConnId, command: SealedCommand) -> Result<SealedReply, Refusal> {
    match ask(world, conn, StreamCommand::Sealed(command)) {
        Reply::Stream(StreamReply::Sealed(reply)) => Ok(*reply),
        Reply::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn group(world: &mut World, conn: ConnId) -> GroupState {
    match asked(world, conn, SealedCommand::Group { stream: c() }) {
        Ok(SealedReply::Group(group)) => group,
        other => panic!("{other:?}"),
    }
}

fn put(
    world: &mut World,
    conn: ConnId,
    packages: &[&str],
    last: Option<&str>,
) -> Result<SealedReply, Refusal> {
    let packages = packages.iter().map(|text| blob(text)).collect();
    asked(world, conn, SealedCommand::PutKeyPackages { packages, last_resort: last.map(blob) })
}

fn take(world: &mut World, conn: ConnId, users: &[u64]) -> Result<Vec<(u64, String, bool)>, Refusal> {
    let users = users.iter().copied().map(UserId).collect();
    let command = SealedCommand::TakeKeyPackages { stream: c(), users, machines: Vec::new() };
    asked(world, conn, command).map(taken)
}

fn taken(reply: SealedReply) -> Vec<(u64, String, bool)> {
    let SealedReply::KeyPackages(packages) = reply else { panic!("{reply:?}") };
    let text = |one: &KeyPackage| {
        let package = one.package.clone().unwrap_or_default();
        String::from_utf8(package.to_vec()).unwrap()
    };
    packages.iter().map(|one| (one.machine.0, text(one), one.last_resort)).collect()
}

#[test]
fn a_group_begins_with_the_machine_that_made_it_and_each_commit_begins_an_epoch() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    let state = group(&mut world, ann);
    assert_eq!((state.suite, state.epoch, state.machines), (3, 0, vec![MachineId(0)]));
    assert_eq!((state.removals, state.additions), (vec![], vec![MachineId(1)]));
    assert_eq!(post(&mut world, ann, 1, 0), Ok(1));
    assert_eq!(post(&mut world, bea, 1, 0), Err(Refusal::NotInGroup));
    told(&mut world, bea);
    assert_eq!(commit(&mut world, ann, 2, &change(0, &[1], &[])), Ok(1));
    let heard = told(&mut world, bea);
    assert!(heard.contains(&"WelcomeWaits { stream: ChannelId(0) }".into()), "{heard:?}");
    let state = group(&mut world, bea);
    assert_eq!((state.epoch, &state.info), (1, &blob("info of 1")));
    assert_eq!((state.machines.len(), state.additions.len()), (2, 0));
    assert_eq!(post(&mut world, bea, 3, 1), Ok(3));
    assert_eq!(world.stamps(C).iter().map(|stamp| stamp.seq).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(*world.restart().hub.directory(), world.stored);
}

#[test]
fn what_was_made_in_another_epoch_is_refused_with_the_current_one() {
    let (mut world, ann) = world();
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[], &[])), Ok(1));
    let refused = Err(Refusal::WrongEpoch { current: 1 });
    assert_eq!(commit(&mut world, ann, 2, &change(0, &[], &[])), refused);
    assert_eq!(commit(&mut world, ann, 3, &change(2, &[], &[])), refused);
    assert_eq!(post(&mut world, ann, 4, 0), refused);
    // Sealed anew under the same id, it is the first time that it is stored.
    assert_eq!(post(&mut world, ann, 4, 1), Ok(2));
    let readable = super::streams::post(5, "hi");
    assert_eq!(posted(ask(&mut world, ann, readable)), Err(Refusal::NotSealed));
}

#[test]
fn of_commits_that_race_one_wins_and_a_post_behind_it_waits_for_it() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    let first = start(&mut world, ann, committing(2, &change(1, &[], &[]), &[]));
    let second = start(&mut world, bea, committing(3, &change(1, &[], &[]), &[]));
    let late = start(&mut world, bea, sealed(4, 1));
    world.settle();
    let answers =
        [(ann, first), (bea, second)].map(|(conn, request)| world.raw_reply(conn, request).unwrap());
    let [won, lost] = answers.map(committed);
    assert_eq!((won, lost), (Ok(2), Err(Refusal::WrongEpoch { current: 2 })));
    assert_eq!(posted(world.raw_reply(bea, late).unwrap()), Err(Refusal::WrongEpoch { current: 2 }));
}

#[test]
fn a_commit_that_is_sent_again_gets_the_same_answer_and_one_that_failed_leaves_nothing() {
    let (mut world, ann) = world();
    let commit = committing(1, &change(0, &[], &[]), &[]);
    let failed = start(&mut world, ann, commit.clone());
    world.seal();
    world.fail();
    world.settle();
    assert!(matches!(committed(world.raw_reply(ann, failed).unwrap()), Err(Refusal::NotStored { .. })));
    assert_eq!(group(&mut world, ann).epoch, 0);
    let first = ask(&mut world, ann, commit.clone());
    assert_eq!(ask(&mut world, ann, commit.clone()), first);
    assert_eq!(committed(first), Ok(1));
    assert_eq!(world.stamps(C).len(), 1);
    // After a restart as well.
    let mut world = world.restart();
    let mut again = proven("ann", "m", "s", false);
    again.terms = Terms { format: Format::V2, keep: false };
    let ann = world.connect(again);
    world.settle();
    subscribe(&mut world, ann);
    assert_eq!(committed(ask(&mut world, ann, commit)), Ok(1));
}

#[test]
fn a_commit_under_the_id_of_a_message_is_refused() {
    let (mut world, ann) = world();
    assert_eq!(post(&mut world, ann, 1, 0), Ok(1));
    let unfit = Err(Refusal::CommitUnfit("its message id is that of a message"));
    let request = start(&mut world, ann, committing(1, &change(0, &[], &[]), &[]));
    let other = world.submit(ann, "create public d");
    world.seal();
    // The store finds the message that it has, at the commit's place in the batch.
    world.already_stored(&[(0, Stamp { seq: 1, ts: world.now.wall })]);
    world.settle();
    assert_eq!(committed(world.raw_reply(ann, request).unwrap()), unfit);
    assert_eq!(world.reply(ann, other), Some("done d".into()));
    // A message of this id that is not stored yet.
    let first = start(&mut world, ann, sealed(2, 0));
    let second = start(&mut world, ann, committing(2, &change(0, &[], &[]), &[]));
    world.settle();
    assert_eq!(posted(world.raw_reply(ann, first).unwrap()), Ok(2));
    assert_eq!(committed(world.raw_reply(ann, second).unwrap()), unfit);
}

#[test]
fn no_post_is_taken_while_a_removal_is_due_and_a_commit_has_to_cover_it() {
    for removal in ["ban c bea", "remove c bea", "expel bea"] {
        let (mut world, ann) = world();
        let root = join_v2(&mut world, "root", false);
        let (bea, cid) = (member(&mut world, ann, "bea"), member(&mut world, ann, "cid"));
        assert_eq!(commit(&mut world, ann, 1, &change(0, &[2, 3], &[])), Ok(1));
        told(&mut world, cid);
        // What comes behind the removal waits for it, whoever posts.
        let removed = world.submit(root, removal);
        let late = start(&mut world, cid, sealed(2, 1));
        world.settle();
        assert!(world.reply(root, removed).unwrap().starts_with("done"), "{removal}");
        let due: Result<u64, _> = Err(Refusal::RemovalsDue([MachineId(2)].into()));
        assert_eq!(posted(world.raw_reply(cid, late).unwrap()), due, "{removal}");
        assert!(told(&mut world, cid).contains(&"Due { stream: ChannelId(0) }".into()), "{removal}");
        assert_eq!(group(&mut world, cid).removals, [MachineId(2)]);
        assert_eq!(commit(&mut world, cid, 3, &change(1, &[], &[])), due);
        assert_eq!(commit(&mut world, cid, 3, &change(1, &[], &[2])), Ok(2));
        assert_eq!(post(&mut world, cid, 2, 2), Ok(3));
        if world.lives(bea) {
            assert!(post(&mut world, bea, 9, 2).is_err());
        }
    }
}

#[test]
fn a_member_may_leave_and_who_comes_back_in_time_is_not_due() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    assert!(world.ask(bea, "remove c ann").starts_with("Unauthorized"));
    world.must(bea, "remove c bea");
    assert!(matches!(post(&mut world, ann, 2, 1), Err(Refusal::RemovalsDue(_))));
    world.must(ann, "add c bea");
    assert_eq!(post(&mut world, ann, 2, 1), Ok(2));
}

#[test]
fn a_machine_that_is_retired_is_due_and_one_that_is_added_waits() {
    let (mut world, ann) = world();
    world.must(ann, "enrol n of ann");
    assert_eq!(group(&mut world, ann).additions, [MachineId(1)]);
    assert!(told(&mut world, ann).contains(&"Due { stream: ChannelId(0) }".into()));
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    world.must(ann, "retire n");
    assert_eq!(group(&mut world, ann).removals, [MachineId(1)]);
    assert_eq!(commit(&mut world, ann, 2, &change(1, &[], &[1])), Ok(2));
    assert_eq!(group(&mut world, ann).machines, [MachineId(0)]);
}

#[test]
fn a_commit_changes_only_what_its_sender_may() {
    let (mut world, ann) = world();
    let (bea, _) = (member(&mut world, ann, "bea"), join_v2(&mut world, "eve", false));
    let unfit = |result: Result<u64, Refusal>| matches!(result, Err(Refusal::CommitUnfit(_)));
    assert!(unfit(commit(&mut world, ann, 1, &change(0, &[2], &[]))), "eve is no member");
    assert!(unfit(commit(&mut world, ann, 1, &change(0, &[99], &[]))), "nobody has it");
    assert!(unfit(commit(&mut world, ann, 1, &change(0, &[0], &[]))), "it is in the group");
    assert!(unfit(commit(&mut world, ann, 1, &change(0, &[], &[1]))), "it is not in the group");
    assert!(unfit(commit(&mut world, ann, 1, &change(0, &[], &[0]))), "it commits itself");
    let stray = ask(&mut world, ann, committing(1, &change(0, &[], &[]), &[1]));
    assert!(unfit(committed(stray)), "a welcome for nobody");
    assert_eq!(commit(&mut world, bea, 1, &change(0, &[], &[])), Err(Refusal::NotInGroup));
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    assert!(unfit(commit(&mut world, bea, 2, &change(1, &[], &[0]))), "bea is no admin");
    // An admin removes a machine and adds it again, with a new leaf.
    assert_eq!(commit(&mut world, ann, 2, &change(1, &[1], &[1])), Ok(2));
    assert_eq!(group(&mut world, ann).machines.len(), 2);
}

#[test]
fn a_member_joins_by_an_external_commit_and_changes_nobody_else() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    let external =
        |epoch, adds: &[u64], removes: &[u64]| Commit { external: true, ..change(epoch, adds, removes) };
    let unfit = |result: Result<u64, Refusal>| matches!(result, Err(Refusal::CommitUnfit(_)));
    assert!(unfit(commit(&mut world, bea, 1, &external(0, &[0], &[]))));
    assert!(unfit(commit(&mut world, bea, 1, &external(0, &[], &[0]))));
    assert!(unfit(commit(&mut world, bea, 1, &external(0, &[], &[1]))), "it is not in the group");
    assert_eq!(commit(&mut world, bea, 1, &external(0, &[1], &[])), Ok(1));
    assert_eq!(post(&mut world, bea, 2, 1), Ok(2));
    // It lost its state: its old leaf goes with the commit.
    assert_eq!(commit(&mut world, bea, 3, &external(1, &[1], &[1])), Ok(2));
    // It may join while a removal is due, and covers it then.
    world.must(ann, "enrol n of ann");
    assert_eq!(commit(&mut world, ann, 4, &change(2, &[2], &[])), Ok(3));
    world.must(ann, "retire n");
    assert_eq!(commit(&mut world, bea, 5, &external(3, &[1], &[1])), Ok(4));
    assert!(matches!(post(&mut world, bea, 6, 4), Err(Refusal::RemovalsDue(_))));
    assert_eq!(commit(&mut world, bea, 7, &change(4, &[], &[2])), Ok(5));
}

#[test]
fn who_enters_an_open_sealed_channel_becomes_a_member_and_version_1_stays_out() {
    let (mut world, ann) = with(World::new(), Visibility::Public);
    let bea = join_v2(&mut world, "bea", false);
    assert!(matches!(subscribe(&mut world, bea), Reply::Stream(StreamReply::Subscribed { .. })));
    assert_eq!(world.must(ann, "members c"), "users ann bea");
    let cid = world.register("cid");
    let needs = "Unauthorized: 'c' is sealed, which takes version 2 of the protocol: update this program";
    for command in ["join c", "post c hi", "read c"] {
        assert_eq!(world.ask(cid, command), needs);
    }
    let Reply::Channels(listed) = ({
        let request = world.submit_command(cid, Command::ListChannels);
        world.raw_reply(cid, request).unwrap()
    }) else {
        panic!("no list")
    };
    assert!(listed[0].sealed);
    // Of a private one, which it may not see, it hears nothing.
    let (mut world, _) = self::world();
    let cid = world.register("cid");
    assert!(world.ask(cid, "join c").starts_with("NotFound: no channel"));
}

#[test]
fn each_key_package_is_given_out_once_and_the_last_resort_again_and_again() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    let stock = |left, last_resort| Ok(SealedReply::Stock { left, last_resort });
    assert_eq!(put(&mut world, bea, &["one", "two"], None), stock(2, false));
    assert_eq!(put(&mut world, bea, &[], Some("last")), stock(2, true));
    assert_eq!(put(&mut world, bea, &[], None), stock(2, true));
    let one = |text: &str, last| Ok(vec![(1, text.to_string(), last)]);
    // A package whose taking was not stored was not given out.
    let users = vec![UserId(1)];
    let command = SealedCommand::TakeKeyPackages { stream: c(), users, machines: Vec::new() };
    let failed = start(&mut world, ann, StreamCommand::Sealed(command.clone()));
    world.seal();
    assert_eq!(world.raw_reply(ann, failed), None, "it is not answered before it is durable");
    world.fail();
    world.settle();
    assert!(matches!(world.raw_reply(ann, failed), Some(Reply::Refused(Refusal::NotStored { .. }))));
    told(&mut world, bea);
    assert_eq!(take(&mut world, ann, &[1]), one("one", false));
    assert_eq!(told(&mut world, bea), ["KeyPackagesLow { left: 1 }"]);
    // The server crashes right behind it.
    let mut world = world.restart();
    let [ann, bea] = ["ann", "bea"].map(|user| {
        let mut again = proven(user, "m", "s", false);
        again.terms = Terms { format: Format::V2, keep: false };
        world.connect(again)
    });
    world.settle();
    assert_eq!(take(&mut world, ann, &[1]), one("two", false));
    assert_eq!(take(&mut world, ann, &[1]), one("last", true));
    assert_eq!(take(&mut world, ann, &[1]), one("last", true));
    assert_eq!(put(&mut world, bea, &[], None), stock(0, true));
}

#[test]
fn of_two_who_take_at_once_each_gets_another_package() {
    let (mut world, ann) = world();
    let (bea, cid) = (member(&mut world, ann, "bea"), member(&mut world, ann, "cid"));
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    put(&mut world, cid, &["one", "two"], None).unwrap();
    let command = StreamCommand::Sealed(SealedCommand::TakeKeyPackages {
        stream: c(),
        users: vec![UserId(2)],
        machines: vec![MachineId(2)],
    });
    let requests = [ann, bea].map(|conn| (conn, start(&mut world, conn, command.clone())));
    world.settle();
    let got = requests.map(|(conn, request)| match world.raw_reply(conn, request) {
        Some(Reply::Stream(StreamReply::Sealed(reply))) => taken(*reply)[0].1.clone(),
        other => panic!("{other:?}"),
    });
    assert_eq!(got, ["one", "two"]);
}

#[test]
fn key_packages_go_only_to_who_may_add_their_machine_and_with_the_machine() {
    let (mut world, ann) = world();
    let (bea, eve) = (member(&mut world, ann, "bea"), join_v2(&mut world, "eve", false));
    put(&mut world, bea, &["of bea"], None).unwrap();
    put(&mut world, eve, &["of eve"], None).unwrap();
    assert_eq!(take(&mut world, bea, &[2]), Err(Refusal::NotInGroup));
    assert!(matches!(take(&mut world, eve, &[1]), Err(Refusal::NoChannel(_))));
    assert_eq!(take(&mut world, ann, &[2]), Ok(vec![]), "eve is no member");
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    assert_eq!(take(&mut world, ann, &[1]), Ok(vec![]), "bea's machine is in the group");
    let before = world.stored.sealed_bytes(UserId(1)).0;
    assert!(before > 0);
    let root = join_v2(&mut world, "root", false);
    world.must(root, "expel bea");
    assert_eq!(world.stored.sealed_bytes(UserId(1)).0, 0);
    assert!(world.stored.stock(MachineId(1)).is_none());
}

#[test]
fn a_welcome_waits_for_its_machine_until_it_is_dropped() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    let listed = |world: &mut World, conn| match asked(world, conn, SealedCommand::Welcomes) {
        Ok(SealedReply::Welcomes { welcomes, more: false }) => welcomes,
        other => panic!("{other:?}"),
    };
    assert_eq!(listed(&mut world, ann), []);
    let waiting = WaitingWelcome { stream: C, epoch: 1, welcome: blob("welcome") };
    assert_eq!(listed(&mut world, bea), core::slice::from_ref(&waiting));
    let drop = |epoch| StreamCommand::Sealed(SealedCommand::DropWelcome { stream: c(), epoch });
    ask(&mut world, bea, drop(0));
    assert_eq!(listed(&mut world, bea), [waiting]);
    assert_eq!(ask(&mut world, bea, drop(1)), Reply::Stream(StreamReply::Done));
    assert_eq!(listed(&mut world, bea), []);
    assert_eq!(ask(&mut world, bea, drop(1)), Reply::Stream(StreamReply::Done), "once more");
    // One that is not fetched goes with the membership.
    assert_eq!(commit(&mut world, ann, 2, &change(1, &[1], &[1])), Ok(2));
    world.must(ann, "remove c bea");
    world.must(ann, "add c bea");
    assert_eq!(listed(&mut world, bea), []);
}

#[test]
fn a_roster_is_a_chain_that_only_its_user_extends() {
    let (mut world, ann) = world();
    let eve = join_v2(&mut world, "eve", false);
    let entry = |text: &str| RosterEntry { entry: blob(text), signature: Opaque([7; 64]) };
    let extend = |world: &mut World, previous: Option<&RosterEntry>, text: &str| {
        let previous = previous.map(RosterEntry::hash);
        ask(world, ann, StreamCommand::Sealed(SealedCommand::PutRosterEntry { previous, entry: entry(text) }))
    };
    let done = Reply::Stream(StreamReply::Done);
    let first = entry("first");
    assert_eq!(extend(&mut world, Some(&first), "second"), Reply::Refused(Refusal::RosterMoved));
    assert_eq!(extend(&mut world, None, "first"), done);
    assert_eq!(extend(&mut world, None, "first"), done, "sent again");
    assert_eq!(extend(&mut world, None, "another"), Reply::Refused(Refusal::RosterMoved));
    assert_eq!(extend(&mut world, Some(&first), "second"), done);
    let read = |after| SealedCommand::Roster { user: UserName::new("ann").unwrap(), after };
    let (user, more) = (UserId(0), false);
    let both = SealedReply::Roster { user, entries: vec![first, entry("second")], more };
    assert_eq!(asked(&mut world, ann, read(0)), Ok(both));
    let second = SealedReply::Roster { user, entries: vec![entry("second")], more };
    assert_eq!(asked(&mut world, ann, read(1)), Ok(second));
    assert_eq!(asked(&mut world, ann, read(9)), Ok(SealedReply::Roster { user, entries: vec![], more }));
    assert!(matches!(asked(&mut world, eve, read(0)), Err(Refusal::NoUser(_))), "they share no channel");
}

#[test]
fn everything_that_is_kept_is_bounded() {
    let limited = World::with(|limits| {
        *limits = core::mem::take(limits).without_rates();
        limits.key_packages_per_machine = 2;
        limits.key_package_bytes = 10;
        limits.commit_bytes = 6;
        limits.group_info_bytes = 9;
        limits.welcome_bytes = 7;
        limits.roster_entries = 1;
        limits.roster_entry_bytes = 4;
    });
    let (mut world, ann) = with(limited, Visibility::Private);
    let much = |limit, most| Refusal::TooMuch { limit, most };
    assert_eq!(put(&mut world, ann, &["1", "2", "3"], None), Err(much(Limit::KeyPackages, 2)));
    assert_eq!(put(&mut world, ann, &["much too long"], None), Err(much(Limit::KeyPackageBytes, 10)));
    let long = Commit { commit: b"longer than 6", ..change(0, &[], &[]) };
    assert_eq!(commit(&mut world, ann, 1, &long), Err(much(Limit::CommitBytes, 6)));
    let _ = member(&mut world, ann, "bea");
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[1], &[])), Ok(1));
    for epoch in 1..9 {
        assert!(commit(&mut world, ann, epoch as u8 + 1, &change(epoch, &[], &[])).is_ok());
    }
    assert_eq!(commit(&mut world, ann, 99, &change(9, &[], &[])), Err(much(Limit::GroupInfoBytes, 9)));
    let extend = |previous, text: &str| {
        let entry = RosterEntry { entry: blob(text), signature: Opaque([7; 64]) };
        SealedCommand::PutRosterEntry { previous, entry }
    };
    let too_long = asked(&mut world, ann, extend(None, "entry"));
    assert_eq!(too_long, Err(much(Limit::RosterEntryBytes, 4)));
    ask(&mut world, ann, StreamCommand::Sealed(extend(None, "one")));
    let previous = world.stored.roster(UserId(0))[0].hash();
    let too_many = asked(&mut world, ann, extend(Some(previous), "two"));
    assert_eq!(too_many, Err(much(Limit::RosterEntries, 1)));
}

#[test]
fn nobody_keeps_more_for_sealed_channels_than_is_left() {
    let (mut world, ann) = with(World::with(|limits| limits.sealed_bytes = 1_000), Visibility::Private);
    let bea = member(&mut world, ann, "bea");
    assert_eq!(commit(&mut world, ann, 1, &change(0, &[], &[])), Ok(1));
    let package = "x".repeat(100);
    let fill =
        |world: &mut World, conn| (0..10).take_while(|_| put(world, conn, &[&package], None).is_ok()).count();
    let (first, second) = (fill(&mut world, ann), fill(&mut world, bea));
    assert!((1..6).contains(&first) && second > 0, "{first} {second}");
    assert!(world.stored.sealed_bytes(UserId(0)).1 <= 1_000);
    // A commit that brings no more than it replaces is taken, whatever is left.
    let adds = commit(&mut world, ann, 2, &change(1, &[1], &[]));
    assert!(matches!(adds, Err(Refusal::TooMuch { limit: Limit::SealedBytes, .. })), "{adds:?}");
    assert_eq!(commit(&mut world, ann, 2, &change(1, &[], &[])), Ok(2));
}

#[test]
fn a_commit_is_delivered_to_all_its_sender_as_well() {
    let (mut world, ann) = world();
    let bea = member(&mut world, ann, "bea");
    commit(&mut world, ann, 1, &change(0, &[1], &[])).unwrap();
    let posted = world.records.iter().filter(|record| matches!(record, Record::Posted { .. })).count();
    assert_eq!(posted, 1);
    for conn in [ann, bea] {
        assert_eq!(world.received(conn).len(), 1);
    }
}
