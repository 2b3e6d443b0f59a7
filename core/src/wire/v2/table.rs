// @generated from proto/conclave/v2/conclave.proto by core/tests/schema.rs.

use super::json::{Enum, Field, Kind, Message};

pub(super) static MESSAGES: [Message; 97] = [
    Message { name: "ClientFrame", fields: &[
        Field { number: 1, name: "hello", json: "hello", kind: Kind::Message(&MESSAGES[2]), repeated: false, oneof: Some(0) },
        Field { number: 2, name: "identity", json: "identity", kind: Kind::Message(&MESSAGES[5]), repeated: false, oneof: Some(0) },
        Field { number: 3, name: "proof", json: "proof", kind: Kind::Message(&MESSAGES[7]), repeated: false, oneof: Some(0) },
        Field { number: 4, name: "request", json: "request", kind: Kind::Message(&MESSAGES[9]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "ServerFrame", fields: &[
        Field { number: 1, name: "challenge", json: "challenge", kind: Kind::Message(&MESSAGES[3]), repeated: false, oneof: Some(0) },
        Field { number: 2, name: "proof", json: "proof", kind: Kind::Message(&MESSAGES[7]), repeated: false, oneof: Some(0) },
        Field { number: 3, name: "welcome", json: "welcome", kind: Kind::Message(&MESSAGES[8]), repeated: false, oneof: Some(0) },
        Field { number: 4, name: "reply", json: "reply", kind: Kind::Message(&MESSAGES[10]), repeated: false, oneof: Some(0) },
        Field { number: 5, name: "deliveries", json: "deliveries", kind: Kind::Message(&MESSAGES[25]), repeated: false, oneof: Some(0) },
        Field { number: 6, name: "live", json: "live", kind: Kind::Message(&MESSAGES[28]), repeated: false, oneof: Some(0) },
        Field { number: 7, name: "gap", json: "gap", kind: Kind::Message(&MESSAGES[29]), repeated: false, oneof: Some(0) },
        Field { number: 8, name: "event", json: "event", kind: Kind::Message(&MESSAGES[41]), repeated: false, oneof: Some(0) },
        Field { number: 9, name: "goodbye", json: "goodbye", kind: Kind::Message(&MESSAGES[51]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "Hello", fields: &[
        Field { number: 1, name: "features", json: "features", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 2, name: "client", json: "client", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "nonce", json: "nonce", kind: Kind::Bytes, repeated: false, oneof: None },
    ] },
    Message { name: "Challenge", fields: &[
        Field { number: 1, name: "server_key", json: "serverKey", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 2, name: "nonce", json: "nonce", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 3, name: "features", json: "features", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 4, name: "limits", json: "limits", kind: Kind::Message(&MESSAGES[4]), repeated: false, oneof: None },
    ] },
    Message { name: "Limits", fields: &[
        Field { number: 1, name: "frame_bytes", json: "frameBytes", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 2, name: "window", json: "window", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 3, name: "posts_per_second", json: "postsPerSecond", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 4, name: "post_bytes_per_second", json: "postBytesPerSecond", kind: Kind::Uint32, repeated: false, oneof: None },
    ] },
    Message { name: "Identity", fields: &[
        Field { number: 1, name: "machine_key", json: "machineKey", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 2, name: "handle", json: "handle", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "claim", json: "claim", kind: Kind::Message(&MESSAGES[6]), repeated: false, oneof: None },
        Field { number: 4, name: "keep", json: "keep", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "Claim", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "machine", json: "machine", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "invite", json: "invite", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Proof", fields: &[
        Field { number: 1, name: "signature", json: "signature", kind: Kind::Bytes, repeated: false, oneof: None },
    ] },
    Message { name: "Welcome", fields: &[
        Field { number: 1, name: "you", json: "you", kind: Kind::Message(&MESSAGES[27]), repeated: false, oneof: None },
        Field { number: 2, name: "reader", json: "reader", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "server_admin", json: "serverAdmin", kind: Kind::Bool, repeated: false, oneof: None },
        Field { number: 4, name: "retention_ms", json: "retentionMs", kind: Kind::Int64, repeated: false, oneof: None },
        Field { number: 5, name: "server", json: "server", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 6, name: "now_ms", json: "nowMs", kind: Kind::Int64, repeated: false, oneof: None },
    ] },
    Message { name: "Request", fields: &[
        Field { number: 1, name: "id", json: "id", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "ping", json: "ping", kind: Kind::Message(&MESSAGES[13]), repeated: false, oneof: Some(0) },
        Field { number: 3, name: "subscribe", json: "subscribe", kind: Kind::Message(&MESSAGES[18]), repeated: false, oneof: Some(0) },
        Field { number: 4, name: "unsubscribe", json: "unsubscribe", kind: Kind::Message(&MESSAGES[22]), repeated: false, oneof: Some(0) },
        Field { number: 5, name: "read", json: "read", kind: Kind::Message(&MESSAGES[23]), repeated: false, oneof: Some(0) },
        Field { number: 6, name: "post", json: "post", kind: Kind::Message(&MESSAGES[30]), repeated: false, oneof: Some(0) },
        Field { number: 7, name: "report", json: "report", kind: Kind::Message(&MESSAGES[35]), repeated: false, oneof: Some(0) },
        Field { number: 8, name: "acknowledge", json: "acknowledge", kind: Kind::Message(&MESSAGES[36]), repeated: false, oneof: Some(0) },
        Field { number: 9, name: "receipts", json: "receipts", kind: Kind::Message(&MESSAGES[37]), repeated: false, oneof: Some(0) },
        Field { number: 10, name: "watch_receipts", json: "watchReceipts", kind: Kind::Message(&MESSAGES[40]), repeated: false, oneof: Some(0) },
        Field { number: 11, name: "presence", json: "presence", kind: Kind::Message(&MESSAGES[52]), repeated: false, oneof: Some(0) },
        Field { number: 12, name: "list_channels", json: "listChannels", kind: Kind::Message(&MESSAGES[54]), repeated: false, oneof: Some(0) },
        Field { number: 13, name: "create_channel", json: "createChannel", kind: Kind::Message(&MESSAGES[57]), repeated: false, oneof: Some(0) },
        Field { number: 14, name: "delete_channel", json: "deleteChannel", kind: Kind::Message(&MESSAGES[58]), repeated: false, oneof: Some(0) },
        Field { number: 15, name: "rename_channel", json: "renameChannel", kind: Kind::Message(&MESSAGES[59]), repeated: false, oneof: Some(0) },
        Field { number: 16, name: "set_visibility", json: "setVisibility", kind: Kind::Message(&MESSAGES[60]), repeated: false, oneof: Some(0) },
        Field { number: 17, name: "add_member", json: "addMember", kind: Kind::Message(&MESSAGES[61]), repeated: false, oneof: Some(0) },
        Field { number: 18, name: "remove_member", json: "removeMember", kind: Kind::Message(&MESSAGES[62]), repeated: false, oneof: Some(0) },
        Field { number: 19, name: "list_members", json: "listMembers", kind: Kind::Message(&MESSAGES[63]), repeated: false, oneof: Some(0) },
        Field { number: 20, name: "create_invite", json: "createInvite", kind: Kind::Message(&MESSAGES[65]), repeated: false, oneof: Some(0) },
        Field { number: 21, name: "revoke_invite", json: "revokeInvite", kind: Kind::Message(&MESSAGES[67]), repeated: false, oneof: Some(0) },
        Field { number: 22, name: "list_invites", json: "listInvites", kind: Kind::Message(&MESSAGES[68]), repeated: false, oneof: Some(0) },
        Field { number: 23, name: "kick", json: "kick", kind: Kind::Message(&MESSAGES[74]), repeated: false, oneof: Some(0) },
        Field { number: 24, name: "ban", json: "ban", kind: Kind::Message(&MESSAGES[75]), repeated: false, oneof: Some(0) },
        Field { number: 25, name: "unban", json: "unban", kind: Kind::Message(&MESSAGES[76]), repeated: false, oneof: Some(0) },
        Field { number: 26, name: "list_bans", json: "listBans", kind: Kind::Message(&MESSAGES[77]), repeated: false, oneof: Some(0) },
        Field { number: 27, name: "list_users", json: "listUsers", kind: Kind::Message(&MESSAGES[78]), repeated: false, oneof: Some(0) },
        Field { number: 28, name: "remove_user", json: "removeUser", kind: Kind::Message(&MESSAGES[79]), repeated: false, oneof: Some(0) },
        Field { number: 29, name: "list_machines", json: "listMachines", kind: Kind::Message(&MESSAGES[81]), repeated: false, oneof: Some(0) },
        Field { number: 30, name: "add_machine", json: "addMachine", kind: Kind::Message(&MESSAGES[82]), repeated: false, oneof: Some(0) },
        Field { number: 31, name: "remove_machine", json: "removeMachine", kind: Kind::Message(&MESSAGES[83]), repeated: false, oneof: Some(0) },
        Field { number: 32, name: "keys", json: "keys", kind: Kind::Message(&MESSAGES[84]), repeated: false, oneof: Some(0) },
        Field { number: 33, name: "allow", json: "allow", kind: Kind::Message(&MESSAGES[90]), repeated: false, oneof: Some(0) },
        Field { number: 34, name: "disallow", json: "disallow", kind: Kind::Message(&MESSAGES[91]), repeated: false, oneof: Some(0) },
        Field { number: 35, name: "block", json: "block", kind: Kind::Message(&MESSAGES[92]), repeated: false, oneof: Some(0) },
        Field { number: 36, name: "unblock", json: "unblock", kind: Kind::Message(&MESSAGES[93]), repeated: false, oneof: Some(0) },
        Field { number: 37, name: "list_contacts", json: "listContacts", kind: Kind::Message(&MESSAGES[94]), repeated: false, oneof: Some(0) },
        Field { number: 38, name: "locate", json: "locate", kind: Kind::Message(&MESSAGES[16]), repeated: false, oneof: Some(0) },
        Field { number: 39, name: "invite_user", json: "inviteUser", kind: Kind::Message(&MESSAGES[70]), repeated: false, oneof: Some(0) },
        Field { number: 40, name: "list_user_invites", json: "listUserInvites", kind: Kind::Message(&MESSAGES[71]), repeated: false, oneof: Some(0) },
        Field { number: 41, name: "list_audit", json: "listAudit", kind: Kind::Message(&MESSAGES[87]), repeated: false, oneof: Some(0) },
        Field { number: 42, name: "watch_presence", json: "watchPresence", kind: Kind::Message(&MESSAGES[42]), repeated: false, oneof: Some(0) },
        Field { number: 43, name: "release_name", json: "releaseName", kind: Kind::Message(&MESSAGES[80]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "Reply", fields: &[
        Field { number: 1, name: "id", json: "id", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "done", json: "done", kind: Kind::Message(&MESSAGES[11]), repeated: false, oneof: Some(0) },
        Field { number: 3, name: "error", json: "error", kind: Kind::Message(&MESSAGES[12]), repeated: false, oneof: Some(0) },
        Field { number: 4, name: "subscribed", json: "subscribed", kind: Kind::Message(&MESSAGES[21]), repeated: false, oneof: Some(0) },
        Field { number: 5, name: "page", json: "page", kind: Kind::Message(&MESSAGES[24]), repeated: false, oneof: Some(0) },
        Field { number: 6, name: "stored", json: "stored", kind: Kind::Message(&MESSAGES[34]), repeated: false, oneof: Some(0) },
        Field { number: 7, name: "receipts", json: "receipts", kind: Kind::Message(&MESSAGES[38]), repeated: false, oneof: Some(0) },
        Field { number: 8, name: "sessions", json: "sessions", kind: Kind::Message(&MESSAGES[53]), repeated: false, oneof: Some(0) },
        Field { number: 9, name: "channels", json: "channels", kind: Kind::Message(&MESSAGES[55]), repeated: false, oneof: Some(0) },
        Field { number: 11, name: "users", json: "users", kind: Kind::Message(&MESSAGES[64]), repeated: false, oneof: Some(0) },
        Field { number: 12, name: "invite", json: "invite", kind: Kind::Message(&MESSAGES[66]), repeated: false, oneof: Some(0) },
        Field { number: 13, name: "invites", json: "invites", kind: Kind::Message(&MESSAGES[69]), repeated: false, oneof: Some(0) },
        Field { number: 14, name: "machines", json: "machines", kind: Kind::Message(&MESSAGES[85]), repeated: false, oneof: Some(0) },
        Field { number: 15, name: "contacts", json: "contacts", kind: Kind::Message(&MESSAGES[95]), repeated: false, oneof: Some(0) },
        Field { number: 16, name: "located", json: "located", kind: Kind::Message(&MESSAGES[17]), repeated: false, oneof: Some(0) },
        Field { number: 17, name: "user_invites", json: "userInvites", kind: Kind::Message(&MESSAGES[72]), repeated: false, oneof: Some(0) },
        Field { number: 18, name: "audit", json: "audit", kind: Kind::Message(&MESSAGES[88]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "Done", fields: &[
    ] },
    Message { name: "Error", fields: &[
        Field { number: 1, name: "code", json: "code", kind: Kind::Enum(&ENUMS[0]), repeated: false, oneof: None },
        Field { number: 2, name: "message", json: "message", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "retry_after_ms", json: "retryAfterMs", kind: Kind::Uint32, repeated: false, oneof: None },
    ] },
    Message { name: "Ping", fields: &[
    ] },
    Message { name: "StreamName", fields: &[
        Field { number: 1, name: "number", json: "number", kind: Kind::Uint64, repeated: false, oneof: Some(0) },
        Field { number: 2, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: Some(0) },
        Field { number: 3, name: "mailbox", json: "mailbox", kind: Kind::Message(&MESSAGES[15]), repeated: false, oneof: Some(0) },
        Field { number: 4, name: "mine", json: "mine", kind: Kind::Enum(&ENUMS[1]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "MailboxName", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "machine", json: "machine", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "handle", json: "handle", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Locate", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
    ] },
    Message { name: "Located", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "present", json: "present", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "Subscribe", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "latest", json: "latest", kind: Kind::Message(&MESSAGES[19]), repeated: false, oneof: Some(0) },
        Field { number: 3, name: "after", json: "after", kind: Kind::Uint64, repeated: false, oneof: Some(0) },
        Field { number: 4, name: "my_cursor", json: "myCursor", kind: Kind::Message(&MESSAGES[20]), repeated: false, oneof: Some(0) },
        Field { number: 5, name: "invite", json: "invite", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Latest", fields: &[
    ] },
    Message { name: "MyCursor", fields: &[
    ] },
    Message { name: "Subscribed", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "after", json: "after", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "last", json: "last", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Unsubscribe", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
    ] },
    Message { name: "Read", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "after", json: "after", kind: Kind::Uint64, repeated: false, oneof: Some(0) },
        Field { number: 3, name: "before", json: "before", kind: Kind::Uint64, repeated: false, oneof: Some(0) },
        Field { number: 4, name: "limit", json: "limit", kind: Kind::Uint32, repeated: false, oneof: None },
    ] },
    Message { name: "Page", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "messages", json: "messages", kind: Kind::Message(&MESSAGES[26]), repeated: true, oneof: None },
        Field { number: 3, name: "more", json: "more", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "Deliveries", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "messages", json: "messages", kind: Kind::Message(&MESSAGES[26]), repeated: true, oneof: None },
    ] },
    Message { name: "Delivery", fields: &[
        Field { number: 1, name: "seq", json: "seq", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "stamp_ms", json: "stampMs", kind: Kind::Int64, repeated: false, oneof: None },
        Field { number: 3, name: "from", json: "from", kind: Kind::Message(&MESSAGES[27]), repeated: false, oneof: None },
        Field { number: 4, name: "message_id", json: "messageId", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 5, name: "body", json: "body", kind: Kind::Message(&MESSAGES[31]), repeated: false, oneof: None },
        Field { number: 6, name: "signature", json: "signature", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 7, name: "acknowledge", json: "acknowledge", kind: Kind::Bool, repeated: false, oneof: None },
        Field { number: 8, name: "expires_ms", json: "expiresMs", kind: Kind::Int64, repeated: false, oneof: None },
    ] },
    Message { name: "Participant", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "machine", json: "machine", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "handle", json: "handle", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 4, name: "user_id", json: "userId", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 5, name: "machine_id", json: "machineId", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Live", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "seq", json: "seq", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Gap", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "from", json: "from", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "to", json: "to", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Post", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "message_id", json: "messageId", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 3, name: "body", json: "body", kind: Kind::Message(&MESSAGES[31]), repeated: false, oneof: None },
        Field { number: 4, name: "signature", json: "signature", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 5, name: "acknowledge", json: "acknowledge", kind: Kind::Bool, repeated: false, oneof: None },
        Field { number: 6, name: "lifetime_ms", json: "lifetimeMs", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Body", fields: &[
        Field { number: 1, name: "content", json: "content", kind: Kind::Message(&MESSAGES[32]), repeated: false, oneof: Some(0) },
        Field { number: 2, name: "sealed", json: "sealed", kind: Kind::Message(&MESSAGES[33]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "Content", fields: &[
        Field { number: 1, name: "media_type", json: "mediaType", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "text", json: "text", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "reply_to", json: "replyTo", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 4, name: "mentions", json: "mentions", kind: Kind::Uint64, repeated: true, oneof: None },
        Field { number: 5, name: "data", json: "data", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 6, name: "hops", json: "hops", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 7, name: "budget", json: "budget", kind: Kind::Uint32, repeated: false, oneof: None },
    ] },
    Message { name: "Sealed", fields: &[
        Field { number: 1, name: "ciphertext", json: "ciphertext", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 2, name: "key_id", json: "keyId", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Stored", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "seq", json: "seq", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "stamp_ms", json: "stampMs", kind: Kind::Int64, repeated: false, oneof: None },
        Field { number: 4, name: "present", json: "present", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "Report", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "delivered", json: "delivered", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "seen", json: "seen", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Acknowledge", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "seq", json: "seq", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "word", json: "word", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Receipts", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "seq", json: "seq", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "ReceiptList", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "seq", json: "seq", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "receipts", json: "receipts", kind: Kind::Message(&MESSAGES[39]), repeated: true, oneof: None },
    ] },
    Message { name: "Receipt", fields: &[
        Field { number: 1, name: "reader", json: "reader", kind: Kind::Message(&MESSAGES[27]), repeated: false, oneof: None },
        Field { number: 2, name: "state", json: "state", kind: Kind::Enum(&ENUMS[2]), repeated: false, oneof: None },
        Field { number: 3, name: "at_ms", json: "atMs", kind: Kind::Int64, repeated: false, oneof: None },
        Field { number: 4, name: "word", json: "word", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "WatchReceipts", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "on", json: "on", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "Event", fields: &[
        Field { number: 1, name: "subscription_ended", json: "subscriptionEnded", kind: Kind::Message(&MESSAGES[46]), repeated: false, oneof: Some(0) },
        Field { number: 2, name: "channel_renamed", json: "channelRenamed", kind: Kind::Message(&MESSAGES[47]), repeated: false, oneof: Some(0) },
        Field { number: 3, name: "receipts_moved", json: "receiptsMoved", kind: Kind::Message(&MESSAGES[48]), repeated: false, oneof: Some(0) },
        Field { number: 4, name: "whisper", json: "whisper", kind: Kind::Message(&MESSAGES[50]), repeated: false, oneof: Some(0) },
        Field { number: 5, name: "presence_changed", json: "presenceChanged", kind: Kind::Message(&MESSAGES[43]), repeated: false, oneof: Some(0) },
        Field { number: 6, name: "machine_added", json: "machineAdded", kind: Kind::Message(&MESSAGES[44]), repeated: false, oneof: Some(0) },
        Field { number: 7, name: "draining", json: "draining", kind: Kind::Message(&MESSAGES[45]), repeated: false, oneof: Some(0) },
    ] },
    Message { name: "WatchPresence", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Message(&MESSAGES[14]), repeated: false, oneof: None },
        Field { number: 2, name: "on", json: "on", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "PresenceChanged", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "joined", json: "joined", kind: Kind::Message(&MESSAGES[27]), repeated: true, oneof: None },
        Field { number: 3, name: "left", json: "left", kind: Kind::Message(&MESSAGES[27]), repeated: true, oneof: None },
        Field { number: 4, name: "many", json: "many", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "MachineAdded", fields: &[
        Field { number: 1, name: "machine", json: "machine", kind: Kind::Message(&MESSAGES[86]), repeated: false, oneof: None },
    ] },
    Message { name: "Draining", fields: &[
    ] },
    Message { name: "SubscriptionEnded", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "reason", json: "reason", kind: Kind::Enum(&ENUMS[3]), repeated: false, oneof: None },
    ] },
    Message { name: "ChannelRenamed", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ReceiptsMoved", fields: &[
        Field { number: 1, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "readers", json: "readers", kind: Kind::Message(&MESSAGES[49]), repeated: true, oneof: None },
    ] },
    Message { name: "ReaderPosition", fields: &[
        Field { number: 1, name: "reader", json: "reader", kind: Kind::Message(&MESSAGES[27]), repeated: false, oneof: None },
        Field { number: 2, name: "delivered", json: "delivered", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "seen", json: "seen", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 4, name: "acknowledged", json: "acknowledged", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 5, name: "word", json: "word", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 6, name: "since", json: "since", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Whisper", fields: &[
        Field { number: 1, name: "from", json: "from", kind: Kind::Message(&MESSAGES[27]), repeated: false, oneof: None },
        Field { number: 2, name: "body", json: "body", kind: Kind::Message(&MESSAGES[31]), repeated: false, oneof: None },
    ] },
    Message { name: "Goodbye", fields: &[
        Field { number: 1, name: "reason", json: "reason", kind: Kind::Enum(&ENUMS[4]), repeated: false, oneof: None },
        Field { number: 2, name: "message", json: "message", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "code", json: "code", kind: Kind::Enum(&ENUMS[0]), repeated: false, oneof: None },
        Field { number: 4, name: "retry_after_ms", json: "retryAfterMs", kind: Kind::Uint32, repeated: false, oneof: None },
    ] },
    Message { name: "Presence", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Sessions", fields: &[
        Field { number: 1, name: "sessions", json: "sessions", kind: Kind::Message(&MESSAGES[27]), repeated: true, oneof: None },
    ] },
    Message { name: "ListChannels", fields: &[
    ] },
    Message { name: "ChannelList", fields: &[
        Field { number: 1, name: "channels", json: "channels", kind: Kind::Message(&MESSAGES[56]), repeated: true, oneof: None },
    ] },
    Message { name: "Channel", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "visibility", json: "visibility", kind: Kind::Enum(&ENUMS[5]), repeated: false, oneof: None },
        Field { number: 3, name: "member", json: "member", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "CreateChannel", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "visibility", json: "visibility", kind: Kind::Enum(&ENUMS[5]), repeated: false, oneof: None },
    ] },
    Message { name: "DeleteChannel", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "RenameChannel", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "new_name", json: "newName", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "SetVisibility", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "visibility", json: "visibility", kind: Kind::Enum(&ENUMS[5]), repeated: false, oneof: None },
    ] },
    Message { name: "AddMember", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "RemoveMember", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ListMembers", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "UserList", fields: &[
        Field { number: 1, name: "users", json: "users", kind: Kind::String, repeated: true, oneof: None },
    ] },
    Message { name: "CreateInvite", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "uses", json: "uses", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 3, name: "lifetime_seconds", json: "lifetimeSeconds", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Invite", fields: &[
        Field { number: 1, name: "token", json: "token", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "uses", json: "uses", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 3, name: "expires_ms", json: "expiresMs", kind: Kind::Int64, repeated: false, oneof: None },
    ] },
    Message { name: "RevokeInvite", fields: &[
        Field { number: 1, name: "token", json: "token", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ListInvites", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "InviteList", fields: &[
        Field { number: 1, name: "invites", json: "invites", kind: Kind::Message(&MESSAGES[66]), repeated: true, oneof: None },
    ] },
    Message { name: "InviteUser", fields: &[
        Field { number: 1, name: "uses", json: "uses", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 2, name: "lifetime_seconds", json: "lifetimeSeconds", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "ListUserInvites", fields: &[
    ] },
    Message { name: "UserInviteList", fields: &[
        Field { number: 1, name: "invites", json: "invites", kind: Kind::Message(&MESSAGES[73]), repeated: true, oneof: None },
    ] },
    Message { name: "UserInvite", fields: &[
        Field { number: 1, name: "id", json: "id", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "by", json: "by", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 3, name: "uses", json: "uses", kind: Kind::Uint32, repeated: false, oneof: None },
        Field { number: 4, name: "expires_ms", json: "expiresMs", kind: Kind::Int64, repeated: false, oneof: None },
    ] },
    Message { name: "Kick", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "target", json: "target", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Ban", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Unban", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ListBans", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ListUsers", fields: &[
    ] },
    Message { name: "RemoveUser", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ReleaseName", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ListMachines", fields: &[
    ] },
    Message { name: "AddMachine", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "key", json: "key", kind: Kind::Bytes, repeated: false, oneof: None },
    ] },
    Message { name: "RemoveMachine", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Keys", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "MachineList", fields: &[
        Field { number: 1, name: "machines", json: "machines", kind: Kind::Message(&MESSAGES[86]), repeated: true, oneof: None },
        Field { number: 2, name: "user_id", json: "userId", kind: Kind::Uint64, repeated: false, oneof: None },
    ] },
    Message { name: "Machine", fields: &[
        Field { number: 1, name: "name", json: "name", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "key", json: "key", kind: Kind::Bytes, repeated: false, oneof: None },
        Field { number: 3, name: "id", json: "id", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 4, name: "added_ms", json: "addedMs", kind: Kind::Int64, repeated: false, oneof: None },
    ] },
    Message { name: "ListAudit", fields: &[
        Field { number: 1, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "before", json: "before", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "limit", json: "limit", kind: Kind::Uint32, repeated: false, oneof: None },
    ] },
    Message { name: "AuditPage", fields: &[
        Field { number: 1, name: "entries", json: "entries", kind: Kind::Message(&MESSAGES[89]), repeated: true, oneof: None },
        Field { number: 2, name: "more", json: "more", kind: Kind::Bool, repeated: false, oneof: None },
    ] },
    Message { name: "AuditEntry", fields: &[
        Field { number: 1, name: "number", json: "number", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 2, name: "at_ms", json: "atMs", kind: Kind::Int64, repeated: false, oneof: None },
        Field { number: 3, name: "by", json: "by", kind: Kind::Message(&MESSAGES[27]), repeated: false, oneof: None },
        Field { number: 4, name: "act", json: "act", kind: Kind::Enum(&ENUMS[6]), repeated: false, oneof: None },
        Field { number: 5, name: "channel", json: "channel", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 6, name: "stream", json: "stream", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 7, name: "subject", json: "subject", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Allow", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Disallow", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Block", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "Unblock", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
    ] },
    Message { name: "ListContacts", fields: &[
    ] },
    Message { name: "ContactList", fields: &[
        Field { number: 1, name: "contacts", json: "contacts", kind: Kind::Message(&MESSAGES[96]), repeated: true, oneof: None },
    ] },
    Message { name: "Contact", fields: &[
        Field { number: 1, name: "user", json: "user", kind: Kind::String, repeated: false, oneof: None },
        Field { number: 2, name: "user_id", json: "userId", kind: Kind::Uint64, repeated: false, oneof: None },
        Field { number: 3, name: "standing", json: "standing", kind: Kind::Enum(&ENUMS[7]), repeated: false, oneof: None },
    ] },
];

pub(super) static CLIENT_FRAME: &Message = &MESSAGES[0];
pub(super) static SERVER_FRAME: &Message = &MESSAGES[1];

pub(super) static ENUMS: [Enum; 8] = [
    Enum { values: &[
        (0, "ERROR_CODE_UNSPECIFIED"),
        (1, "ERROR_CODE_INVALID_ARGUMENT"),
        (2, "ERROR_CODE_NOT_FOUND"),
        (3, "ERROR_CODE_PERMISSION_DENIED"),
        (4, "ERROR_CODE_ALREADY_EXISTS"),
        (5, "ERROR_CODE_RATE_LIMITED"),
        (6, "ERROR_CODE_QUOTA_EXCEEDED"),
        (7, "ERROR_CODE_FAILED_PRECONDITION"),
        (8, "ERROR_CODE_UNAUTHENTICATED"),
        (9, "ERROR_CODE_UNAVAILABLE"),
        (10, "ERROR_CODE_INTERNAL"),
    ] },
    Enum { values: &[
        (0, "OWN_MAILBOX_UNSPECIFIED"),
        (1, "OWN_MAILBOX_USER"),
        (2, "OWN_MAILBOX_SESSION"),
    ] },
    Enum { values: &[
        (0, "RECEIPT_STATE_UNSPECIFIED"),
        (1, "RECEIPT_STATE_STORED"),
        (2, "RECEIPT_STATE_DELIVERED"),
        (3, "RECEIPT_STATE_SEEN"),
        (4, "RECEIPT_STATE_ACKNOWLEDGED"),
    ] },
    Enum { values: &[
        (0, "END_REASON_UNSPECIFIED"),
        (1, "END_REASON_KICKED"),
        (2, "END_REASON_BANNED"),
        (3, "END_REASON_REMOVED"),
        (4, "END_REASON_DELETED"),
        (5, "END_REASON_UNAVAILABLE"),
    ] },
    Enum { values: &[
        (0, "GOODBYE_REASON_UNSPECIFIED"),
        (1, "GOODBYE_REASON_SUPERSEDED"),
        (2, "GOODBYE_REASON_KEY_REVOKED"),
        (3, "GOODBYE_REASON_USER_REMOVED"),
        (4, "GOODBYE_REASON_IDLE"),
        (5, "GOODBYE_REASON_SLOW"),
        (6, "GOODBYE_REASON_SHUTDOWN"),
        (7, "GOODBYE_REASON_HANDSHAKE_TIMEOUT"),
        (8, "GOODBYE_REASON_REFUSED"),
        (9, "GOODBYE_REASON_MALFORMED"),
    ] },
    Enum { values: &[
        (0, "VISIBILITY_UNSPECIFIED"),
        (1, "VISIBILITY_PUBLIC"),
        (2, "VISIBILITY_UNLISTED"),
        (3, "VISIBILITY_PRIVATE"),
    ] },
    Enum { values: &[
        (0, "AUDIT_ACT_UNSPECIFIED"),
        (1, "AUDIT_ACT_REGISTERED"),
        (2, "AUDIT_ACT_USER_REMOVED"),
        (3, "AUDIT_ACT_USER_INVITED"),
        (4, "AUDIT_ACT_USER_INVITE_USED"),
        (5, "AUDIT_ACT_USER_INVITE_REVOKED"),
        (6, "AUDIT_ACT_MACHINE_ADDED"),
        (7, "AUDIT_ACT_MACHINE_REMOVED"),
        (8, "AUDIT_ACT_CHANNEL_CREATED"),
        (9, "AUDIT_ACT_CHANNEL_DELETED"),
        (10, "AUDIT_ACT_CHANNEL_RENAMED"),
        (11, "AUDIT_ACT_VISIBILITY_SET"),
        (12, "AUDIT_ACT_MEMBER_ADDED"),
        (13, "AUDIT_ACT_MEMBER_REMOVED"),
        (14, "AUDIT_ACT_BANNED"),
        (15, "AUDIT_ACT_UNBANNED"),
        (16, "AUDIT_ACT_KICKED"),
        (17, "AUDIT_ACT_INVITE_CREATED"),
        (18, "AUDIT_ACT_INVITE_USED"),
        (19, "AUDIT_ACT_INVITE_REVOKED"),
        (20, "AUDIT_ACT_NAME_RELEASED"),
    ] },
    Enum { values: &[
        (0, "STANDING_UNSPECIFIED"),
        (1, "STANDING_ALLOWED"),
        (2, "STANDING_BLOCKED"),
    ] },
];
