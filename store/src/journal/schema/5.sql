-- The audit trail: who did what to whom. Names are those of the time. Old rows go by their number, see audit.rs.
CREATE TABLE audit (
    id           INTEGER PRIMARY KEY,
    at           INTEGER NOT NULL,
    user         INTEGER NOT NULL,
    path         TEXT NOT NULL, -- user/machine/session
    act          TEXT NOT NULL,
    channel      INTEGER,
    channel_name TEXT,
    subject      TEXT
) STRICT;

CREATE INDEX audit_by_user ON audit (user);
CREATE INDEX audit_by_channel ON audit (channel) WHERE channel IS NOT NULL;
