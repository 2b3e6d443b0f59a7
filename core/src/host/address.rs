//! Whether a text addresses an agent. Mentions are of users; an agent is one session of a user, and is addressed by its name.

use crate::name::SessionPath;

/// Whether `text` has `@name`, `@user/name` or `@user/machine/name` as a word, for the agent's session `path`.
pub fn is_addressed(text: &str, path: &SessionPath) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
    text.match_indices('@').any(|(at, _)| {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| is_part(c) || matches!(c, '@' | '+')) {
            return false;
        }
        let rest = &text[at + 1..];
        names(rest, path).any(|name| {
            let Some(after) = rest.get(name..) else { return false };
            // A full stop, or a hyphen, behind it ends a sentence; before a letter it goes on with the name.
            let after = after.trim_start_matches(['.', '-']);
            !after.starts_with(is_part)
                || after.starts_with('/') && after[1..].starts_with(char::is_whitespace)
        })
    })
}

/// The lengths of the ways of writing the session with which `rest` begins.
fn names<'a>(rest: &'a str, path: &'a SessionPath) -> impl Iterator<Item = usize> + 'a {
    let (user, machine, session) = (path.user.as_str(), path.machine.as_str(), path.session.as_str());
    let ways: [&[&str]; 3] = [&[session], &[user, session], &[user, machine, session]];
    let ways = ways.map(|parts| {
        let mut left = rest;
        for (nth, part) in parts.iter().enumerate() {
            if nth > 0 {
                left = left.strip_prefix('/')?;
            }
            left = left.strip_prefix(part)?;
        }
        Some(rest.len() - left.len())
    });
    ways.into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn path() -> SessionPath {
        SessionPath::new("aaron", "desk", "reviewer").unwrap()
    }

    #[test]
    fn an_agent_is_addressed_by_its_name_with_or_without_its_user() {
        for text in [
            "@reviewer please look",
            "please look, @reviewer.",
            "(@reviewer)",
            "@aaron/reviewer: look",
            "@aaron/desk/reviewer",
            "mail me@example.org, @reviewer",
            "@reviewer... now",
        ] {
            assert!(is_addressed(text, &path()), "{text}");
        }
        for text in [
            "reviewer, look",
            "@reviewers",
            "@reviewer-2",
            "@reviewer.two",
            "me@reviewer",
            "@@reviewer",
            "@bea/reviewer",
            "@aaron",
            "@aaron/other/reviewer",
            "@reviewer/aaron",
        ] {
            assert!(!is_addressed(text, &path()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>(), session in "[^/\\s\\p{C}]{1,9}") {
            if let Ok(path) = SessionPath::new("a", "m", &session) {
                is_addressed(&text, &path);
            }
        }
    }
}
