//! What no log may show.

use core::fmt;
use core::ops::{Deref, DerefMut};

/// Bytes or a text with somebody's words or secrets in it: `Debug` tells how long it is, and nothing else.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Opaque<T>(pub T);

impl<T: AsRef<[u8]>> fmt::Debug for Opaque<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.0.as_ref().len())
    }
}

impl<T> Deref for Opaque<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Opaque<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
