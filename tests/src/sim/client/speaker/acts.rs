//! What a client of version 2 does of its own accord.

use super::super::super::notation::{Pen, Said};
use super::super::super::world::World;
use super::super::acts::{CHANNELS, USERS};
use super::{Asked, Draft, Speaker, Start, channel};

/// Posts that it has unanswered at most.
const OUTBOX: usize = 60;
const VISIBILITIES: [&str; 4] =
    ["VISIBILITY_UNSPECIFIED", "VISIBILITY_PUBLIC", "VISIBILITY_UNLISTED", "VISIBILITY_PRIVATE"];

impl Speaker {
    pub(super) fn do_something(&mut self, world: &mut World) {
        if self.streams.is_empty() || self.chance.one_in(16) {
            self.enter(world);
        }
        if self.chance.one_in(world.plan.administration) {
            return self.administrate(world);
        }
        let Some(stream) = self.some_stream() else { return };
        match self.chance.below(100) {
            0..40 => {
                let burst = if self.chance.one_in(6) { self.chance.below(12) } else { 1 };
                for _ in 0..burst {
                    self.write(world, stream);
                }
            }
            40..44 => self.write_again(world),
            44..60 => self.report(world, stream),
            60..66 => self.acknowledge(world, stream),
            66..74 => self.receipts(world, stream),
            74..80 => {
                let on = !self.chance.one_in(4);
                let what = self.about(stream).flag(2, "on", on);
                self.ask(world, 10, "watchReceipts", what, Asked::Watch { stream, on });
            }
            80..86 => self.read(world, stream),
            86..89 => {
                let what = self.about(stream);
                self.ask(world, 4, "unsubscribe", what, Asked::Unsubscribe { stream });
            }
            89..94 => self.move_on(world, stream),
            _ => self.query(world),
        }
    }

    fn some_stream(&mut self) -> Option<u64> {
        let nth = self.chance.index(self.streams.len());
        self.streams.keys().nth(nth).copied()
    }

    /// A request that names a stream.
    fn about(&self, stream: u64) -> Pen {
        Pen::new(self.json).message(1, "stream", self.named(Some(stream), ""))
    }

    fn some_start(&mut self, kept: u64) -> Start {
        match self.chance.below(6) {
            0 | 1 => Start::Latest,
            2 => Start::After(0),
            3 => Start::Cursor,
            _ => Start::After(kept),
        }
    }

    fn enter(&mut self, world: &mut World) {
        let most = *self.chance.pick(&[1, 3, 4, CHANNELS.len()]);
        let mut name = self.chance.word(&CHANNELS[..most]).to_owned();
        let mut token = String::new();
        if self.chance.one_in(4)
            && let Some((known, shared)) = world.some_token(&mut self.chance)
        {
            (name, token) = (known.to_string(), shared.expose().to_owned());
        }
        let start = self.some_start(0);
        self.subscribe(world, None, &name, start, &token);
    }

    /// Moves a subscription to another position, on purpose.
    fn move_on(&mut self, world: &mut World, stream: u64) {
        let kept = self.follows.get(&stream).map_or(0, |follow| follow.kept);
        let kept = if self.chance.one_in(4) { self.chance.below(kept + 1) } else { kept };
        let start = self.some_start(kept);
        self.subscribe(world, Some(stream), "", start, "");
    }

