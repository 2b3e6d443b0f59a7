-- Mailboxes, contacts, and messages that expire.

-- From when on the message is not delivered any more; null: never.
ALTER TABLE messages ADD COLUMN expires INTEGER;

-- Streams with one owner. Their identities are counted with those of channels, their messages lie in the same table,
-- and so do positions, acknowledgements and deleted streams. last_seq and last_ts are as in channels.
CREATE TABLE mailboxes (
    id       INTEGER PRIMARY KEY,
    user     INTEGER NOT NULL,
    reader   INTEGER UNIQUE, -- null: the user's own
    created  INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    last_ts  INTEGER NOT NULL
) STRICT;

CREATE INDEX mailboxes_by_user ON mailboxes (user);
CREATE UNIQUE INDEX mailboxes_of_users ON mailboxes (user) WHERE reader IS NULL;

-- What a mailbox's bound counts: messages that no reader has reported as delivered and that somebody still needs.
CREATE TABLE waiting (
    mailbox    INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    ts         INTEGER NOT NULL,
    sender     INTEGER NOT NULL,
    message_id BLOB NOT NULL,
    bytes      INTEGER NOT NULL,
    until      INTEGER NOT NULL,
    PRIMARY KEY (mailbox, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX waiting_by_end ON waiting (mailbox, until);

CREATE TABLE contacts (
    user     INTEGER NOT NULL,
    other    INTEGER NOT NULL,
    standing INTEGER NOT NULL, -- 0 allowed, 1 blocked
    wrote    INTEGER NOT NULL, -- 1 if the other has written since
    PRIMARY KEY (user, other)
) STRICT, WITHOUT ROWID;

CREATE INDEX contacts_by_other ON contacts (other);
