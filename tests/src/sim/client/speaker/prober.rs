//! A client that asks everything twice: about a channel that is hidden from it, and about one that does not exist. It
//! must be told the same, but for the name.

use std::collections::BTreeMap;

use super::super::super::notation::{Node, Pen};
use super::super::super::world::World;
use super::judge::{INTERNAL, RATE_LIMITED, UNAVAILABLE, code};
use super::{Asked, Speaker};

const HIDDEN: &str = "vault";
const ABSENT: &str = "vaulx";
/// The hidden channel's number on the wire, and one that was never given.
const NUMBERS: (u64, u64) = (4, 4_000);

/// What was answered to one question of a pair, until the other is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Questions {
    pairs: u64,
    told: BTreeMap<u64, String>,
}

impl Speaker {
    /// Asks about the hidden and about the absent.
    pub(super) fn probe(&mut self, world: &mut World) {
        let (which, by_number) = (self.chance.below(22), self.chance.one_in(2));
        let second = if self.chance.one_in(3) { "2" } else { "" };
        world.coverage.probes += 1;
        let Some(questions) = &mut self.prober else { return };
        questions.pairs += 1;
        let pair = questions.pairs;
        for hidden in [true, false] {
            let name = format!("{}{second}", if hidden { HIDDEN } else { ABSENT });
            let number = by_number.then_some(if hidden { NUMBERS.0 } else { NUMBERS.1 });
            let (field, word, what) = self.question(which, number, &name);
            self.ask(world, field, word, what, Asked::Question { pair, hidden });
        }
    }

    fn question(&self, which: u64, number: Option<u64>, name: &str) -> (u64, &'static str, Pen) {
        let new = || Pen::new(self.json);
        let stream = |pen: Pen| pen.message(1, "stream", self.named(number, name));
        let about = || new().text(1, "channel", name);
        let user = "u1";
        match which {
            0 => (3, "subscribe", stream(new()).message(2, "latest", new())),
            1 => (3, "subscribe", stream(new()).chosen(3, "after", 0)),
            2 => (3, "subscribe", stream(new()).message(4, "myCursor", new())),
            3 => (3, "subscribe", stream(new()).chosen(3, "after", 1).text(5, "invite", "a guess")),
            4 => (4, "unsubscribe", stream(new())),
            5 => (5, "read", stream(new()).chosen(2, "after", 0)),
            6 => {
                let body = new().message(1, "content", new().text(2, "text", "let me in"));
                let post = stream(new()).bytes(2, "messageId", &[7; 16]).message(3, "body", body);
                (6, "post", post.bytes(4, "signature", &[7; 64]))
            }
            7 => (7, "report", stream(new()).number(2, "delivered", 1)),
            8 => (8, "acknowledge", stream(new()).number(2, "seq", 1)),
            9 => (9, "receipts", stream(new()).number(2, "seq", 1)),
            10 => (10, "watchReceipts", stream(new()).flag(2, "on", true)),
            11 => (11, "presence", about()),
            12 => (14, "deleteChannel", new().text(1, "name", name)),
            13 => (15, "renameChannel", new().text(1, "name", name).text(2, "newName", "stolen")),
            14 => (17, "addMember", about().text(2, "user", user)),
            15 => (18, "removeMember", about().text(2, "user", user)),
            16 => (19, "listMembers", about()),
            17 => (20, "createInvite", about()),
            18 => (22, "listInvites", about()),
            19 => (23, "kick", about().text(2, "target", user)),
            20 => (24, "ban", about().text(2, "user", user)),
            _ => (26, "listBans", about()),
        }
    }

    /// Takes an answer, and compares the two.
    pub(super) fn compare(
        &mut self,
        world: &mut World,
        (pair, hidden): (u64, bool),
        kind: &str,
        node: Node<'_>,
    ) {
        let code = code(node);
        let told = format!("{kind} {code} {}", node.text(2, "message"));
        // What may be told at any time tells nothing.
        let passing = kind == "error" && matches!(code, RATE_LIMITED | UNAVAILABLE | INTERNAL);
        let told = if passing { String::new() } else { told.replace(HIDDEN, ABSENT) };
        let Some(questions) = &mut self.prober else { return };
        let Some(other) = questions.told.remove(&pair) else {
            questions.told.insert(pair, told);
            return;
        };
        if !told.is_empty() && !other.is_empty() && told != other {
            let (of_hidden, of_absent) = if hidden { (told, other) } else { (other, told) };
            self.fail(world, &format!("told '{of_hidden}' of what is hidden, '{of_absent}' of what is not"));
        }
    }

    /// Whatever the prober is sent unasked names nothing hidden.
    pub(super) fn search(&self, world: &mut World, bytes: &[u8]) {
        if self.prober.is_some() && bytes.windows(HIDDEN.len()).any(|part| part == HIDDEN.as_bytes()) {
            self.fail(world, &format!("it was told: {}", String::from_utf8_lossy(bytes)));
        }
    }
}
