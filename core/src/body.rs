//! The body of a message of version 2, read in place. It is protobuf (`Body` in `proto/conclave/v2/conclave.proto`), kept
//! exactly as its sender encoded it, since the sender's signature covers those bytes.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::record::{MachineId, UserId};

/// What a body says, borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum View<'a> {
    /// A readable text.
    Text(&'a str),
    /// A ciphertext and the name of its key.
    Sealed {
        /// The encrypted bytes.
        ciphertext: &'a [u8],
        /// Which key opens them.
        key_id: Option<&'a str>,
        /// In a sealed channel, the epoch of its group; elsewhere 0.
        epoch: u64,
    },
    /// A change of a sealed channel's group; [`commit`] reads all of it.
    Commit {
        /// The epoch in which it was made.
        epoch: u64,
        /// The MLS commit.
        commit: &'a [u8],
    },
}

/// Bytes that are no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a message body")]
pub struct NotABody;

/// Reads a body.
///
/// # Errors
/// [`NotABody`] for bytes that are no protobuf, have neither member, or a text that is not UTF-8.
pub fn view(body: &[u8]) -> Result<View<'_>, NotABody> {
    // Of a oneof the last member counts.
    let mut found = None;
    for field in fields(body) {
        match field? {
            (1, Value::Bytes(content)) => found = Some((1, content)),
            (2, Value::Bytes(sealed)) => found = Some((2, sealed)),
            (3, Value::Bytes(commit)) => found = Some((3, commit)),
            _ => {}
        }
    }
    let (member, content) = found.ok_or(NotABody)?;
    if member == 3 {
        let commit = read_commit(content)?;
        return Ok(View::Commit { epoch: commit.epoch, commit: commit.commit });
    }
    if member == 1 {
        let mut text = "";
        for field in fields(content) {
            if let (2, Value::Bytes(bytes)) = field? {
                text = core::str::from_utf8(bytes).map_err(|_| NotABody)?;
            }
        }
        return Ok(View::Text(text));
    }
    let (mut ciphertext, mut key_id, mut epoch) = (&[][..], None, 0);
    for field in fields(content) {
        match field? {
            (1, Value::Bytes(bytes)) => ciphertext = bytes,
            (2, Value::Bytes(bytes)) => key_id = Some(core::str::from_utf8(bytes).map_err(|_| NotABody)?),
            (3, Value::Number(number)) => epoch = number,
            _ => {}
        }
    }
    Ok(View::Sealed { ciphertext, key_id: key_id.filter(|id| !id.is_empty()), epoch })
}

/// A change of a sealed channel's group, borrowed from its body.
#[derive(Clone, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The epoch in which it was made.
    pub epoch: u64,
    /// The MLS commit.
    pub commit: &'a [u8],
    /// The machines that it adds.
    pub adds: Vec<MachineId>,
    /// The machines that it removes.
    pub removes: Vec<MachineId>,
    /// Whether the sender's machine joins the group by it.
    pub external: bool,
}

/// Machines that one commit may add, and that it may remove.
pub const MAX_CHANGED: usize = 4096;

/// Reads a body that is a commit.
///
/// # Errors
/// [`NotABody`] for any other body, and for one that names more than [`MAX_CHANGED`] machines.
pub fn commit(body: &[u8]) -> Result<Commit<'_>, NotABody> {
    let mut found = None;
    for field in fields(body) {
        match field? {
            (1 | 2, Value::Bytes(_)) => found = None,
            (3, Value::Bytes(commit)) => found = Some(commit),
            _ => {}
        }
    }
    read_commit(found.ok_or(NotABody)?)
}

