exec(open('.p.py').read().split("H='core")[0])
R='core/tests/reference/'
sub(R+'mod.rs',[
("""//! When a request waits follows from the order that users can observe: posts and changes are stored in the order in
//! which they were requested. So a request that would store something, judged by what is durable, waits until the change
//! before it is durable. A request that would store nothing may be answered from the state before that change or from the
//! state after it. The model keeps both outcomes, and continues with the one that the hub chose.
""","""//! Every request is judged by what is durable. What it would store joins the changes that are not durable yet if it
//! concerns nothing that they concern, and otherwise waits: a change in its user's line, a post only if one of those
//! changes decides whether it may be made. After a commit the posts that waited go first, then strangers, then each user
//! in turn.
"""),
("mod commit;\n","mod commit;\nmod line;\n"),
("    /// The other outcome that the rules allow for the last step: its request waits.\n    pub otherwise: Option<Box<Model>>,\n    /// Whether the last step requested something that has to wait.\n    pub has_to_wait: bool,\n","    /// How many requests had to wait, and how many changes joined others.\n    pub waited: usize,\n    pub joined: usize,\n"),
("    line: Vec<Waiting>,\n    reads","    line: Line,\n    reads"),
("            otherwise: None,\n            has_to_wait: false,\n","            waited: 0,\n            joined: 0,\n"),
("            line: Vec::new(),","            line: Line::default(),"),
("        self.otherwise = None;\n        self.has_to_wait = false;\n",""),
("        self.line.retain(|one| !matches!(one, Waiting::Register { conn: other, .. } if *other == conn));\n","        self.line.strangers.retain(|one| one.conn != conn);\n"),
("""        if self.change_pending() {
            self.line.push(Waiting::Register { conn, user, machine, handle, key });
            return;
        }
""",""),
("""        self.gathered.push(Pending::Register { conn: Some(conn), user, machine, handle, key });
""","""        let registration = Pending::Register { conn: Some(conn), user, machine, handle, key };
        if self.joins(&registration) {
            self.gathered.push(registration);
        } else if let Pending::Register { user, machine, handle, key, .. } = registration {
            self.line.strangers.push(Stranger { conn, user, machine, handle, key });
        }
"""),
("""#[derive(Clone, Debug)]
enum Waiting {
    Request { asker: Asker, command: Command, token: String },
    Register { conn: Conn, user: String, machine: String, handle: String, key: PublicKey },
}

""",""),
("use rates::Levels;","use line::{Line, Stranger};\nuse rates::Levels;"),
("        batch_bytes: 12,\n","        batch_bytes: 12,\n        batch_changes: 3,\n"),
])
sub(R+'bench.rs',[
("""    /// How often the hub answered although a change was pending, and how often it let a request wait that it could have
    /// answered.
    pub answered_at_once: usize,
    pub waited: usize,
""",""),
("            answered_at_once: 0,\n            waited: 0,\n",""),
("""        // Only one of the two outcomes has an answer already.
        if let Some(waits) = self.model.otherwise.take() {
            if self.told == self.model.told {
                self.answered_at_once += 1;
            } else {
                self.waited += 1;
                self.model = *waits;
            }
        }
""",""),
])
s=open(R+'decide.rs').read()
i=s.index("        if !self.change_pending() {\n            return self.decide"); j=s.index("    pub(super) fn decide(&mut self")
s=s[:i]+"        self.decide_in_turn(asker, command.clone(), token);\n    }\n\n"+s[j:]
i=s.index("\n/// Whether a request is about what is stored.")
s=s[:i]
s=s.replace("State, UNREADABLE, Waiting}","State, UNREADABLE}")
open(R+'decide.rs','w').write(s)
s=open(R+'commit.rs').read()
i=s.index("    /// Whether a change is accepted and not durable"); j=s.index("        // Each is stamped with the clock")
s=s[:i]+'''    /// Sends off the posts that have gathered, as many as go together, and with the last of those that were accepted
    /// before them the changes.
    pub(super) fn seal(&mut self) {
        if self.flight.is_some() || self.gathered.is_empty() {
            return;
        }
        let is_post = |one: &Pending| matches!(one, Pending::Post { .. });
        let (mut flight, mut posts, mut bytes) = (Vec::new(), 0, 0);
        while let Some(at) = self.gathered.iter().position(is_post) {
            let Pending::Post { text, .. } = &self.gathered[at] else { unreachable!() };
            bytes += text.len();
            let limits = &self.config.limits;
            if posts > 0 && (posts == limits.batch_posts || bytes > limits.batch_bytes) {
                break;
            }
            posts += 1;
            flight.push(self.gathered.remove(at));
        }
        let last = self.gathered.iter().rposition(|one| !is_post(one));
        if last.is_some_and(|last| !self.gathered[..last].iter().any(is_post)) {
            let (later, changes): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.gathered).into_iter().partition(is_post);
            self.gathered = later;
            flight.extend(changes);
        }
'''+s[j:]
i=s.index("    /// Decides what waited in line"); j=s.index("    fn id(&mut self)")
s=s[:i]+s[j:]
s=s.replace("Pending, Posted, Seen, User, Waiting}","Pending, Posted, Seen, User}")
s=s.replace("        for pending in self.flight.take().unwrap() {\n            match pending {\n                Pending::Post { asker, channel: id","        let flight = self.flight.take().unwrap();\n        let changes = flight.iter().any(|one| !matches!(one, Pending::Post { .. }));\n        for pending in flight {\n            match pending {\n                Pending::Post { asker, channel: id")
s=s.replace("        for pending in self.flight.take().unwrap() {\n            match pending {\n                Pending::Post { asker, .. }","        let flight = self.flight.take().unwrap();\n        let changes = flight.iter().any(|one| !matches!(one, Pending::Post { .. }));\n        for pending in flight {\n            match pending {\n                Pending::Post { asker, .. }")
s=s.replace("        self.advance();","        if changes {\n            self.advance();\n        }")
open(R+'commit.rs','w').write(s)
open(R+'line.rs','w').write('''//! Who waits, and whose turn it is.

use std::collections::BTreeMap;

use conclave_core::key::PublicKey;
use conclave_core::protocol::{Admin, Command, Visibility};

use super::{Asker, Conn, Model, Pending};

/// Everything that waits.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// What the changes concern that are not durable.
    concerned: Vec<String>,
    pub(super) strangers: Vec<Stranger>,
    users: BTreeMap<u64, Vec<Waiting>>,
    /// Posts that one of those changes decides about.
    posts: Vec<Waiting>,
    /// The users behind this one come first.
    behind: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Stranger {
    pub(super) conn: Conn,
    pub(super) user: String,
    pub(super) machine: String,
    pub(super) handle: String,
    pub(super) key: PublicKey,
}

#[derive(Clone, Debug)]
struct Waiting {
    asker: Asker,
    command: Command,
    token: String,
}

impl Line {
    pub(super) fn is_empty(&self) -> bool {
        self.strangers.is_empty() && self.users.is_empty() && self.posts.is_empty()
    }
}

fn is_change(pending: &Pending) -> bool {
    !matches!(pending, Pending::Post { .. })
}

impl Model {
    fn changes(&self) -> impl Iterator<Item = &Pending> {
        self.gathered.iter().chain(self.flight.iter().flatten()).filter(|one| is_change(one))
    }

    /// Whether a change may be stored together with those that are not durable; notes what it concerns if so.
    pub(super) fn joins(&mut self, change: &Pending) -> bool {
        let concerns = self.concerns(change);
        let in_flight = self.flight.iter().flatten().any(is_change);
        let gathered = self.gathered.iter().filter(|one| is_change(one)).count();
        let free = !concerns.iter().any(|what| self.line.concerned.contains(what));
        let joins = free && !in_flight && gathered < self.config.limits.batch_changes;
        if joins {
            self.joined += usize::from(gathered > 0);
            self.line.concerned.extend(concerns);
        }
        joins
    }

    fn concerns(&self, change: &Pending) -> Vec<String> {
        let (asker, command) = match change {
            Pending::Register { user, key, .. } => return vec![format!("name {user}"), format!("key {key}")],
            Pending::Change { asker, command, .. } => (asker, command),
            Pending::Post { .. } => unreachable!("a post is no change"),
        };
        let number = |name: &dyn ToString| {
            self.channels.iter().find(|one| one.name == name.to_string()).map_or(0, |one| one.id)
        };
        let channel = |name: &dyn ToString| format!("channel {}", number(name));
        let posts = |name: &dyn ToString| format!("posts {}", number(name));
        let user = |id: u64| format!("user {id}");
        let mut all = vec![user(asker.user)];
        match command {
            Command::Join { channel: name, .. } => all.push(channel(name)),
            Command::Admin(admin) => match admin {
                Admin::CreateChannel { name, .. } => all.push(format!("channel name {name}")),
                Admin::DeleteChannel { name } => all.extend([channel(name), posts(name)]),
                Admin::RenameChannel { name, new_name } => {
                    all.extend([channel(name), format!("channel name {new_name}")]);
                }
                Admin::SetVisibility { name, visibility } => {
                    all.push(channel(name));
                    all.extend((*visibility == Visibility::Private).then(|| posts(name)));
                }
                Admin::AclAdd { channel: name, user: who } | Admin::Unban { channel: name, user: who } => {
                    all.extend([channel(name), user(self.user(who).unwrap())]);
                }
                Admin::AclRemove { channel: name, user: who } | Admin::Ban { channel: name, user: who } => {
                    let id = self.user(who).unwrap();
                    all.extend([channel(name), user(id), format!("{} of {id}", posts(name))]);
                }
                Admin::InviteCreate { channel: name, .. } => all.push(channel(name)),
                Admin::InviteRevoke { token } => {
                    let with = |one: &&super::Channel| one.invites.iter().any(|it| it.token == token.expose());
                    all.extend(self.channels.iter().find(with).map(|one| channel(&one.name)));
                }
                Admin::UserRemove { user: who } => {
                    let id = self.user(who).unwrap();
                    all.extend([user(id), format!("posts of {id}")]);
                    for one in self.channels.iter().filter(|one| one.creator == id) {
                        all.extend([channel(&one.name), posts(&one.name)]);
                    }
                }
                Admin::MachineAdd { key, .. } => all.push(format!("key {key}")),
                Admin::MachineRemove { .. } => all.push(format!("posts of {}", asker.user)),
                Admin::AclList { .. } | Admin::BanList { .. } | Admin::InviteList { .. } | Admin::Kick { .. } => {
                    unreachable!("it changes nothing durable")
                }
            },
            other => unreachable!("{other:?} changes nothing"),
        }
        all
    }

    pub(super) fn decide_in_turn(&mut self, asker: Asker, command: Command, token: String) {
        let concerns_storage =
            matches!(&command, Command::Post { .. } | Command::Join { token: Some(_), .. } | Command::Admin(_));
        let lists = matches!(
            &command,
            Command::Admin(
                Admin::AclList { .. } | Admin::BanList { .. } | Admin::InviteList { .. } | Admin::Kick { .. }
            )
        );
        if !concerns_storage || lists {
            return self.decide(&asker, &command, token);
        }
        let is_post = matches!(command, Command::Post { .. });
        let of_this = |one: &Waiting| one.asker.conn == asker.conn;
        let own = self.line.users.values().flatten().any(of_this) || self.changes_something(asker.conn);
        let behind_post = is_post && self.line.posts.iter().any(of_this);
        let ahead = self.line.users.contains_key(&asker.user);
        let waiting = Waiting { asker, command, token };
        let waiting = if own || behind_post || (ahead && !is_post) {
            waiting
        } else {
            let Some(waiting) = self.attempt(waiting) else { return };
            waiting
        };
        self.waited += 1;
        if is_post && !own {
            self.line.posts.push(waiting);
        } else {
            self.line.users.entry(waiting.asker.user).or_default().push(waiting);
        }
    }

    /// Whether a connection has asked for a change that is not durable.
    fn changes_something(&self, conn: Conn) -> bool {
        self.changes().any(|one| matches!(one, Pending::Change { asker, .. } if asker.conn == conn))
    }

    /// Decides a request, or gives it back if it has to wait.
    fn attempt(&mut self, waiting: Waiting) -> Option<Waiting> {
        let concerned = |model: &Self, what: &str| model.line.concerned.iter().any(|other| other == what);
        let user = waiting.asker.user;
        if let Command::Post { channel, .. } = &waiting.command {
            let of_this = |one: &Waiting| one.asker.conn == waiting.asker.conn;
            if self.line.posts.iter().any(of_this) || self.changes_something(waiting.asker.conn) {
                return Some(waiting);
            }
            let found = self.channels.iter().find(|one| one.name == channel.as_str()).map(|one| one.id);
            if let Some(id) = found.filter(|id| self.is_in(waiting.asker.conn, *id)) {
                let reasons =
                    [format!("posts {id}"), format!("posts of {user}"), format!("posts {id} of {user}")];
                if reasons.iter().any(|what| concerned(self, what)) {
                    return Some(waiting);
                }
            }
            self.decide(&waiting.asker, &waiting.command, waiting.token);
            return None;
        }
        if concerned(self, &format!("user {user}")) {
            return Some(waiting);
        }
        self.decide(&waiting.asker, &waiting.command, waiting.token.clone());
        let Some(change) = self.gathered.pop_if(|one| is_change(one) && self.decided_now) else { return None };
        self.decided_now = false;
        if self.joins(&change) {
            self.gathered.push(change);
            return None;
        }
        Some(waiting)
    }

    /// Whoever waited for the changes that were just decided has a turn.
    pub(super) fn advance(&mut self) {
        self.line.concerned.clear();
        for Waiting { asker, command, token } in std::mem::take(&mut self.line.posts) {
            self.decide(&asker, &command, token);
        }
        for _ in 0..self.line.strangers.len() {
            if self.gathered.iter().filter(|one| is_change(one)).count()
                >= self.config.limits.batch_changes.div_ceil(2)
            {
                break;
            }
            let Stranger { conn, user, machine, handle, key } = self.line.strangers.remove(0);
            self.connect(conn, &user, &machine, &handle, key, true);
        }
        let (later, earlier): (Vec<u64>, Vec<u64>) =
            self.line.users.keys().partition(|user| **user > self.line.behind);
        let mut first = None;
        for user in later.into_iter().chain(earlier) {
            if self.changes().count() >= self.config.limits.batch_changes {
                break;
            }
            let before = self.changes().count();
            let mut waiting = self.line.users.remove(&user).unwrap();
            while !waiting.is_empty() {
                if let Some(again) = self.attempt(waiting.remove(0)) {
                    waiting.insert(0, again);
                    break;
                }
            }
            if !waiting.is_empty() {
                self.line.users.insert(user, waiting);
            }
            if self.changes().count() > before {
                first.get_or_insert(user);
            }
        }
        self.line.behind = first.unwrap_or(self.line.behind);
    }
}
''')
# decided_now flag
sub(R+'mod.rs',[("    line: Line,\n    reads","    line: Line,\n    /// The last decision was for a change.\n    decided_now: bool,\n    reads"),
("            line: Line::default(),","            line: Line::default(),\n            decided_now: false,")])
sub(R+'decide.rs',[("                self.gathered.push(Pending::Change { asker, command, token, wall });","                self.gathered.push(Pending::Change { asker, command, token, wall });\n                self.decided_now = true;")])
sub('core/src/hub/line.rs',[("touches(record, |touch| drop(self.touched.insert(touch)));","touches(record, |touch| self.touched.extend([touch]));")])
H='core/tests/hub_reference.rs'
sub(H,[("""        *reached.entry("answered before a pending change".into()).or_default() += bench.answered_at_once;
        *reached.entry("waited for a change without need".into()).or_default() += bench.waited;
""","""        *reached.entry("joined another change".into()).or_default() += bench.model.joined;
        *reached.entry("waited for a change".into()).or_default() += bench.model.waited;
"""),
("""        "answered before a pending change",
        "waited for a change without need",
""","""        "joined another change",
        "waited for a change",
"""),
("fn whatever_would_store_something_waits_for_the_change_before_it","fn a_change_joins_one_that_it_does_not_concern_and_waits_for_one_that_it_does"),
("""        steps.push(ask(root, create("z")));
        let mut bench = Bench::new(reference::config(false));
        steps.iter().for_each(|step| bench.step(step).unwrap());
        let asked = ask(session, command);
        bench.step(&asked).unwrap();
        assert!(bench.model.has_to_wait, "{asked:?}");
        for step in commit.iter().cycle().take(4) {
            bench.step(step).unwrap_or_else(|why| panic!("{asked:?}: {why}"));
        }
        assert!(!bench.model.has_batch(), "{asked:?}");
""","""        let asked = ask(session, command.clone());
        let is_post = matches!(command, Command::Post { .. });
        // Root's own changes wait for root's; to everyone else, the first is none of their business.
        for (first, waits) in [
            (ask(root, create("z")), session == root),
            (ask(root, Command::Admin(Admin::UserRemove { user: user("ann") })), true),
        ] {
            let mut bench = Bench::new(reference::config(false));
            steps.iter().for_each(|step| bench.step(step).unwrap());
            bench.step(&first).unwrap();
            bench.step(&asked).unwrap();
            assert_eq!(bench.model.waited == 1, waits, "{asked:?} behind {first:?}");
            assert_eq!(bench.model.joined == 1, !waits && !is_post, "{asked:?} behind {first:?}");
            for step in commit.iter().cycle().take(4) {
                bench.step(step).unwrap_or_else(|why| panic!("{asked:?}: {why}"));
            }
            assert!(!bench.model.has_batch(), "{asked:?}");
        }
"""),
])
