-- Names that were given up and are held back for whoever had them. A user's heir is the user's keys, one behind the other;
-- a channel's is the number of the user who had created it.
CREATE TABLE held_names (
    kind  INTEGER NOT NULL, -- 0: a user's, 1: a channel's
    name  TEXT NOT NULL,
    keys  BLOB,
    user  INTEGER,
    until INTEGER NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