fn read_commit(content: &[u8]) -> Result<Commit<'_>, NotABody> {
    let mut read = Commit { epoch: 0, commit: &[], adds: Vec::new(), removes: Vec::new(), external: false };
    let name = |list: &mut Vec<MachineId>, number: u64| {
        let machine = number.checked_sub(1).filter(|_| list.len() < MAX_CHANGED).ok_or(NotABody)?;
        list.push(MachineId(machine));
        Ok::<_, NotABody>(())
    };
    for field in fields(content) {
        match field? {
            (1, Value::Number(epoch)) => read.epoch = epoch,
            (2, Value::Bytes(bytes)) => read.commit = bytes,
            (3, Value::Number(machine)) => name(&mut read.adds, machine)?,
            (4, Value::Number(machine)) => name(&mut read.removes, machine)?,
            (field @ (3 | 4), Value::Bytes(mut packed)) => {
                let list = if field == 3 { &mut read.adds } else { &mut read.removes };
                while !packed.is_empty() {
                    name(list, varint(&mut packed)?)?;
                }
            }
            (5, Value::Number(external)) => read.external = external != 0,
            _ => {}
        }
    }
    Ok(read)
}

/// What a readable message says beside its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// The message of the same stream that this one answers.
    pub reply_to: Option<u64>,
    /// Who is meant.
    pub mentions: Vec<UserId>,
    /// How many messages in a row agents have written, this one included; 0 for a message that no agent wrote.
    pub hops: u32,
    /// The greatest `hops` that the sender's human allows; 0 for no limit.
    pub budget: u32,
}

/// Users that are read from one body.
const MAX_MENTIONS: usize = 64;

/// Reads what a body says beside its text. Nothing, for a ciphertext and for what is no body.
pub fn context(body: &[u8]) -> Context {
    let mut context = Context::default();
    let content = fields(body).filter_map(Result::ok).fold(None, |found, field| match field {
        (1, Value::Bytes(content)) => Some(content),
        (2 | 3, Value::Bytes(_)) => None,
        _ => found,
    });
    for field in fields(content.unwrap_or_default()).map_while(Result::ok) {
        match field {
            (3, Value::Number(seq)) => context.reply_to = Some(seq).filter(|seq| *seq != 0),
            (4, Value::Number(user)) => mention(&mut context, user),
            (4, Value::Bytes(mut packed)) => {
                while let Ok(user) = varint(&mut packed) {
                    mention(&mut context, user);
                }
            }
            (6, Value::Number(hops)) => context.hops = hops as u32,
            (7, Value::Number(budget)) => context.budget = budget as u32,
            _ => {}
        }
    }
    context
}

fn mention(context: &mut Context, user: u64) {
    if let Some(user) = user.checked_sub(1)
        && context.mentions.len() < MAX_MENTIONS
    {
        context.mentions.push(UserId(user));
    }
}

/// The body of a text and what is said beside it.
pub fn of_content(text: &str, context: &Context) -> Bytes {
    let mut content = Vec::with_capacity(text.len() + 32);
    put_bytes(&mut content, 2, text.as_bytes());
    put_number(&mut content, 3, context.reply_to.unwrap_or_default());
    let mut mentions = Vec::new();
    context.mentions.iter().for_each(|user| put_varint(&mut mentions, user.0.saturating_add(1)));
    put_bytes(&mut content, 4, &mentions);
    put_number(&mut content, 6, context.hops.into());
    put_number(&mut content, 7, context.budget.into());
    let mut body = Vec::with_capacity(content.len() + 8);
    put_message(&mut body, 1, &content);
    body.into()
}

/// The body of a plain text.
pub fn of_text(text: &str) -> Bytes {
    let mut content = Vec::with_capacity(text.len() + 8);
    put_bytes(&mut content, 2, text.as_bytes());
    let mut body = Vec::with_capacity(content.len() + 8);
    put_message(&mut body, 1, &content);
    body.into()
}

/// The body of a message that was sealed in an epoch.
pub fn of_sealed(ciphertext: &[u8], epoch: u64) -> Bytes {
    let mut sealed = Vec::with_capacity(ciphertext.len() + 24);
    put_bytes(&mut sealed, 1, ciphertext);
    put_number(&mut sealed, 3, epoch);
    let mut body = Vec::with_capacity(sealed.len() + 8);
    put_message(&mut body, 2, &sealed);
    body.into()
}

