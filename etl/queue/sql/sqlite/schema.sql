-- The tables of a store. What is in braces is derived from `etl/records/columns.py`. All times
-- are Unix seconds. A store of an earlier version is brought up to this by the migrations.

-- The text of batches lies apart from them, so that a lease does not rewrite megabytes.
CREATE TABLE payloads (
    id       INTEGER PRIMARY KEY,
    encoding TEXT NOT NULL,              -- text, zstd, arrow or reference
    data     BLOB NOT NULL
);

-- A row per waiting or leased batch.
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
    until      REAL,
    context    TEXT NOT NULL DEFAULT '{{}}'  -- what is known of the source, as JSON
);
CREATE INDEX batches_by_state ON batches (state, seq);
CREATE INDEX batches_by_age ON batches (state, put_at);
CREATE INDEX batches_by_payload ON batches (payload);
CREATE INDEX batches_by_token ON batches (token) WHERE token IS NOT NULL;

-- The accounting identity: accepted = done + filtered + dead + leased + waiting.
CREATE TABLE totals (
    name    TEXT PRIMARY KEY,
    lines   INTEGER NOT NULL DEFAULT 0,
    bytes   INTEGER NOT NULL DEFAULT 0   -- of waiting and leased only
) WITHOUT ROWID;
INSERT INTO totals (name) VALUES {totals_rows};

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

CREATE TABLE checkpoints ({checkpoints_definitions}, PRIMARY KEY (source)) WITHOUT ROWID;

CREATE TABLE failures (
    id INTEGER PRIMARY KEY,
    {failures_definitions},
    UNIQUE (fingerprint, path, version, run)
);

CREATE TABLE dead_letters (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    failure INTEGER NOT NULL REFERENCES failures (id),
    status  TEXT NOT NULL DEFAULT 'open'
            CHECK (status IN ('open', 'replaying', 'replayed', 'discarded')),
    replays INTEGER NOT NULL DEFAULT 0,
    {new_dead_letters_definitions}
);
CREATE INDEX dead_letters_by_status ON dead_letters (status, id);
CREATE INDEX dead_letters_by_failure ON dead_letters (status, failure);

-- With rowids: processors are listed in the order in which they first worked.
CREATE TABLE processors ({processors_definitions}, PRIMARY KEY (worker, processor));

CREATE TABLE latency ({latency_definitions}, PRIMARY KEY (processor, bucket)) WITHOUT ROWID;

CREATE TABLE processor_history (
    {processor_history_definitions}, PRIMARY KEY (second, processor)
) WITHOUT ROWID;

CREATE TABLE queue_history ({queue_history_definitions}, PRIMARY KEY (second));

CREATE TABLE errors (seq INTEGER PRIMARY KEY AUTOINCREMENT, {errors_definitions});

-- A row per batch.
CREATE TABLE traces (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    {traces_definitions},
    lines INTEGER NOT NULL,
    block BLOB NOT NULL                  -- compressed JSON
);

CREATE TABLE source_formats (
    {source_formats_definitions}, PRIMARY KEY (source, format)
) WITHOUT ROWID;

CREATE TABLE states ({states_definitions}, PRIMARY KEY (slot, processor)) WITHOUT ROWID;

CREATE TABLE workers ({workers_definitions}, PRIMARY KEY (name), UNIQUE (slot)) WITHOUT ROWID;

-- Files that are committed and may not have their final names yet.
CREATE TABLE outputs (
    staged TEXT PRIMARY KEY,
    final  TEXT NOT NULL
) WITHOUT ROWID;

-- What an operator has asked for: paused, paused_by, reason, steps, drains, stops.
CREATE TABLE control (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
