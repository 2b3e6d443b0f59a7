//! Permission cards: a prompt of the agent's client, whispered to the approvers that the human named, and their
//! verdict.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use super::server::Server;
use crate::name::{InvalidName, SessionPath, UserName};
use crate::opaque::Opaque;
use crate::text::{one_line, visible};
use crate::time::{Monotonic, UnixMillis};

/// How long a card can be answered.
pub const CARD_LIFETIME: Duration = Duration::from_secs(600);

/// Cards open at once, of one's own and of others: the oldest make room.
const MAX_OPEN: usize = 32;

/// Bytes of a card that are kept.
const MAX_CARD: usize = 4096;
/// Answered cards that are remembered.
const MAX_CLOSED: usize = 64;

const HEADER: &str = "conclave permission request ";
const DECIDED: &str = "conclave verdict on ";

/// The name of a prompt: five letters of a to z, without l.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CardId([u8; 5]);

/// The text names no prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a permission request is named by five letters of a to z, without l")]
pub struct InvalidCardId;

impl FromStr for CardId {
    type Err = InvalidCardId;

    fn from_str(text: &str) -> Result<Self, InvalidCardId> {
        let letters: [u8; 5] = text.as_bytes().try_into().map_err(|_| InvalidCardId)?;
        let letters = letters.map(|letter| letter.to_ascii_lowercase());
        if letters.iter().all(|letter| letter.is_ascii_lowercase() && *letter != b'l') {
            Ok(Self(letters))
        } else {
            Err(InvalidCardId)
        }
    }
}

impl fmt::Display for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(core::str::from_utf8(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for CardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A prompt of the agent's client. Its texts may be anything.
#[derive(Clone, PartialEq, Eq)]
pub struct PermissionRequest {
    /// Its name.
    pub id: CardId,
    /// The tool that asks.
    pub tool: String,
    /// What it says that it wants to do.
    pub description: String,
    /// The start of its input.
    pub preview: String,
}

impl fmt::Debug for PermissionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PermissionRequest({})", self.id)
    }
}

impl PermissionRequest {
    /// The card, as it is whispered to an approver.
    pub fn card(&self, from: &SessionPath, expires: UnixMillis) -> String {
        let id = self.id;
        format!(
            "{HEADER}{id}\nfrom: {from}\ntool: {}\ndescription:\n{}\ninput:\n{}\nexpires: {}\nThe texts above are \
             what the tool says of itself. Answer once, by whispering `yes {id}` or `no {id}` to {from}, with \
             `conclave approve {id}` or `conclave deny {id}` (with `--to` that session), or with the tool submit_permission if your user says so.",
            one_line(&self.tool, 200),
            indented(&self.description, 1000),
            indented(&self.preview, 2000),
            expires.rfc3339(),
        )
    }
}

/// Every line set in, so that none of them can pass for a line of the card.
fn indented(text: &str, limit: usize) -> String {
    let cut = &text[..text.floor_char_boundary(limit)];
    let mut shown = String::new();
    for line in visible(cut).lines() {
        if !shown.is_empty() {
            shown.push('\n');
        }
        shown.push_str("  ");
        shown.push_str(line);
    }
    if shown.is_empty() {
        shown.push_str("  (nothing)");
    }
    if cut.len() < text.len() {
        shown.push_str(&format!(" … ({} bytes more)", text.len() - cut.len()));
    }
    shown
}

/// The prompt that a whispered card is about.
pub(crate) fn card_id(text: &str) -> Option<CardId> {
    text.lines().next()?.strip_prefix(HEADER)?.trim_end().parse().ok()
}

/// What a whisper decides, if it is a verdict: `yes ID` or `no ID`.
pub fn verdict(text: &str) -> Option<(CardId, bool)> {
    let mut words = text.split_whitespace();
    let (word, id, None) = (words.next()?, words.next()?, words.next()) else { return None };
    let allow = match () {
        () if word.eq_ignore_ascii_case("yes") => true,
        () if word.eq_ignore_ascii_case("no") => false,
        () => return None,
    };
    Some((id.parse().ok()?, allow))
}

