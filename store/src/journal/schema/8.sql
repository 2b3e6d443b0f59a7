-- Sealed channels. The commit that began a group's epoch lies among the messages; user, message id and place name it.
CREATE TABLE groups (
    channel   INTEGER PRIMARY KEY,
    suite     INTEGER NOT NULL,
    group_id  BLOB NOT NULL,
    epoch     INTEGER NOT NULL,
    info      BLOB NOT NULL,
    commit_user INTEGER,
    commit_id   BLOB,
    commit_seq  INTEGER,
    commit_ts   INTEGER
) STRICT;
CREATE TABLE group_machines (
    channel INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    user    INTEGER NOT NULL,
    PRIMARY KEY (channel, machine)
) STRICT, WITHOUT ROWID;
CREATE TABLE welcomes (
    channel INTEGER NOT NULL,
    machine INTEGER NOT NULL,
    user    INTEGER NOT NULL,
    epoch   INTEGER NOT NULL,
    welcome BLOB NOT NULL,
    PRIMARY KEY (channel, machine)
) STRICT;
CREATE INDEX welcomes_of_user ON welcomes (user);
-- Given out in the order of their numbers; the one of last resort stays.
CREATE TABLE key_packages (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    machine     INTEGER NOT NULL,
    user        INTEGER NOT NULL,
    last_resort INTEGER NOT NULL,
    package     BLOB NOT NULL
) STRICT;
CREATE INDEX key_packages_of_machine ON key_packages (machine, last_resort, id);
CREATE INDEX key_packages_of_user ON key_packages (user);
CREATE TABLE roster_entries (
    id        INTEGER PRIMARY KEY,
    user      INTEGER NOT NULL,
    entry     BLOB NOT NULL,
    signature BLOB NOT NULL
) STRICT;
CREATE INDEX roster_of_user ON roster_entries (user, id);
