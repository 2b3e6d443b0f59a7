-- Times are Unix milliseconds. Identities count up from 0 and are never given twice.

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- The next identities: a row's own says nothing once the newest row is gone.
INSERT INTO meta (key, value) VALUES ('next_user', 0), ('next_machine', 0), ('next_channel', 0);

CREATE TABLE users (
    id    INTEGER PRIMARY KEY,
    name  TEXT NOT NULL UNIQUE,
    added INTEGER NOT NULL
) STRICT;

CREATE TABLE machines (
    id    INTEGER PRIMARY KEY,
    user  INTEGER NOT NULL,
    name  TEXT NOT NULL,
    key   BLOB NOT NULL UNIQUE,
    added INTEGER NOT NULL,
    UNIQUE (user, name)
) STRICT;

-- last_seq and last_ts are the newest message's when the channel was made or its newest was purged; posting
-- leaves them alone, so the newest row of messages counts where it is later.
CREATE TABLE channels (
    id         INTEGER PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE,
    visibility INTEGER NOT NULL, -- 0 public, 1 unlisted, 2 private
    creator    INTEGER NOT NULL,
    created    INTEGER NOT NULL,
    last_seq   INTEGER NOT NULL,
    last_ts    INTEGER NOT NULL
) STRICT;

CREATE TABLE members (
    channel INTEGER NOT NULL,
    user    INTEGER NOT NULL,
    PRIMARY KEY (channel, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX members_by_user ON members (user);

CREATE TABLE bans (
    channel INTEGER NOT NULL,
    user    INTEGER NOT NULL,
    PRIMARY KEY (channel, user)
) STRICT, WITHOUT ROWID;

CREATE INDEX bans_by_user ON bans (user);

CREATE TABLE invites (
    channel INTEGER NOT NULL,
    token   TEXT NOT NULL,
    uses    INTEGER, -- null: any number
    expires INTEGER, -- null: never
    created INTEGER NOT NULL,
    PRIMARY KEY (channel, token)
) STRICT, WITHOUT ROWID;

-- Channels that are gone while their messages may still be here, to be purged in small steps.
CREATE TABLE deleted_channels (channel INTEGER PRIMARY KEY) STRICT;

-- In the order in which they came, so that a batch fills few pages whichever channels it is for; the index
-- is what a page of history is read by.
CREATE TABLE messages (
    id      INTEGER PRIMARY KEY,
    channel INTEGER NOT NULL,
    ts      INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    sender  TEXT NOT NULL,    -- user/machine/session, as they were called then
    kind    INTEGER NOT NULL, -- 0 plain, body is text; 1 encrypted, body is bytes
    body    ANY NOT NULL,
    key_id  TEXT
) STRICT;

CREATE UNIQUE INDEX messages_by_channel ON messages (channel, ts);
