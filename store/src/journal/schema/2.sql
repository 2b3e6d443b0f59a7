-- Version 2 of the protocol: senders' identities, message ids and signatures; readers and their positions.

-- Null in rows of version 1 of this schema, which did not keep it.
ALTER TABLE messages ADD COLUMN user INTEGER;
ALTER TABLE messages ADD COLUMN machine INTEGER;
-- 16 and 64 bytes that the sender gave; null if it posted with version 1 of the protocol. Then flags is null, too:
-- bit 0 says that the sender asks for an acknowledgement.
ALTER TABLE messages ADD COLUMN message_id BLOB;
ALTER TABLE messages ADD COLUMN signature BLOB;
ALTER TABLE messages ADD COLUMN flags INTEGER;
-- And kind 2: body is a body of version 2, as bytes.

-- Within a channel ts strictly increases with seq, so ts needs no index: bisection finds a time.
DROP INDEX messages_by_channel;
CREATE UNIQUE INDEX messages_by_channel ON messages (channel, seq);

-- The same id from the same user in the same channel is the same message. Senders' ids begin with the time, so
-- that with the id first new keys go to the index's end, whichever channels they are for.
CREATE UNIQUE INDEX messages_by_id ON messages (message_id, channel, user) WHERE message_id IS NOT NULL;

CREATE TABLE readers (
    id      INTEGER PRIMARY KEY,
    user    INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    handle  TEXT NOT NULL,
    added   INTEGER NOT NULL,
    UNIQUE (machine, handle)
) STRICT;

CREATE INDEX readers_by_user ON readers (user);

CREATE TABLE cursors (
    reader       INTEGER NOT NULL,
    channel      INTEGER NOT NULL,
    since        INTEGER NOT NULL,
    delivered    INTEGER NOT NULL,
    delivered_at INTEGER NOT NULL,
    seen         INTEGER NOT NULL,
    seen_at      INTEGER NOT NULL,
    PRIMARY KEY (reader, channel)
) STRICT, WITHOUT ROWID;

CREATE INDEX cursors_by_channel ON cursors (channel);

-- In the order in which they came; of each reader and channel the newest are kept.
CREATE TABLE acks (
    id      INTEGER PRIMARY KEY,
    reader  INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    word    TEXT NOT NULL,
    at      INTEGER NOT NULL,
    UNIQUE (reader, channel, seq)
) STRICT;

CREATE INDEX acks_by_channel ON acks (channel);

INSERT INTO meta (key, value) VALUES ('next_reader', 0);
