-- From version 1: batches are counted without triggers, and ids are kept for an hour.
DROP VIEW totals, queue_history, processor_history, latency, source_formats;
DROP TRIGGER batches_put ON batches;
DROP TRIGGER batches_gone ON batches;
DROP TRIGGER batches_moved ON batches;
DROP FUNCTION count_batches();
ALTER TABLE totals_by_slot ADD COLUMN leased_batches BIGINT NOT NULL DEFAULT 0;
ALTER TABLE totals_by_slot ADD COLUMN waiting_batches BIGINT NOT NULL DEFAULT 0;
UPDATE totals_by_slot
SET leased_batches = (SELECT count(*) FROM batches WHERE state = 'leased'),
    waiting_batches = (SELECT count(*) FROM batches WHERE state = 'waiting')
WHERE slot = 0;
CREATE TABLE batch_ids (id TEXT PRIMARY KEY, put_at DOUBLE PRECISION NOT NULL);
CREATE INDEX batch_ids_by_age ON batch_ids (put_at);
INSERT INTO batch_ids (id, put_at) SELECT id, put_at FROM batches;
DROP INDEX dead_letters_by_failure;
CREATE INDEX dead_letters_by_failure ON dead_letters (status, failure, id)
    INCLUDE (lines, replays, first_failed_at, last_failed_at);
