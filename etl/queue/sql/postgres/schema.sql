-- The tables of a store. What is in braces is derived from `etl/records/columns.py`. All times
-- are Unix seconds.

CREATE TABLE etl_store (version INTEGER NOT NULL);

-- The text of batches lies apart from them, so that a lease does not rewrite megabytes.
CREATE TABLE payloads (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    encoding TEXT NOT NULL,              -- text, zstd, arrow or reference
    data     BYTEA NOT NULL
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
    context    TEXT NOT NULL DEFAULT '{{}}'   -- what is known of the source, as JSON
);
CREATE INDEX batches_by_state ON batches (state, seq);
CREATE INDEX batches_by_age ON batches (state, put_at);
CREATE INDEX batches_by_payload ON batches (payload);
CREATE INDEX batches_by_token ON batches (token) WHERE token IS NOT NULL;

-- The accounting identity: accepted = done + filtered + dead + leased + waiting. A slot's own
-- numbers may be negative: what one has put, another has leased.
CREATE TABLE totals_by_slot (
    slot          BIGINT PRIMARY KEY,
    {totals_counts},
    leased_bytes  BIGINT NOT NULL DEFAULT 0,
    waiting_bytes BIGINT NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
INSERT INTO totals_by_slot (slot) SELECT generate_series(0, 63);

CREATE VIEW totals AS
SELECT name, CAST(sum(lines) AS BIGINT) AS lines, CAST(sum(bytes) AS BIGINT) AS bytes
FROM totals_by_slot CROSS JOIN LATERAL (VALUES
    ('accepted', accepted, 0), ('done', done, 0), ('filtered', filtered, 0), ('dead', dead, 0),
    ('leased', leased, leased_bytes), ('waiting', waiting, waiting_bytes)
) AS one (name, lines, bytes) GROUP BY name;

CREATE FUNCTION count_batches() RETURNS TRIGGER LANGUAGE plpgsql AS $$
DECLARE
    leased_more BIGINT := 0;
    leased_bytes_more BIGINT := 0;
    waiting_more BIGINT := 0;
    waiting_bytes_more BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        SELECT -coalesce(sum(lines) FILTER (WHERE state = 'leased'), 0),
               -coalesce(sum(bytes) FILTER (WHERE state = 'leased'), 0),
               -coalesce(sum(lines) FILTER (WHERE state = 'waiting'), 0),
               -coalesce(sum(bytes) FILTER (WHERE state = 'waiting'), 0)
        INTO leased_more, leased_bytes_more, waiting_more, waiting_bytes_more FROM old_rows;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT leased_more + coalesce(sum(lines) FILTER (WHERE state = 'leased'), 0),
               leased_bytes_more + coalesce(sum(bytes) FILTER (WHERE state = 'leased'), 0),
               waiting_more + coalesce(sum(lines) FILTER (WHERE state = 'waiting'), 0),
               waiting_bytes_more + coalesce(sum(bytes) FILTER (WHERE state = 'waiting'), 0)
        INTO leased_more, leased_bytes_more, waiting_more, waiting_bytes_more FROM new_rows;
    END IF;
    UPDATE totals_by_slot
    SET leased = leased + leased_more, leased_bytes = leased_bytes + leased_bytes_more,
        waiting = waiting + waiting_more, waiting_bytes = waiting_bytes + waiting_bytes_more
    WHERE slot = {slot} AND (leased_more, waiting_more, waiting_bytes_more) <> (0, 0, 0);
    RETURN NULL;
END $$;
CREATE TRIGGER batches_put AFTER INSERT ON batches
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_batches();
CREATE TRIGGER batches_gone AFTER DELETE ON batches
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_batches();
CREATE TRIGGER batches_moved AFTER UPDATE ON batches
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_batches();

CREATE TABLE queue_history_by_slot (
    slot   BIGINT,
    second BIGINT,
    {totals_counts},
    PRIMARY KEY (slot, second)
);

-- The sum, at each second, of the last numbers that each slot had until then.
CREATE VIEW queue_history AS
WITH changes AS (
    SELECT second, {totals_changes} FROM queue_history_by_slot
    WINDOW before AS (PARTITION BY slot ORDER BY second)
), history AS (SELECT second, {totals_running} FROM changes GROUP BY second)
SELECT {queue_history} FROM history
WHERE second >= (SELECT max(second) FROM queue_history_by_slot) - {history_seconds};

CREATE TABLE checkpoints ({checkpoints_definitions}, PRIMARY KEY (source));

CREATE TABLE failures (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    {failures_definitions},
    UNIQUE (fingerprint, path, version, run)
);

CREATE TABLE dead_letters (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failure BIGINT NOT NULL REFERENCES failures (id),
    status  TEXT NOT NULL DEFAULT 'open'
            CHECK (status IN ('open', 'replaying', 'replayed', 'discarded')),
    replays BIGINT NOT NULL DEFAULT 0,
    {new_dead_letters_definitions}
);
CREATE INDEX dead_letters_by_status ON dead_letters (status, id);
CREATE INDEX dead_letters_by_failure ON dead_letters (status, failure);

-- Processors are listed in the order in which they first worked.
CREATE TABLE processors (
    position BIGINT GENERATED ALWAYS AS IDENTITY,
    {processors_definitions},
    PRIMARY KEY (worker, processor)
);

CREATE TABLE processor_history_by_slot (
    slot BIGINT, {processor_history_definitions}, PRIMARY KEY (slot, second, processor)
);
CREATE VIEW processor_history AS
SELECT second, processor, {processor_history_totals}
FROM processor_history_by_slot GROUP BY second, processor
HAVING second >= (SELECT max(second) FROM processor_history_by_slot) - {history_seconds};

CREATE TABLE latency_by_slot (
    slot BIGINT, {latency_definitions}, PRIMARY KEY (slot, processor, bucket)
);
CREATE VIEW latency AS
SELECT processor, bucket, {latency_totals}
FROM latency_by_slot GROUP BY processor, bucket;

CREATE TABLE source_formats_by_slot (
    slot BIGINT, {source_formats_definitions}, PRIMARY KEY (slot, source, format)
);
CREATE VIEW source_formats AS
SELECT source, format, {source_formats_totals}
FROM source_formats_by_slot GROUP BY source, format;

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

-- Files that are committed and may not have their final names yet.
CREATE TABLE outputs (
    staged TEXT PRIMARY KEY,
    final  TEXT NOT NULL
);

-- What an operator has asked for: paused, paused_by, reason, steps, drains, stops.
CREATE TABLE control (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
