-- From version 3: what commits count is kept by slot, as in every store, and ids are kept for an
-- hour.
DROP TRIGGER batch_put;
DROP TRIGGER batch_gone;
DROP TRIGGER batch_moved;
CREATE TABLE totals_by_slot (
    slot INTEGER PRIMARY KEY, {totals_definitions}, leased_bytes INTEGER NOT NULL,
    waiting_bytes INTEGER NOT NULL, leased_batches INTEGER NOT NULL, waiting_batches INTEGER NOT NULL
);
INSERT INTO totals_by_slot (slot, {totals}, leased_bytes, waiting_bytes, leased_batches, waiting_batches)
SELECT 0, {totals_pivot},
       max(bytes) FILTER (WHERE name = 'leased'), max(bytes) FILTER (WHERE name = 'waiting'),
       (SELECT count(*) FROM batches WHERE state = 'leased'),
       (SELECT count(*) FROM batches WHERE state = 'waiting')
FROM totals;
DROP TABLE totals;
CREATE TABLE queue_history_by_slot (
    slot INTEGER, second INTEGER, {totals_definitions}, PRIMARY KEY (slot, second)
) WITHOUT ROWID;
INSERT INTO queue_history_by_slot (slot, second, {totals})
SELECT 0, second, {totals} FROM queue_history;
DROP TABLE queue_history;
CREATE TABLE latency_by_slot (
    slot INTEGER, {latency_definitions}, PRIMARY KEY (slot, processor, bucket)
) WITHOUT ROWID;
INSERT INTO latency_by_slot (slot, {latency}) SELECT 0, {latency} FROM latency;
DROP TABLE latency;
CREATE TABLE processor_history_by_slot (
    slot INTEGER, {processor_history_definitions}, PRIMARY KEY (slot, second, processor)
) WITHOUT ROWID;
INSERT INTO processor_history_by_slot (slot, {processor_history})
SELECT 0, {processor_history} FROM processor_history;
DROP TABLE processor_history;
CREATE TABLE source_formats_by_slot (
    slot INTEGER, {source_formats_definitions}, PRIMARY KEY (slot, source, format)
) WITHOUT ROWID;
INSERT INTO source_formats_by_slot (slot, {source_formats})
SELECT 0, {source_formats} FROM source_formats;
DROP TABLE source_formats;
CREATE TABLE batch_ids (id TEXT PRIMARY KEY, put_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX batch_ids_by_age ON batch_ids (put_at);
INSERT INTO batch_ids (id, put_at) SELECT id, put_at FROM batches;
DROP INDEX dead_letters_by_failure;
CREATE INDEX dead_letters_by_failure ON dead_letters
    (status, failure, id, lines, replays, first_failed_at, last_failed_at);
