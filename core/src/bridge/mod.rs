//! The bridge between an agent's client and the channels: everything that decides, and nothing that speaks.

mod card;
mod frame;
mod guard;
mod inbox;
mod level;
mod line;

pub use card::{Approver, CARD_LIFETIME, CardId, InvalidCardId, PermissionRequest, verdict};
pub use frame::{Framed, Place, body, escape, one_line, preamble};
pub use guard::Budget;
pub use inbox::{Dropped, Entry, Inbox, Message, Notice, Page, Source, Unread};
pub use level::{Level, Levels, Permissions, Scope, Server, UnknownLevel};
pub use line::{Line, LineReader, MAX_LINE};