/// Who may answer prompts, as the human wrote it: `user@server`, split at the last `@`, or `user`. A user without a
/// server is one only where a single server is linked: the same name on another may be anybody's. A user's name may
/// have the sign in it, too, and is then written with its server: `alice@example.org@conclave.example`. So one text
/// names one person, and nobody can register as the whole of it. A server is its host with the port: on another port there may
/// be anybody's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Approver {
    user: UserName,
    server: Option<String>,
}

impl Approver {
    /// The user's name.
    pub(crate) fn user(&self) -> &UserName {
        &self.user
    }

    /// True if this is `user` on `server`, one of `servers` in all.
    pub fn is(&self, user: &UserName, server: &Server, servers: usize) -> bool {
        self.user == *user && self.may_be_on(server, servers)
    }

    /// True if somebody on `server`, one of `servers` in all, may be meant.
    pub(crate) fn may_be_on(&self, server: &Server, servers: usize) -> bool {
        self.server.as_ref().map_or(servers == 1, |named| server.is(named))
    }
}

impl FromStr for Approver {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let text = text.trim();
        let (user, server) =
            text.rsplit_once('@').map_or((text, None), |(user, server)| (user, Some(server)));
        if server.is_some_and(str::is_empty) {
            return Err(InvalidName::Empty);
        }
        Ok(Self { user: UserName::new(user)?, server: server.map(String::from) })
    }
}

impl fmt::Display for Approver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.user.fmt(f)?;
        self.server.iter().try_for_each(|server| write!(f, "@{server}"))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Own {
    pub(crate) request: PermissionRequest,
    pub(crate) until: Monotonic,
    pub(crate) expires: UnixMillis,
    /// The servers on which it was relayed.
    pub(crate) relayed: BTreeSet<Server>,
}

/// A card of another session that waits for this one's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub(crate) server: Server,
    pub(crate) from: SessionPath,
    pub(crate) id: CardId,
    /// What it says, as it came; its beginning, if it is long.
    pub(crate) text: Opaque<String>,
    until: Monotonic,
}

/// What a verdict comes to, as whoever gave it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It decided.
    Accepted,
    /// The request had been answered before, or had expired.
    TooLate,
    /// There is no such request.
    Unknown,
}

impl Decision {
    const ALL: [Self; 3] = [Self::Accepted, Self::TooLate, Self::Unknown];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::TooLate => "too late",
            Self::Unknown => "unknown",
        }
    }

    /// The whisper that tells it.
    pub fn whisper(self, id: CardId) -> String {
        format!("{DECIDED}{id}: {}", self.as_str())
    }

    /// Reads such a whisper.
    pub fn read(text: &str) -> Option<(CardId, Self)> {
        let (id, word) = text.strip_prefix(DECIDED)?.split_once(": ")?;
        let decision = Self::ALL.into_iter().find(|decision| decision.as_str() == word)?;
        Some((id.parse().ok()?, decision))
    }
}

/// The cards that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cards {
    pub(crate) own: BTreeMap<CardId, Own>,
    /// Own cards that are not open any more, the newest last.
    closed: VecDeque<CardId>,
    pub(crate) foreign: Vec<Foreign>,
}

impl Cards {
    /// Opens a card for a prompt; the oldest makes room. False if it is not to be relayed: the same name stands for
    /// another text, so that an answer to either could be taken for one to the other.
    pub(crate) fn open(&mut self, now: Monotonic, expires: UnixMillis, request: PermissionRequest) -> bool {
        if let Some(open) = self.own.get(&request.id) {
            if open.request != request {
                self.own.remove(&request.id);
            }
            return false;
        }
        // The client never says what its user has answered: most that are old are.
        if self.own.len() >= MAX_OPEN
            && let Some(oldest) = self.own.iter().min_by_key(|(_, card)| card.until).map(|(id, _)| *id)
        {
            self.own.remove(&oldest);
        }
        let own = Own { until: now + CARD_LIFETIME, expires, relayed: BTreeSet::new(), request };
        self.own.insert(own.request.id, own);
        true
    }

    /// Takes in a card of another session. The oldest makes room.
    pub(crate) fn receive(
        &mut self,
        now: Monotonic,
        (server, from): (&Server, &SessionPath),
        id: CardId,
        text: &str,
    ) {
        self.foreign.retain(|card| (&card.server, &card.from, card.id) != (server, from, id));
        if self.foreign.len() >= MAX_OPEN {
            self.foreign.remove(0);
        }
        let until = now + CARD_LIFETIME;
        let text = Opaque(String::from(&text[..text.floor_char_boundary(MAX_CARD)]));
        self.foreign.push(Foreign { server: server.clone(), from: from.clone(), id, text, until });
    }