    fn write(&mut self, world: &mut World, stream: u64) {
        if self.outbox.len() >= OUTBOX {
            return;
        }
        self.posts += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.posts.to_be_bytes());
        id[8..].copy_from_slice(&((self.number as u64) << 40 | self.chance.below(1 << 40)).to_be_bytes());
        let text = match self.chance.below(40) {
            0 => format!("{}v{}{}", self.posts, self.number, " ".repeat(self.chance.index(3_000))),
            1..10 => self.chance.word(&["a", "a", "b", ""]).to_owned(),
            _ => format!("{}v{}", self.posts, self.number),
        };
        let said = match self.chance.below(12) {
            0 => {
                let ciphertext = vec![self.chance.next() as u8; self.chance.index(40)];
                Said { sealed: true, text, ciphertext, ..Said::default() }
            }
            1 => Said {
                text,
                media_type: "text/markdown".into(),
                reply_to: self.chance.below(300),
                mentions: vec![1, self.chance.below(500)],
                data: "{\"a\":[1]}".into(),
                ..Said::default()
            },
            _ => Said { text, ..Said::default() },
        };
        // The server does not look at it; it must come back as it is.
        let mut signature = [0; 64];
        rand_core::Rng::fill_bytes(&mut self.chance, &mut signature);
        let draft = Draft {
            user: super::super::super::user(self.user),
            stream,
            said,
            signature,
            acknowledge: self.chance.one_in(5),
            sent: 0,
            stored: None,
            denied: false,
        };
        world.coverage.drafts += 1;
        world.drafts.insert(id, draft);
        self.outbox.push(id);
        self.post(world, id);
    }

    /// Sends a post again that may be under way or long stored, as a program does that has lost its memory.
    fn write_again(&mut self, world: &mut World) {
        // Another session of the same user may send it, too.
        let user = super::super::super::user(self.user);
        let own = |(_, draft): &(&[u8; 16], &Draft)| draft.user == user && draft.sent > 0 && !draft.denied;
        let count = world.drafts.iter().filter(own).count();
        // Mostly a late one.
        let nth = if self.chance.one_in(3) { self.chance.index(count) } else { count.saturating_sub(1) };
        let Some(id) = world.drafts.iter().filter(own).nth(nth).map(|(id, _)| *id) else { return };
        if !self.outbox.contains(&id) {
            self.outbox.push(id);
        }
        self.post(world, id);
    }

    fn report(&mut self, world: &mut World, stream: u64) {
        let sent = self.streams.get(&stream).map_or(0, |stream| stream.next - 1);
        let kept = self.follows.get(&stream).map_or(0, |follow| follow.kept).min(sent);
        let mut delivered = if self.chance.one_in(3) { self.chance.below(kept + 1) } else { kept };
        if self.chance.one_in(30) {
            // A liar; whether it is found out depends on what is under way.
            delivered = sent + self.chance.below(4);
        }
        let seen = if self.chance.one_in(2) { self.chance.below(delivered + 1) } else { 0 };
        self.reach(stream, delivered);
        let claims = world.claims.entry((self.path.clone(), channel(stream))).or_default();
        claims.delivered = claims.delivered.max(delivered);
        claims.seen = claims.seen.max(seen);
        let what = self.about(stream).number(2, "delivered", delivered).number(3, "seen", seen);
        self.ask(world, 7, "report", what, Asked::Report);
    }

    fn acknowledge(&mut self, world: &mut World, stream: u64) {
        let sent = self.streams.get(&stream).map_or(0, |stream| stream.next - 1);
        let seq = sent.saturating_sub(self.chance.below(5));
        world.claims.entry((self.path.clone(), channel(stream))).or_default().acknowledged.insert(seq);
        let word = self.chance.word(&["", "yes", "later"]);
        let what = self.about(stream).number(2, "seq", seq).text(3, "word", word);
        self.ask(world, 8, "acknowledge", what, Asked::Acknowledge);
    }

    fn receipts(&mut self, world: &mut World, stream: u64) {
        let sent = self.streams.get(&stream).map_or(0, |stream| stream.next - 1);
        let seq = sent.saturating_sub(self.chance.below(6));
        let what = self.about(stream).number(2, "seq", seq);
        self.ask(world, 9, "receipts", what, Asked::Receipts { stream, seq });
    }

    fn read(&mut self, world: &mut World, stream: u64) {
        let sent = self.streams.get(&stream).map_or(0, |stream| stream.next);
        let (after, at, limit) = (self.chance.one_in(2), self.chance.below(sent + 2), self.chance.below(6));
        let what = self.about(stream);
        let what = if after { what.chosen(2, "after", at) } else { what.chosen(3, "before", at) };
        let what = what.number(4, "limit", limit);
        // What was there then must be there.
        let newest = world.store.rows(channel(stream)).len() as u64;
        self.ask(world, 5, "read", what, Asked::Read { stream, after, at, newest });
    }

    fn query(&mut self, world: &mut World) {
        let new = || Pen::new(self.json);
        let name = self.chance.word(&CHANNELS);
        let user = self.chance.word(&USERS);
        let (number, field, what, answer) = match self.chance.below(6) {
            0 => (11, "presence", new(), "sessions"),
            1 => (11, "presence", new().text(1, "channel", name), "sessions"),
            2 => (12, "listChannels", new(), "channels"),
            3 => (29, "listMachines", new(), "machines"),
            4 => (27, "listUsers", new(), "users"),
            _ => (32, "keys", new().text(1, "user", user), "machines"),
        };
        self.ask(world, number, field, what, Asked::Other(answer));
    }

    fn administrate(&mut self, world: &mut World) {
        let name = self.chance.word(&CHANNELS);
        // The outsider stays one.
        let secret = name.starts_with("vault");
        let users = if secret { &USERS[..7] } else { &USERS[..] };
        let user = self.chance.word(users);
        let new_name = if secret { "vault2" } else { self.chance.word(&["c0", "c1", "c2", "c3", "corner"]) };
        let visibility = if secret { 3 } else { 1 + self.chance.index(3) };
        let new = || Pen::new(self.json);
        let about = || new().text(1, "channel", name).text(2, "user", user);
        let named = || new().text(1, "name", name);
        let (number, field, what, answer) = match self.chance.below(24) {
            0..5 => (13, "createChannel", named().member(2, "visibility", visibility, &VISIBILITIES), "done"),
            5 => (14, "deleteChannel", named(), "done"),
            6 => (15, "renameChannel", named().text(2, "newName", new_name), "done"),
            7 => (16, "setVisibility", named().member(2, "visibility", visibility, &VISIBILITIES), "done"),
            8..11 => (17, "addMember", about(), "done"),
            11 => (18, "removeMember", about(), "done"),
            12 => (19, "listMembers", new().text(1, "channel", name), "users"),
            13 => (20, "createInvite", new().text(1, "channel", name).number(2, "uses", 1), "invite"),
            14 => (22, "listInvites", new().text(1, "channel", name), "invites"),
            15..18 => (23, "kick", new().text(1, "channel", name).text(2, "target", user), "done"),
            18..20 => (24, "ban", about(), "done"),
            20..22 => (25, "unban", about(), "done"),
            _ => (26, "listBans", new().text(1, "channel", name), "users"),
        };
        self.ask(world, number, field, what, Asked::Other(answer));
    }
}
