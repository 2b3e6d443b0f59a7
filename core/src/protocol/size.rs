//! What an answer takes on the wire, about: what queues are bounded by, and what a user is charged.

use super::{Reply, Stamped};
use crate::stream::StreamReply;

/// What a path takes on the wire, about.
pub(crate) const PATH: usize = 128;

/// About how many bytes a page is.
pub(crate) fn page(messages: &[Stamped]) -> usize {
    messages.iter().map(|message| message.payload.size() + PATH).sum::<usize>() + PATH
}

impl StreamReply {
    /// About how many bytes it will be on the wire.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Sealed(reply) => reply.size(),
            _ => 16,
        }
    }
}

impl Reply {
    /// About how many bytes it will be on the wire.
    pub fn size(&self) -> usize {
        match self {
            Self::History { messages, .. } | Self::Stream(StreamReply::Page { messages, .. }) => {
                page(messages)
            }
            Self::Stream(StreamReply::Receipts { readers, .. }) => readers.len() * PATH + PATH,
            Self::Stream(StreamReply::Sealed(reply)) => reply.size(),
            Self::Stream(StreamReply::Contacts(contacts)) => contacts.len() * 48 + PATH,
            Self::Presence { sessions, .. } => sessions.len() * PATH + PATH,
            Self::Users(users) => users.len() * 32 + PATH,
            Self::Channels(channels) => channels.len() * 40 + PATH,
            Self::Machines(machines) => machines.len() * PATH + PATH,
            Self::Invites(invites) => invites.len() * PATH + PATH,
            Self::Audit { entries, .. } => entries.len() * 2 * PATH + PATH,
            Self::UserInvites(invites) => invites.len() * 64 + PATH,
            _ => 16,
        }
    }

    /// Cuts a list so that it fits a frame of `most` bytes in any encoding.
    pub(crate) fn fit(&mut self, most: usize) {
        fn cut<T>(list: &mut alloc::vec::Vec<T>, most: usize, size: impl Fn(&T) -> usize) {
            let mut room = most;
            // JSON escapes quotation marks, and names its fields.
            let fits = list.iter().take_while(|element| {
                let size = 2 * size(element) + 96;
                let fits = size <= room;
                room = room.saturating_sub(size);
                fits
            });
            let fits = fits.count();
            list.truncate(fits);
        }
        match self {
            Self::Presence { sessions, .. } => cut(sessions, most, |path| {
                path.user.as_str().len() + path.machine.as_str().len() + path.session.as_str().len()
            }),
            Self::Users(users) => cut(users, most, |user| user.as_str().len()),
            Self::UserInvites(invites) => cut(invites, most, |invite| invite.by.as_str().len() + 32),
            Self::Channels(channels) => cut(channels, most, |channel| channel.name.as_str().len()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::UserName;
    use crate::wire::v2::convert;
    use crate::wire::v2::encoding::Encoding;
    use crate::wire::v2::schema::{Reply as Message, server_frame::Kind};

    #[test]
    fn a_list_that_was_cut_fits_in_each_encoding() {
        let name = |nth: usize| UserName::new(&alloc::format!("{nth}{}", "\"".repeat(100))).unwrap();
        let mut reply = Reply::Users((0..2_000).map(name).collect());
        reply.fit(100_000);
        let Reply::Users(users) = &reply else { panic!("{reply:?}") };
        assert!(users.len() > 100, "{}", users.len());
        let what = Some(convert::reply(reply));
        for encoding in [Encoding::Protobuf, Encoding::Json] {
            let frame = encoding.encode_server(Kind::Reply(Message { id: 1, what: what.clone() }));
            assert!(frame.len() <= 100_000, "{}", frame.len());
        }
    }
}
