//! Names, and the paths made of them. A name that exists is a valid one.

use alloc::string::String;
use alloc::sync::Arc;
use core::borrow::Borrow;
use core::fmt;
use core::str::FromStr;

use crate::text::is_unsafe;

/// The longest name, in bytes of UTF-8.
pub const MAX_NAME_LEN: usize = 128;

/// Why a text is not a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum InvalidName {
    /// It has no characters.
    #[error("a name cannot be empty")]
    Empty,
    /// It is longer than [`MAX_NAME_LEN`].
    #[error("a name has at most {MAX_NAME_LEN} bytes")]
    TooLong,
    /// It contains `/`, a control character, or one that is not seen.
    #[error("a name cannot contain '/', control or invisible characters")]
    Character,
    /// It starts or ends with white space.
    #[error("a name cannot start or end with white space")]
    Space,
    /// A session path has not exactly three parts.
    #[error("a session is written user/machine/session")]
    Path,
}

/// Why a name that is valid may not become anyone's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum UnfitName {
    /// It is longer than the server allows.
    #[error("a new name has at most {most} bytes here")]
    TooLong {
        /// What the server allows.
        most: usize,
    },
    /// It has characters that are drawn as nothing, or white space other than U+0020.
    #[error("a new name cannot contain characters that look blank")]
    Blank,
    /// It is not in Unicode's normalization form C: others could not type it.
    #[error(
        "a new name must be in Unicode's normalization form C: write accented letters as one character each"
    )]
    NotComposed,
}

/// Whether a name may become somebody's or something's. Those that exist are not judged.
///
/// # Errors
/// [`UnfitName`], which says what is wrong with it.
pub(crate) fn fit(name: &str, most: usize) -> Result<(), UnfitName> {
    if name.len() > most {
        return Err(UnfitName::TooLong { most });
    }
    if name.chars().any(|c| is_blank(c) || (c.is_whitespace() && c != ' ')) {
        return Err(UnfitName::Blank);
    }
    if !unicode_normalization::is_nfc(name) {
        return Err(UnfitName::NotComposed);
    }
    Ok(())
}

/// True for what fonts draw as an empty space although it is none: blank braille, a musical note without a head, the
/// empty hieroglyphs, and the Khitan filler.
fn is_blank(c: char) -> bool {
    matches!(c, '\u{2800}' | '\u{1d159}' | '\u{13441}'..='\u{13442}' | '\u{16fe4}')
}

fn check(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > MAX_NAME_LEN {
        return Err(InvalidName::TooLong);
    }
    if text.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
        return Ok(());
    }
    if text.chars().any(|c| c == '/' || is_unsafe(c)) {
        return Err(InvalidName::Character);
    }
    if text.trim().len() != text.len() {
        return Err(InvalidName::Space);
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        ///
        /// 1 to 128 bytes of UTF-8 without `/`, control, invisible or bidirectional-override characters, and
        /// without white space at either end. Cloning counts a reference.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as a name.
            ///
            /// # Errors
            /// [`InvalidName`], which says what is wrong with it.
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                check(text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    )*};
}

names! {
    /// The name of a user, unique on a server.
    UserName;
    /// The name of a machine, unique within its user.
    MachineName;
    /// The handle of a session, unique among its machine's live sessions.
    Handle;
    /// The name of a channel, unique on a server.
    ChannelName;
    /// A name of any kind, where the kind does not matter or is not known.
    Name;
}

macro_rules! any_name {
    ($($name:ident),*) => {$(
        impl From<$name> for Name {
            fn from(name: $name) -> Self {
                Self(name.0)
            }
        }
    )*};
}

any_name!(UserName, MachineName, ChannelName);

/// Who takes part: `user/machine/session`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionPath {
    /// The user.
    pub user: UserName,
    /// The machine, a key of that user.
    pub machine: MachineName,
    /// The live session on that machine.
    pub session: Handle,
}

