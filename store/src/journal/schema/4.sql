-- Invites to the server: hash is what an invite's secret hashes to.
CREATE TABLE user_invites (
    hash    BLOB PRIMARY KEY,
    maker   INTEGER NOT NULL,
    uses    INTEGER, -- null: any number
    expires INTEGER, -- null: never
    created INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
