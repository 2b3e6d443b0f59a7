-- What the host of agents keeps. An agent is a reader, known by its server's key and its handle.
CREATE TABLE host_agents (
    id     INTEGER PRIMARY KEY,
    server BLOB    NOT NULL,
    handle TEXT    NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    UNIQUE (server, handle)
) STRICT;

-- Messages that wake an agent, until they are acknowledged. `answer` is what is to be posted, `target` the stream that it goes to,
-- `process` what runs.
CREATE TABLE host_jobs (
    agent    INTEGER NOT NULL,
    stream   INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    channel  TEXT,
    message  BLOB    NOT NULL,
    phase    INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    answer   TEXT,
    target   INTEGER,
    process  TEXT,
    PRIMARY KEY (agent, stream, seq)
) STRICT;

-- Up to which message of a stream it is decided whether it wakes the agent.
CREATE TABLE host_judged (
    agent  INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (agent, stream)
) STRICT, WITHOUT ROWID;

-- When runs of the last hour began, and who knows that there are none left.
CREATE TABLE host_runs (agent INTEGER NOT NULL, at INTEGER NOT NULL) STRICT;
CREATE INDEX host_runs_by_agent ON host_runs (agent, at);
CREATE TABLE host_told (agent INTEGER NOT NULL, user TEXT NOT NULL, PRIMARY KEY (agent, user)) STRICT, WITHOUT ROWID;

-- The client's own session of each conversation.
CREATE TABLE host_sessions (
    agent        INTEGER NOT NULL,
    conversation TEXT    NOT NULL,
    session      TEXT    NOT NULL,
    used         INTEGER NOT NULL,
    PRIMARY KEY (agent, conversation)
) STRICT, WITHOUT ROWID;
