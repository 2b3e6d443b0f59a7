//! What names look like: two names with a look in common are easily taken for each other.
//!
//! A look is the skeleton of Unicode Technical Standard 39. That standard keeps `Root` and `root` apart. Folding case
//! before it would take `I` for `i` and no longer for `l`, folding it afterwards only would miss `LIL` beside `lil`: a
//! name has both looks.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use unicode_security::skeleton;

/// One look of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Look(Box<str>);

/// The looks of a name: one or two.
pub(crate) fn looks(name: &str) -> impl Iterator<Item = Look> {
    let folded = of(&name.to_lowercase());
    let skeleton: String = skeleton(name).collect();
    let other = Some(of(&skeleton.to_lowercase())).filter(|other| *other != folded);
    core::iter::once(folded).chain(other)
}

fn of(text: &str) -> Look {
    let mut look = String::with_capacity(text.len());
    // Nobody counts blanks.
    for c in skeleton(text) {
        if c != ' ' || !look.ends_with(' ') {
            look.push(c);
        }
    }
    Look(look.into())
}

/// Names by their looks, of whatever has them. Few have a look in common: only those that an older version let in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Looks<T>(BTreeMap<Look, Vec<T>>);

impl<T> Default for Looks<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T: Ord + Clone> Looks<T> {
    pub(super) fn add(&mut self, name: &str, of: &T) {
        for look in looks(name) {
            let all = self.0.entry(look).or_default();
            if let Err(at) = all.binary_search(of) {
                all.reserve_exact(1);
                all.insert(at, of.clone());
            }
        }
    }

    pub(super) fn remove(&mut self, name: &str, of: &T) {
        for look in looks(name) {
            let Some(all) = self.0.get_mut(&look) else { continue };
            all.retain(|other| other != of);
            if all.is_empty() {
                self.0.remove(&look);
            }
        }
    }

    /// Whatever has a name that looks like this one.
    pub(super) fn like(&self, name: &str) -> BTreeSet<&T> {
        looks(name).filter_map(|look| self.0.get(&look)).flatten().collect()
    }

    /// Whether these names, and no others, are in it.
    pub(super) fn is_of<'a>(&self, names: impl Iterator<Item = (&'a str, T)>) -> bool {
        let mut fresh = Self::default();
        names.for_each(|(name, of)| fresh.add(name, &of));
        self.0 == fresh.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alike(one: &str, other: &str) -> bool {
        let mut names = Looks::default();
        names.add(one, &1);
        !names.like(other).is_empty()
    }

    #[test]
    fn names_that_are_taken_for_each_other_look_alike() {
        for (one, other) in [
            ("root", "Root"),
            ("root", "r00t"),
            ("paypal", "paypaI"),
            ("paypal", "p\u{430}yp\u{430}l"),
            ("LIL", "lil"),
            ("mary", "Mary"),
            ("com", "corn"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("on call", "on  call"),
            ("on call", "on\u{a0}call"),
            ("ops", "ops\u{200b}"),
            ("stra\u{df}e", "STRA\u{1e9e}E"),
        ] {
            assert!(alike(one, other) && alike(other, one), "{one:?} {other:?}");
        }
        for (one, other) in
            [("bea", "ben"), ("ops", "ops2"), ("a-b", "ab"), ("\u{65e5}\u{672c}", "\u{672c}\u{65e5}")]
        {
            assert!(!alike(one, other), "{one:?} {other:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_removed_is_gone(names in proptest::collection::vec("[a-bA-BlI1]{1,3}", 1..8)) {
            let mut all = Looks::default();
            names.iter().enumerate().for_each(|(at, name)| all.add(name, &at));
            for (at, name) in names.iter().enumerate() {
                prop_assert!(all.like(name).contains(&at));
                prop_assert!(all.is_of(names.iter().enumerate().skip(at).map(|(at, name)| (name.as_str(), at))));
                all.remove(name, &at);
                prop_assert!(!all.like(name).contains(&at));
            }
            prop_assert_eq!(all, Looks::default());
        }
    }
}
