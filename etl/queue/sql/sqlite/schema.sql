-- The tables of a store. What is in braces is derived from `etl/records/columns.py`. All times
-- are Unix seconds. A store of an earlier version is brought up to this by the migrations.

-- The text of batches lies apart from them, so that a lease does not rewrite megabytes.
CREATE TABLE payloads (
    id       INTEGER PRIMARY KEY,
    encoding TEXT NOT NULL,              -- text, zstd, arrow or reference
    data     BLOB NOT NULL,
    checksum INTEGER                     -- CRC-32 of encoding and data
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
    context    TEXT NOT NULL DEFAULT '{{}}', -- what is known of the source, as JSON
    checksum   INTEGER,            -- CRC-32; see `checksum_of_batch`
    leased_at  REAL             -- from when the lease lasts to `until`
);
CREATE INDEX batches_by_state ON batches (state, seq);
CREATE INDEX batches_by_age ON batches (state, put_at);
CREATE INDEX batches_by_payload ON batches (payload);
CREATE INDEX batches_by_token ON batches (token) WHERE token IS NOT NULL;

-- The ids of the last hour's batches: one that is put again is known.
CREATE TABLE batch_ids (id TEXT PRIMARY KEY, put_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX batch_ids_by_age ON batch_ids (put_at);

-- The accounting identity: accepted = done + filtered + dead + leased + waiting.
CREATE TABLE totals_by_slot (slot INTEGER PRIMARY KEY, {counts_definitions});

CREATE TABLE queue_history_by_slot (
    slot INTEGER, second INTEGER, {totals_definitions}, PRIMARY KEY (slot, second)
) WITHOUT ROWID;

CREATE TABLE checkpoints (
    {checkpoints_definitions},
    moved_at REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (source, number)
) WITHOUT ROWID;
CREATE INDEX checkpoints_of_keys ON checkpoints (moved_at) WHERE {is_key};
CREATE INDEX checkpoints_by_file ON checkpoints (file) WHERE file <> '';

CREATE TABLE failures (
    id INTEGER PRIMARY KEY,
    {failures_definitions},
    source TEXT,                     -- null if an earlier version kept it for several
    UNIQUE (fingerprint, path, version, run, source)
);

CREATE TABLE dead_letters (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    failure INTEGER NOT NULL,            -- no foreign key: it would need an index
    status  TEXT NOT NULL DEFAULT 'open'
            CHECK (status IN ('open', 'replaying', 'replayed', 'discarded')),
    replays INTEGER NOT NULL DEFAULT 0,
    checksum INTEGER,                     -- CRC-32 of the values of `CHECKED`
    {new_dead_letters_definitions},
    closed_at REAL
);
CREATE INDEX dead_letters_by_status ON dead_letters (status, id);
CREATE INDEX dead_letters_by_failure ON dead_letters
    (status, failure, id, lines, replays, first_failed_at, last_failed_at);
CREATE INDEX dead_letters_by_end ON dead_letters (closed_at) WHERE closed_at IS NOT NULL;

-- With rowids: processors are listed in the order in which they first worked.
CREATE TABLE processors ({processors_definitions}, PRIMARY KEY (worker, processor));

CREATE TABLE latency_by_slot (
    slot INTEGER, {latency_definitions}, PRIMARY KEY (slot, processor, bucket)
) WITHOUT ROWID;

CREATE TABLE processor_history_by_slot (
    slot INTEGER, {processor_history_definitions}, PRIMARY KEY (slot, second, processor)
) WITHOUT ROWID;

CREATE TABLE errors (seq INTEGER PRIMARY KEY AUTOINCREMENT, {errors_definitions});

-- A row per batch.
CREATE TABLE traces (
    seq   INTEGER PRIMARY KEY AUTOINCREMENT,
    {traces_definitions},
    lines INTEGER NOT NULL,
    block BLOB NOT NULL                  -- compressed JSON
);

CREATE TABLE source_formats_by_slot (
    slot INTEGER, {source_formats_definitions}, PRIMARY KEY (slot, source, format)
) WITHOUT ROWID;

CREATE TABLE states ({states_definitions}, PRIMARY KEY (slot, processor)) WITHOUT ROWID;

CREATE TABLE workers ({workers_definitions}, PRIMARY KEY (name), UNIQUE (slot)) WITHOUT ROWID;

-- Files of committed batches. Those that may not have their final names yet have a staged one.
CREATE TABLE outputs (
    final    TEXT PRIMARY KEY,           -- below the output root, or an absolute path
    staged   TEXT,                       -- the same; null once the file has its final name
    size     INTEGER,                    -- bytes
    checksum INTEGER,                    -- CRC-32 of them
    source   TEXT NOT NULL,
    lines    INTEGER NOT NULL,           -- of the batch, that were done
    replaced_at REAL                     -- when another took its place
) WITHOUT ROWID;
CREATE UNIQUE INDEX outputs_by_staged ON outputs (staged) WHERE staged IS NOT NULL;
CREATE INDEX outputs_by_replacement ON outputs (replaced_at) WHERE replaced_at IS NOT NULL;

-- The columns of the files in a folder, as a JSON object: name -> type. "Null": no value so far.
CREATE TABLE data_sets (
    folder  TEXT PRIMARY KEY,            -- as `outputs.final`
    columns TEXT NOT NULL
) WITHOUT ROWID;

-- What an operator has asked for: paused, paused_by, reason, steps, drains, stops;
-- and the output root, relative to the store's folder or absolute.
CREATE TABLE control (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
