-- What is kept for a time only. Where there is a :limit, the oldest so many rows are deleted.

-- name: forget_queue_history
-- All before a second but each slot's newest: it counts until there is a newer one.
DELETE FROM queue_history_by_slot WHERE (slot, second) IN (
    SELECT slot, second FROM queue_history_by_slot old WHERE second < :second AND second < (
        SELECT max(second) FROM queue_history_by_slot newer
        WHERE newer.slot = old.slot AND newer.second < :second
    ) {skip_locked}
);

-- name: forget_processor_history
DELETE FROM processor_history_by_slot WHERE (slot, second, processor) IN (
    SELECT slot, second, processor FROM processor_history_by_slot
    WHERE second < :second {skip_locked}
);

-- name: forget_old_traces
-- All but the newest batches that have so many lines between them.
DELETE FROM traces WHERE seq IN (
    SELECT seq FROM traces WHERE seq < (
        SELECT max(seq) FROM (
            SELECT seq, sum(lines) OVER (ORDER BY seq DESC) AS newer FROM traces
        ) counted WHERE newer >= :kept
    ) {skip_locked}
);

-- name: forget_ids
DELETE FROM batch_ids WHERE id IN (
    SELECT id FROM batch_ids WHERE put_at < :since ORDER BY put_at LIMIT :limit {skip_locked}
);

-- name: forget_keys
-- Checkpoints of requests with an idempotency key; those of files stay.
DELETE FROM checkpoints WHERE source IN (
    SELECT source FROM checkpoints WHERE {is_key} AND moved_at < :since
    ORDER BY moved_at LIMIT :limit {skip_locked}
);

-- name: count_keys
SELECT count(*) AS found FROM checkpoints WHERE {is_key} AND moved_at < :since;

-- name: forget_closed
-- Dead letters that were replayed or discarded.
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE closed_at < :since
    ORDER BY closed_at LIMIT :limit {skip_locked}
) RETURNING status, lines;

-- name: count_closed
SELECT count(*) AS found FROM dead_letters WHERE closed_at < :since;

-- name: check_failures
-- The next kinds of failure, and whether each has dead letters.
SELECT id, {has_dead_letters} AS used
FROM (SELECT id FROM failures WHERE id > :after ORDER BY id LIMIT :limit) failures ORDER BY id;

-- name: lock_failures
SELECT id FROM failures WHERE id {in_ids} {skip_locked};

-- name: forget_failures
DELETE FROM failures WHERE id {in_ids} AND NOT {has_dead_letters};

-- name: ended_workers
-- Workers that have ended, but for the newest of them.
SELECT worker FROM processors
WHERE worker <> '' AND worker NOT IN (SELECT name FROM workers)
GROUP BY worker ORDER BY max({position}) DESC LIMIT :limit OFFSET :kept;

-- name: take_processors
DELETE FROM processors WHERE worker {in_texts} RETURNING {position} AS position, {processors};
