-- What a commit keeps besides taking the batches out. What every commit of every worker changes
-- is kept in rows of its own for each slot, and added up when it is read (`views.sql`).

-- name: add_totals
INSERT INTO totals_by_slot AS counts (slot, {counts}) VALUES ({slot}, {counts_values})
ON CONFLICT (slot) DO UPDATE SET {counts_sums};

-- name: record_totals
-- The slot's totals at the end of a second.
INSERT INTO queue_history_by_slot (slot, second, {totals})
SELECT slot, :second, {totals} FROM totals_by_slot WHERE slot = {slot}
ON CONFLICT (slot, second) DO UPDATE SET {totals_updates};

-- name: forget_future_queue_history
-- Of a clock that was set back since: the totals of now have all that these count.
DELETE FROM queue_history_by_slot WHERE slot = {slot} AND second > :second;

-- name: forget_future_processor_history
DELETE FROM processor_history_by_slot WHERE slot = {slot} AND second > :second;

-- name: add_processor_history
INSERT INTO processor_history_by_slot AS processor_history (slot, {processor_history})
SELECT {slot}, {processor_history} FROM {processor_history_rows} WHERE TRUE
ON CONFLICT (slot, second, processor) DO UPDATE SET {processor_history_sums};

-- name: add_latency
INSERT INTO latency_by_slot AS latency (slot, {latency})
SELECT {slot}, {latency} FROM {latency_rows} WHERE TRUE
ON CONFLICT (slot, processor, bucket) DO UPDATE SET {latency_sums};

-- name: add_format
INSERT INTO source_formats_by_slot AS source_formats (slot, {source_formats})
VALUES ({slot}, {source_formats_values})
ON CONFLICT (slot, source, format) DO UPDATE SET {source_formats_sums};

-- name: insert_failure
INSERT INTO failures ({failures}, source) VALUES ({failures_values}, :source)
ON CONFLICT (fingerprint, path, version, run, source) DO NOTHING;

-- name: failure_id
-- Kept until the end of the transaction: what has no dead letters may be deleted by others.
SELECT id FROM failures
WHERE fingerprint = :fingerprint AND path = :path AND version = :version AND run = :run
AND source = :source {for_key_share};

-- name: insert_dead_letter
INSERT INTO dead_letters (failure, checksum, {new_dead_letters})
VALUES (:failure, :checksum, {new_dead_letters_values});

-- name: reopen_dead_letter
-- A replayed line that failed again.
UPDATE dead_letters
SET status = 'open', failure = :failure, checksum = :checksum,
    source = :source, line_number = :line_number, lines = :lines, line = :line, raw = :raw,
    format = :format, payload = :payload, message = :message, context = :context,
    attempts = attempts + :attempts, last_failed_at = :last_failed_at
WHERE id = :dead_letter_id;

-- name: close_replayed
UPDATE dead_letters SET status = 'replayed', closed_at = :closed_at WHERE id = :id;

-- name: add_processors
INSERT INTO processors ({processors}) SELECT {processors} FROM {processors_rows} WHERE TRUE
ON CONFLICT (worker, processor) DO UPDATE SET {processors_sums};

-- name: set_state
INSERT INTO states ({states}) VALUES ({states_values})
ON CONFLICT (slot, processor) DO UPDATE SET state = excluded.state;

-- name: insert_error
INSERT INTO errors ({errors}) VALUES ({errors_values});

-- name: forget_errors
DELETE FROM errors WHERE seq IN (
    SELECT seq FROM errors WHERE seq <= (SELECT max(seq) FROM errors) - :kept {skip_locked}
);

-- name: insert_trace
INSERT INTO traces ({traces}, lines, block) VALUES ({traces_values}, :lines, :block)
RETURNING seq;

-- name: forget_traces_before
DELETE FROM traces WHERE seq IN (SELECT seq FROM traces WHERE seq < :seq {skip_locked});

-- name: insert_output
INSERT INTO outputs (final, staged, size, checksum, source, lines)
VALUES (:final, :staged, :size, :checksum, :source, :lines)
ON CONFLICT (final) DO UPDATE SET staged = excluded.staged, size = excluded.size,
    checksum = excluded.checksum, source = excluded.source, lines = excluded.lines,
    replaced_at = NULL;
