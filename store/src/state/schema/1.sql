-- Who reads: a handle on a server. A server is known by its key.
CREATE TABLE readers (
    id     INTEGER PRIMARY KEY,
    server BLOB NOT NULL,
    handle TEXT NOT NULL,
    UNIQUE (server, handle)
) STRICT;

-- What a reader follows. Everything up to `delivered` is kept or not wanted, everything up to `seen` was put before the
-- reader. Identities of the server's fill 64 bits: they are stored as signed numbers of the same bits.
CREATE TABLE streams (
    reader    INTEGER NOT NULL,
    stream    INTEGER NOT NULL,
    name      TEXT    NOT NULL,
    delivered INTEGER NOT NULL,
    seen      INTEGER NOT NULL,
    PRIMARY KEY (reader, stream)
) STRICT, WITHOUT ROWID;

-- Messages between `seen` and `delivered`. `size` is the length of `message`.
CREATE TABLE unread (
    reader  INTEGER NOT NULL,
    stream  INTEGER NOT NULL,
    seq     INTEGER NOT NULL,
    size    INTEGER NOT NULL,
    message BLOB    NOT NULL
) STRICT;

-- With the size, so that a reader's messages are counted without touching them.
CREATE INDEX unread_by_place ON unread (reader, stream, seq, size);

-- The keys of users' machines, as they were when they were first seen or last accepted.
CREATE TABLE machines (
    server  BLOB    NOT NULL,
    user    INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    key     BLOB    NOT NULL,
    since   INTEGER NOT NULL,
    PRIMARY KEY (server, user, machine)
) STRICT, WITHOUT ROWID;

-- Which directory's sessions have which handle. `id` names the lock file of the session that holds it; the higher `used`,
-- the later it was claimed.
CREATE TABLE handles (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    handle    TEXT    NOT NULL UNIQUE,
    base      TEXT    NOT NULL,
    number    INTEGER NOT NULL,
    directory BLOB    NOT NULL,
    used      INTEGER NOT NULL
) STRICT;

CREATE INDEX handles_by_directory ON handles (directory, base, number);
CREATE INDEX handles_by_use ON handles (used);
