-- The tables of a store. One row per waiting or leased batch; its payload lies in a
-- table of its own, so that taking a lease does not rewrite megabytes. All
-- times are Unix seconds. `totals` is what conservation is read from:
-- accepted = done + filtered + dead + leased + waiting.

CREATE TABLE payloads (
    id       INTEGER PRIMARY KEY,
    encoding TEXT NOT NULL,              -- text, zstd, arrow or reference
    data     BLOB NOT NULL
);

CREATE TABLE batches (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT NOT NULL UNIQUE,
    payload    INTEGER NOT NULL REFERENCES payloads (id),
    source     TEXT NOT NULL,
    format     TEXT,
    first_line INTEGER NOT NULL,
    skip       INTEGER NOT NULL,         -- lines of the payload before this batch
    lines      INTEGER NOT NULL,
    bytes      INTEGER NOT NULL,
    put_at     REAL NOT NULL,
    not_before REAL NOT NULL DEFAULT 0,
    state      TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'leased')),
    deliveries INTEGER NOT NULL DEFAULT 0,
    worker     TEXT,
    token      TEXT,
    until      REAL
);
CREATE INDEX batches_by_state ON batches (state, seq);
CREATE INDEX batches_by_age ON batches (state, put_at);
CREATE INDEX batches_by_payload ON batches (payload);
CREATE INDEX batches_by_token ON batches (token) WHERE token IS NOT NULL;

CREATE TABLE totals (
    name    TEXT PRIMARY KEY,            -- accepted, done, filtered, dead, waiting, leased
    lines   INTEGER NOT NULL DEFAULT 0,
    bytes   INTEGER NOT NULL DEFAULT 0   -- of waiting and leased only
) WITHOUT ROWID;
INSERT INTO totals (name)
VALUES ('accepted'), ('done'), ('filtered'), ('dead'), ('waiting'), ('leased');

CREATE TRIGGER batch_put AFTER INSERT ON batches BEGIN
    UPDATE totals SET lines = lines + new.lines, bytes = bytes + new.bytes WHERE name = new.state;
END;
CREATE TRIGGER batch_gone AFTER DELETE ON batches BEGIN
    UPDATE totals SET lines = lines - old.lines, bytes = bytes - old.bytes WHERE name = old.state;
END;
CREATE TRIGGER batch_moved AFTER UPDATE OF state ON batches WHEN old.state <> new.state BEGIN
    UPDATE totals SET lines = lines - old.lines, bytes = bytes - old.bytes WHERE name = old.state;
    UPDATE totals SET lines = lines + new.lines, bytes = bytes + new.bytes WHERE name = new.state;
END;

-- How far each source has been read: moves in the transaction that puts its lines.
CREATE TABLE positions (
    source      TEXT PRIMARY KEY,
    offset      INTEGER NOT NULL,        -- bytes of (decompressed) text
    line_number INTEGER NOT NULL,        -- lines read so far
    head        TEXT NOT NULL            -- tells this file from another of its name
) WITHOUT ROWID;

CREATE TABLE failures (
    id          INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    processor   TEXT NOT NULL,
    code        TEXT NOT NULL,
    error       TEXT NOT NULL,
    traceback   TEXT NOT NULL,
    path        TEXT NOT NULL,           -- JSON list of processors
    version     TEXT NOT NULL,
    run         TEXT NOT NULL,
    UNIQUE (fingerprint, path, version, run)
);

CREATE TABLE dead (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    failure         INTEGER NOT NULL REFERENCES failures (id),
    status          TEXT NOT NULL DEFAULT 'open'
                    CHECK (status IN ('open', 'replaying', 'replayed', 'discarded')),
    batch           TEXT NOT NULL,
    source          TEXT NOT NULL,
    format          TEXT,
    line_number     INTEGER NOT NULL,
    lines           INTEGER NOT NULL,    -- over 1 for a range that could not be read
    line            TEXT NOT NULL,
    raw             BLOB,                -- the bytes, if they are not UTF-8
    payload         TEXT,                -- JSON of the row's fields at failure
    message         TEXT NOT NULL,
    attempts        INTEGER NOT NULL,
    replays         INTEGER NOT NULL DEFAULT 0,
    first_failed_at REAL NOT NULL,
    last_failed_at  REAL NOT NULL
);
CREATE INDEX dead_by_status ON dead (status, failure);
CREATE INDEX dead_by_failure ON dead (failure);

CREATE TABLE processors (
    worker    TEXT NOT NULL,
    processor TEXT NOT NULL,
    received  INTEGER NOT NULL,
    emitted   INTEGER NOT NULL,
    filtered  INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    retries   INTEGER NOT NULL,
    dead      INTEGER NOT NULL,
    seconds   REAL NOT NULL,
    PRIMARY KEY (worker, processor)
);  -- with rowids: rows stay in the order of the pipeline

CREATE TABLE latency (
    processor TEXT NOT NULL,
    bucket    INTEGER NOT NULL,          -- see metrics.py: eighths of a power of two
    lines     INTEGER NOT NULL,
    PRIMARY KEY (processor, bucket)
) WITHOUT ROWID;

CREATE TABLE processor_history (
    second    INTEGER NOT NULL,
    processor TEXT NOT NULL,
    received  INTEGER NOT NULL,
    emitted   INTEGER NOT NULL,
    filtered  INTEGER NOT NULL,
    errors    INTEGER NOT NULL,
    retries   INTEGER NOT NULL,
    dead      INTEGER NOT NULL,
    seconds   REAL NOT NULL,
    PRIMARY KEY (second, processor)
) WITHOUT ROWID;

CREATE TABLE queue_history (
    second   INTEGER PRIMARY KEY,        -- totals as they stood at the end of it
    accepted INTEGER NOT NULL,
    done     INTEGER NOT NULL,
    filtered INTEGER NOT NULL,
    dead     INTEGER NOT NULL,
    waiting  INTEGER NOT NULL,
    leased   INTEGER NOT NULL
);

CREATE TABLE errors (
    seq       INTEGER PRIMARY KEY AUTOINCREMENT,
    at        REAL NOT NULL,
    worker    TEXT NOT NULL,
    batch     TEXT NOT NULL,
    processor TEXT NOT NULL,
    error     TEXT NOT NULL,
    message   TEXT NOT NULL,
    lines     INTEGER NOT NULL,
    action    TEXT NOT NULL              -- dead, dropped or retried
);

CREATE TABLE traces (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      REAL NOT NULL,
    worker  TEXT NOT NULL,
    batch   TEXT NOT NULL,
    source  TEXT NOT NULL,
    version TEXT NOT NULL,
    lines   INTEGER NOT NULL,
    block   BLOB NOT NULL                -- compressed JSON, see Trace
);

CREATE TABLE states (
    slot      INTEGER NOT NULL,          -- parallel workers have a state each
    processor TEXT NOT NULL,
    state     TEXT NOT NULL,             -- JSON
    PRIMARY KEY (slot, processor)
) WITHOUT ROWID;

CREATE TABLE workers (
    name         TEXT PRIMARY KEY,
    slot         INTEGER NOT NULL UNIQUE,
    host         TEXT NOT NULL,
    pid          INTEGER NOT NULL,
    started_at   REAL NOT NULL,
    heartbeat_at REAL NOT NULL
) WITHOUT ROWID;

-- Files that are committed and may not have their final name yet.
CREATE TABLE outputs (
    staged TEXT PRIMARY KEY,
    final  TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE control (
    key   TEXT PRIMARY KEY,              -- paused, reason, steps, drains, stops
    value TEXT NOT NULL
) WITHOUT ROWID;