/// The body of a commit.
pub fn of_commit(commit: &Commit<'_>) -> Bytes {
    let mut inner = Vec::with_capacity(commit.commit.len() + 32);
    put_number(&mut inner, 1, commit.epoch);
    put_bytes(&mut inner, 2, commit.commit);
    for (field, machines) in [(3, &commit.adds), (4, &commit.removes)] {
        let mut packed = Vec::new();
        machines.iter().for_each(|machine| put_varint(&mut packed, machine.0.saturating_add(1)));
        put_bytes(&mut inner, field, &packed);
    }
    put_number(&mut inner, 5, commit.external.into());
    let mut body = Vec::with_capacity(inner.len() + 8);
    put_message(&mut body, 3, &inner);
    body.into()
}

/// The body of a ciphertext.
pub fn of_ciphertext(ciphertext: &[u8], key_id: Option<&str>) -> Bytes {
    let mut sealed = Vec::with_capacity(ciphertext.len() + 16);
    put_bytes(&mut sealed, 1, ciphertext);
    put_bytes(&mut sealed, 2, key_id.unwrap_or_default().as_bytes());
    let mut body = Vec::with_capacity(sealed.len() + 8);
    put_message(&mut body, 2, &sealed);
    body.into()
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
    Other,
}

/// The fields of a protobuf message, one by one: number and value.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u64, Value<'_>), NotABody>> {
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u64, Value<'a>), NotABody> {
    let tag = varint(rest)?;
    if tag >> 3 == 0 || tag > u64::from(u32::MAX) {
        return Err(NotABody);
    }
    let mut skip = |count: usize| {
        let (skipped, left) = rest.split_at_checked(count).ok_or(NotABody)?;
        *rest = left;
        Ok(skipped)
    };
    let value = match tag & 7 {
        0 => Value::Number(varint(rest)?),
        1 => skip(8).map(|_| Value::Other)?,
        5 => skip(4).map(|_| Value::Other)?,
        2 => {
            let len = usize::try_from(varint(rest)?).map_err(|_| NotABody)?;
            let (bytes, left) = rest.split_at_checked(len).ok_or(NotABody)?;
            *rest = left;
            Value::Bytes(bytes)
        }
        _ => return Err(NotABody),
    };
    Ok((tag >> 3, value))
}

fn varint(rest: &mut &[u8]) -> Result<u64, NotABody> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, left) = rest.split_first().ok_or(NotABody)?;
        *rest = left;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            // The tenth byte has room for one bit.
            return if shift == 63 && *first > 1 { Err(NotABody) } else { Ok(value) };
        }
    }
    Err(NotABody)
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number, unless it is 0.
pub(crate) fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(field) << 3);
        put_varint(out, value);
    }
}

/// Appends bytes or a text, unless they are empty.
pub(crate) fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