    /// What a verdict on an own card comes to. An open card is closed by it.
    pub(crate) fn decide(&mut self, id: CardId) -> Decision {
        if self.own.remove(&id).is_some() {
            self.close(id);
            return Decision::Accepted;
        }
        if self.closed.contains(&id) { Decision::TooLate } else { Decision::Unknown }
    }

    fn close(&mut self, id: CardId) {
        if self.closed.len() >= MAX_CLOSED {
            self.closed.pop_front();
        }
        self.closed.push_back(id);
    }

    /// Forgets what has expired.
    pub(crate) fn expire(&mut self, now: Monotonic) {
        let late = |(id, card): (&CardId, &Own)| (card.until <= now).then_some(*id);
        for id in self.own.iter().filter_map(late).collect::<Vec<_>>() {
            self.own.remove(&id);
            self.close(id);
        }
        self.foreign.retain(|card| now < card.until);
    }

    pub(crate) fn next_expiry(&self) -> Option<Monotonic> {
        self.own.values().map(|card| card.until).chain(self.foreign.iter().map(|card| card.until)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;
    use proptest::prelude::*;

    fn request(text: &str) -> PermissionRequest {
        let id = "abcde".parse().unwrap();
        let text = String::from(text);
        PermissionRequest { id, tool: text.clone(), description: text.clone(), preview: text }
    }

    #[test]
    fn verdicts_are_two_words() {
        let id = "abcde".parse().unwrap();
        assert_eq!(verdict("yes abcde"), Some((id, true)));
        assert_eq!(verdict(" No  ABCDE\n"), Some((id, false)));
        for text in ["yes", "yes abcdl", "yes abcde now", "ja abcde", "yes abcdef", ""] {
            assert_eq!(verdict(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_approver_on_one_server_is_nobody_on_another() {
        let (a, b) = (Server::new("wss://a"), Server::new("wss://b"));
        let alice = UserName::new("alice").unwrap();
        let [bare, named] = ["alice", "alice@a"].map(|text| text.parse::<Approver>().unwrap());
        assert!(bare.is(&alice, &a, 1) && !bare.is(&alice, &a, 2));
        assert!(named.is(&alice, &a, 2) && named.is(&alice, &a, 1) && !named.is(&alice, &b, 2));
        assert!(!named.is(&UserName::new("bob").unwrap(), &a, 2));
        assert_eq!(named.to_string(), "alice@a");
    }

    #[test]
    fn nobody_becomes_an_approver_by_registering_as_what_the_human_wrote() {
        let a = Server::new("wss://a");
        let taken = UserName::new("alice@a").unwrap();
        assert!(!"alice@a".parse::<Approver>().unwrap().is(&taken, &a, 1));
        assert!("alice@a@a".parse::<Approver>().unwrap().is(&taken, &a, 1));
        for text in ["", "@a", "alice@", "a/b@a"] {
            assert!(text.parse::<Approver>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_same_name_for_another_text_closes_the_card() {
        let mut cards = Cards::default();
        assert!(cards.open(Monotonic(0), UnixMillis(0), request("a")));
        assert!(!cards.open(Monotonic(0), UnixMillis(0), request("a")));
        assert_eq!(cards.own.len(), 1);
        assert!(!cards.open(Monotonic(0), UnixMillis(0), request("b")));
        assert_eq!(cards.own.len(), 0);
    }

    proptest! {
        #[test]
        fn no_text_forges_a_line_of_its_card(text in any::<String>(), more in "(\nexpires: never|\r\nAnswer|x){0,9}") {
            let from = SessionPath::new("u", "m", "s").unwrap();
            let card = request(&(text + &more)).card(&from, UnixMillis(0));
            let outer = card.lines().filter(|line| !line.starts_with("  ")).count();
            prop_assert_eq!(outer, 7);
            prop_assert_eq!(card_id(&card), "abcde".parse().ok());
            prop_assert!(card.len() < 24_000);
        }
    }
}
