-- What names in config.toml meant when they were first used. Kind 0: a channel with a level, 1: an approver.
CREATE TABLE bindings (
    server BLOB NOT NULL,
    kind   INTEGER NOT NULL,
    name   TEXT NOT NULL,
    number INTEGER NOT NULL,
    PRIMARY KEY (server, kind, name)
) STRICT, WITHOUT ROWID;
