-- One machine at one server. Every blob but `id` is secret.
CREATE TABLE channel (
    group_id BLOB PRIMARY KEY,
    record BLOB NOT NULL,
    -- The highest epoch seen, kept when the record is lost or forgotten.
    epoch INTEGER NOT NULL,
    position INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    group_id BLOB NOT NULL,
    seq INTEGER NOT NULL,
    id BLOB NOT NULL,
    user INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    session TEXT NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (group_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_at ON message (at);

CREATE TABLE key_package (
    id BLOB PRIMARY KEY,
    public BLOB NOT NULL,
    secret BLOB NOT NULL,
    last_resort INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