/// Appends an encoded message, even an empty one.
pub(crate) fn put_message(out: &mut Vec<u8>, field: u32, message: &[u8]) {
    put_varint(out, u64::from(field) << 3 | 2);
    put_varint(out, message.len() as u64);
    out.extend_from_slice(message);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::v2::schema::{self, Body, Content, Sealed, body};
    use alloc::string::String;
    use proptest::prelude::*;
    use prost::Message as _;

    #[test]
    fn what_is_no_body_is_refused() {
        for bytes in [&[][..], &[0x0a], &[0x0a, 5, 1], &[0x08, 1], &[0x0a, 3, 0x12, 1, 0xff], &[0xff; 11]] {
            assert!(view(bytes).is_err(), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn bodies_are_read_as_prost_reads_them(
            text in any::<String>(),
            media_type in any::<String>(),
            mentions in proptest::collection::vec(any::<u64>(), 0..5),
            reply_to in any::<u64>(),
            (hops, budget) in any::<(u32, u32)>(),
        ) {
            let content = Content {
                media_type,
                text: text.clone(),
                mentions: mentions.clone(),
                reply_to,
                hops,
                budget,
                ..Content::default()
            };
            let bytes = Body { kind: Some(body::Kind::Content(content)) }.encode_to_vec();
            prop_assert!(view(&bytes) == Ok(View::Text(&text)));
            let read = context(&bytes);
            let expected: Vec<UserId> =
                mentions.iter().filter_map(|user| user.checked_sub(1)).map(UserId).collect();
            prop_assert_eq!(&read.mentions, &expected);
            prop_assert_eq!(read.reply_to, Some(reply_to).filter(|seq| *seq != 0));
            prop_assert_eq!((read.hops, read.budget), (hops, budget));
            prop_assert_eq!(context(&of_content(&text, &read)), read);
            let plain = Content { text: text.clone(), ..Content::default() };
            let expected = Body { kind: Some(body::Kind::Content(plain)) }.encode_to_vec();
            prop_assert_eq!(&of_text(&text)[..], &expected[..]);
        }

        #[test]
        fn ciphertexts_are_read_as_prost_reads_them(
            ciphertext in proptest::collection::vec(any::<u8>(), 0..300),
            key_id in "[a-z]{0,9}",
            epoch in any::<u64>(),
        ) {
            let in_epoch = Sealed { ciphertext: ciphertext.clone().into(), epoch, ..Sealed::default() };
            let bytes = Body { kind: Some(body::Kind::Sealed(in_epoch)) }.encode_to_vec();
            let expected = View::Sealed { ciphertext: &ciphertext, key_id: None, epoch };
            prop_assert!(view(&bytes) == Ok(expected));
            prop_assert_eq!(&of_sealed(&ciphertext, epoch)[..], &bytes[..]);
            let sealed = Sealed { ciphertext: ciphertext.clone().into(), key_id: key_id.clone(), epoch: 0 };
            let bytes = Body { kind: Some(body::Kind::Sealed(sealed)) }.encode_to_vec();
            let key = Some(key_id.as_str()).filter(|key| !key.is_empty());
            let expected = View::Sealed { ciphertext: &ciphertext, key_id: key, epoch: 0 };
            prop_assert!(view(&bytes) == Ok(expected));
            prop_assert_eq!(&of_ciphertext(&ciphertext, key)[..], &bytes[..]);
        }

        #[test]
        fn commits_are_read_as_prost_reads_them(
            (epoch, external) in any::<(u64, bool)>(),
            inner in proptest::collection::vec(any::<u8>(), 0..300),
            adds in proptest::collection::vec(0..u64::MAX, 0..5),
            removes in proptest::collection::vec(0..u64::MAX, 0..5),
        ) {
            let numbers = |ids: &[u64]| ids.iter().map(|id| id + 1).collect();
            let message = schema::Commit {
                epoch,
                commit: inner.clone().into(),
                adds: numbers(&adds),
                removes: numbers(&removes),
                external,
            };
            let bytes = Body { kind: Some(body::Kind::Commit(message)) }.encode_to_vec();
            let ids = |ids: Vec<u64>| ids.into_iter().map(MachineId).collect();
            let expected = Commit { epoch, commit: &inner, adds: ids(adds), removes: ids(removes), external };
            prop_assert!(commit(&bytes) == Ok(expected.clone()));
            let shown = View::Commit { epoch, commit: &inner };
            prop_assert!(view(&bytes) == Ok(shown));
            prop_assert_eq!(&of_commit(&expected)[..], &bytes[..]);
            prop_assert!(context(&bytes) == Context::default());
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = commit(&bytes);
            if view(&bytes).is_ok() {
                prop_assert!(!bytes.is_empty());
            }
        }
    }
}
