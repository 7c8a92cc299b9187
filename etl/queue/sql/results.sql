-- What a commit keeps besides taking the batches out.

-- name: insert_failure
INSERT INTO failures ({failures}) VALUES ({failures_values})
ON CONFLICT (fingerprint, path, version, run) DO NOTHING;

-- name: failure_id
SELECT id FROM failures
WHERE fingerprint = :fingerprint AND path = :path AND version = :version AND run = :run;

-- name: insert_dead_letter
INSERT INTO dead_letters (failure, {new_dead_letters}) VALUES (:failure, {new_dead_letters_values});

-- name: reopen_dead_letter
-- A replayed line that failed again.
UPDATE dead_letters
SET status = 'open', failure = :failure, line = :line, raw = :raw, payload = :payload,
    message = :message, attempts = attempts + :attempts, last_failed_at = :last_failed_at
WHERE id = :dead_letter_id;

-- name: close_replayed
UPDATE dead_letters SET status = 'replayed' WHERE id = :id;

-- name: add_processor
INSERT INTO processors ({processors}) VALUES ({processors_values})
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

-- name: forget_old_traces
-- All but the newest batches that have so many lines between them.
DELETE FROM traces WHERE seq IN (
    SELECT seq FROM traces WHERE seq < (
        SELECT max(seq) FROM (
            SELECT seq, sum(lines) OVER (ORDER BY seq DESC) AS newer FROM traces
        ) counted WHERE newer >= :kept
    ) {skip_locked}
);

-- name: insert_output
INSERT INTO outputs (staged, final) VALUES (:staged, :final);
