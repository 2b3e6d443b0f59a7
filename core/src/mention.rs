//! Who is mentioned in a text. A message carries the numbers of the users who are meant, which its signature covers; a name
//! is only how its sender typed them, and the server says whose number it is.

use alloc::vec::Vec;

use crate::name::UserName;
use crate::payload::Payload;
use crate::record::UserId;

/// Users that one message mentions, as it is sent.
pub const MAX_MENTIONS: usize = 16;

/// The names that a text mentions as `@name`, each once, in their order: at most [`MAX_MENTIONS`]. Whether somebody has that
/// name is for the server to say. Letters, digits, `_`, `-` and `.` make a name here, and a word that goes on before the `@`
/// makes none, as in an address.
pub fn in_text(text: &str) -> Vec<UserName> {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut found: Vec<UserName> = Vec::new();
    for (at, _) in text.match_indices('@') {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| is_part(c) || matches!(c, '@' | '/' | '+')) {
            continue;
        }
        let rest = &text[at + 1..];
        let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        // A full stop behind it ends the sentence.
        if let Ok(name) = UserName::new(rest[..end].trim_end_matches(['.', '-']))
            && !found.contains(&name)
        {
            found.push(name);
            if found.len() == MAX_MENTIONS {
                break;
            }
        }
    }
    found
}

/// Who is to be mentioned: the names that were given, and those that stand in the text.
pub fn wanted(given: &[UserName], text: &str) -> Vec<Wanted> {
    let given = given.iter().map(|name| Wanted { name: name.clone(), must: true });
    let mut all: Vec<Wanted> = given.collect();
    for name in in_text(text) {
        if all.len() < MAX_MENTIONS && !all.iter().any(|wanted| wanted.name == name) {
            all.push(Wanted { name, must: false });
        }
    }
    all
}

/// A user who is to be mentioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The name.
    pub name: UserName,
    /// Whether the message must not go out without them. A name that stands in the text may be no user's.
    pub must: bool,
}

/// Whether a message mentions a user.
pub fn mentions(payload: &Payload, user: Option<UserId>) -> bool {
    match (payload, user) {
        (Payload::Body(body), Some(user)) => crate::body::context(body).mentions.contains(&user),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn names(text: &str) -> Vec<String> {
        in_text(text).iter().map(|name| String::from(name.as_str())).collect()
    }

    #[test]
    fn a_name_is_mentioned_behind_an_at_and_an_address_is_none() {
        assert_eq!(names("@bob: look, (@ann.b) and @bob again, @zoë."), ["bob", "ann.b", "zoë"]);
        assert_eq!(names("mail bob@example.org, npm i x/@y, a @, @@bob"), Vec::<String>::new());
        assert_eq!(names(&"@a @b ".repeat(99)), ["a", "b"]);
        let many: String = (0..99).map(|n| alloc::format!("@u{n} ")).collect();
        assert_eq!(names(&many).len(), MAX_MENTIONS);
    }

    #[test]
    fn who_is_given_stands_first_and_must_be_there() {
        let bob = UserName::new("bob").unwrap();
        let all = wanted(core::slice::from_ref(&bob), "@ann and @bob");
        let ann = Wanted { name: UserName::new("ann").unwrap(), must: false };
        assert_eq!(all, [Wanted { name: bob, must: true }, ann]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            prop_assert!(in_text(&text).len() <= MAX_MENTIONS);
        }
    }
}
