-- The tables of a store. What is in braces is derived from `etl/records/columns.py`. All times
-- are Unix seconds.

CREATE TABLE etl_store (version INTEGER NOT NULL);

-- The text of batches lies apart from them, so that a lease does not rewrite megabytes.
CREATE TABLE payloads (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    encoding TEXT NOT NULL,              -- text, zstd, arrow or reference
    data     BYTEA NOT NULL,
    checksum BIGINT                      -- CRC-32 of encoding and data
);
ALTER TABLE payloads ALTER COLUMN data SET STORAGE EXTERNAL;  -- it is compressed already

-- A row per waiting or leased batch.
CREATE TABLE batches (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    payload    BIGINT NOT NULL REFERENCES payloads (id),
    source     TEXT NOT NULL,
    format     TEXT,
    first_line BIGINT NOT NULL,
    skip       BIGINT NOT NULL,           -- lines of the payload before this batch
    lines      BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    put_at     DOUBLE PRECISION NOT NULL,
    not_before DOUBLE PRECISION NOT NULL DEFAULT 0,
    state      TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'leased')),
    deliveries BIGINT NOT NULL DEFAULT 0,
    worker     TEXT,
    token      TEXT,
    until      DOUBLE PRECISION,
    context    TEXT NOT NULL DEFAULT '{{}}', -- what is known of the source, as JSON
    checksum   BIGINT,            -- CRC-32; see `checksum_of_batch`
    leased_at  DOUBLE PRECISION             -- from when the lease lasts to `until`
);
CREATE INDEX batches_by_state ON batches (state, seq);
CREATE INDEX batches_by_age ON batches (state, put_at);
CREATE INDEX batches_by_payload ON batches (payload);
CREATE INDEX batches_by_token ON batches (token) WHERE token IS NOT NULL;

-- The ids of the last hour's batches: one that is put again is known.
CREATE TABLE batch_ids (id TEXT PRIMARY KEY, put_at DOUBLE PRECISION NOT NULL);
CREATE INDEX batch_ids_by_age ON batch_ids (put_at);

-- The accounting identity: accepted = done + filtered + dead + leased + waiting. A slot's own
-- numbers may be negative: what one has put, another has leased.
CREATE TABLE totals_by_slot (slot BIGINT PRIMARY KEY, {counts_definitions}) WITH (fillfactor = 20);

CREATE TABLE queue_history_by_slot (
    slot BIGINT, second BIGINT, {totals_definitions}, PRIMARY KEY (slot, second)
);

CREATE TABLE checkpoints (
    {checkpoints_definitions},
    moved_at DOUBLE PRECISION NOT NULL DEFAULT 0,
    PRIMARY KEY (source, number)
);
CREATE INDEX checkpoints_of_keys ON checkpoints (moved_at) WHERE {is_key};
CREATE INDEX checkpoints_by_file ON checkpoints (file) WHERE file <> '';

CREATE TABLE failures (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    {failures_definitions},
    source TEXT COLLATE "C",         -- null if an earlier version kept it for several
    UNIQUE (fingerprint, path, version, run, source)
);

CREATE TABLE dead_letters (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failure BIGINT NOT NULL,             -- no foreign key: it would need an index
    status  TEXT NOT NULL DEFAULT 'open'
            CHECK (status IN ('open', 'replaying', 'replayed', 'discarded')),
    replays BIGINT NOT NULL DEFAULT 0,
    checksum BIGINT,                     -- CRC-32 of the values of `CHECKED`
    {new_dead_letters_definitions},
    closed_at DOUBLE PRECISION
);
CREATE INDEX dead_letters_by_status ON dead_letters (status, id);
CREATE INDEX dead_letters_by_failure ON dead_letters (status, failure, id)
    INCLUDE (lines, replays, first_failed_at, last_failed_at);
CREATE INDEX dead_letters_by_end ON dead_letters (closed_at) WHERE closed_at IS NOT NULL;

-- Processors are listed in the order in which they first worked.
CREATE TABLE processors (
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    {processors_definitions},
    PRIMARY KEY (worker, processor)
);

CREATE TABLE processor_history_by_slot (
    slot BIGINT, {processor_history_definitions}, PRIMARY KEY (slot, second, processor)
);
CREATE TABLE latency_by_slot (
    slot BIGINT, {latency_definitions}, PRIMARY KEY (slot, processor, bucket)
);
CREATE TABLE source_formats_by_slot (
    slot BIGINT, {source_formats_definitions}, PRIMARY KEY (slot, source, format)
);
CREATE TABLE errors (seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {errors_definitions});

-- A row per batch.
CREATE TABLE traces (
    seq   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    {traces_definitions},
    lines BIGINT NOT NULL,
    block BYTEA NOT NULL                  -- compressed JSON
);

CREATE TABLE states ({states_definitions}, PRIMARY KEY (slot, processor));

CREATE TABLE workers ({workers_definitions}, PRIMARY KEY (name), UNIQUE (slot));

-- Files of committed batches. Those that may not have their final names yet have a staged one.
CREATE TABLE outputs (
    final    TEXT COLLATE "C" PRIMARY KEY, -- below the output root, or an absolute path
    staged   TEXT,                       -- the same; null once the file has its final name
    size     BIGINT,                     -- bytes
    checksum BIGINT,                     -- CRC-32 of them
    source   TEXT NOT NULL,
    lines    BIGINT NOT NULL,            -- of the batch, that were done
    replaced_at DOUBLE PRECISION         -- when another took its place
);
CREATE UNIQUE INDEX outputs_by_staged ON outputs (staged) WHERE staged IS NOT NULL;
CREATE INDEX outputs_by_replacement ON outputs (replaced_at) WHERE replaced_at IS NOT NULL;

-- The columns of the files in a folder, as a JSON object: name -> type. "Null": no value so far.
CREATE TABLE data_sets (
    folder  TEXT COLLATE "C" PRIMARY KEY, -- as `outputs.final`
    columns TEXT NOT NULL
);

-- What an operator has asked for: paused, paused_by, reason, steps, drains, stops;
-- and the output root, an absolute path.
CREATE TABLE control (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