impl SessionPath {
    /// Checks the three parts.
    ///
    /// # Errors
    /// [`InvalidName`] for the first part that is none.
    pub fn new(user: &str, machine: &str, session: &str) -> Result<Self, InvalidName> {
        Ok(Self {
            user: UserName::new(user)?,
            machine: MachineName::new(machine)?,
            session: Handle::new(session)?,
        })
    }
}

impl FromStr for SessionPath {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(user), Some(machine), Some(session), None) => Self::new(user, machine, session),
            _ => Err(InvalidName::Path),
        }
    }
}

impl fmt::Display for SessionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_some() {
            return f.pad(&alloc::format!("{}/{}/{}", self.user, self.machine, self.session));
        }
        write!(f, "{}/{}/{}", self.user, self.machine, self.session)
    }
}

impl fmt::Debug for SessionPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a name out of any text, for defaults such as a directory's or a host's name: what may not stand in a
/// name becomes `-`, and what remains empty becomes `fallback`.
pub fn sanitize(text: &str, fallback: &str) -> String {
    let mut name = String::new();
    for c in text.trim().chars() {
        let c = if c == '/' || is_unsafe(c) || c.is_whitespace() { '-' } else { c };
        if name.len() + c.len_utf8() > MAX_NAME_LEN {
            break;
        }
        name.push(c);
    }
    if name.is_empty() { String::from(fallback) } else { name }
}

/// Another server's name for something, whatever it is: one that is none by our rules is shown with `U+FFFD` at its front
/// and in place of what may not stand in it, so that it is seen to be foreign and equals nobody's name.
pub(crate) fn foreign<N>(text: &str, new: impl Fn(&str) -> Result<N, InvalidName>) -> N {
    if let Ok(name) = new(text) {
        return name;
    }
    let mut shown = String::from(char::REPLACEMENT_CHARACTER);
    for c in text.trim().chars() {
        let c = if c == '/' || is_unsafe(c) { char::REPLACEMENT_CHARACTER } else { c };
        if shown.len() + c.len_utf8() > MAX_NAME_LEN {
            break;
        }
        shown.push(c);
    }
    // The cut may have left white space at the end; the front is not white.
    match new(shown.trim_end()) {
        Ok(name) => name,
        Err(_) => unreachable!("what is left has the first character and none that a name refuses"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString as _;
    use proptest::prelude::*;

    #[test]
    fn names_are_refused_for_what_the_protocol_refuses() {
        for (text, why) in [
            ("", InvalidName::Empty),
            ("a/b", InvalidName::Character),
            ("a\u{0}b", InvalidName::Character),
            ("a\u{202e}b", InvalidName::Character),
            ("a\u{200b}b", InvalidName::Character),
            ("\u{85}", InvalidName::Character),
            (" a", InvalidName::Space),
            ("a\u{3000}", InvalidName::Space),
            (&"x".repeat(129), InvalidName::TooLong),
        ] {
            assert_eq!(UserName::new(text), Err(why), "{text:?}");
        }
        for text in ["\u{2800}", "e\u{301}", "a\u{a0}b", "a\u{3000}b"] {
            assert!(UserName::new(text).is_ok(), "{text:?} exists somewhere");
            assert!(fit(text, 64).is_err(), "{text:?}");
        }
        assert_eq!(fit(&"x".repeat(65), 64), Err(UnfitName::TooLong { most: 64 }));
        for text in ["a b", "\u{e9}", "日本", "x"] {
            assert_eq!(fit(text, 64), Ok(()), "{text:?}");
        }
        for text in ["a", "ä ö", "日本", "a b", "!", &"x".repeat(128)] {
            assert!(ChannelName::new(text).is_ok(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn a_path_reads_back_as_it_was_shown(user in "[a-zé ]{1,9}", machine in "\\PC{1,9}", session in "[^/]{1,9}") {
            if let Ok(path) = SessionPath::new(&user, &machine, &session) {
                prop_assert_eq!(path.to_string().parse::<SessionPath>(), Ok(path));
            }
        }

        #[test]
        fn whatever_is_sanitized_is_a_name(text in any::<String>()) {
            prop_assert!(Handle::new(&sanitize(&text, "agent")).is_ok());
        }
    }
}
