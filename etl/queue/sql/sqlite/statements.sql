-- name: lock
-- Nothing to do: there is one writer at a time.
SELECT :name;

-- name: try_lock
SELECT 1 AS locked;

-- name: known_ids
-- Those of a list that were put within the time for which ids are kept, or wait.
SELECT value AS id FROM json_each(:texts)
WHERE EXISTS (SELECT 1 FROM batch_ids WHERE id = value)
   OR EXISTS (SELECT 1 FROM batches WHERE id = value);

-- name: work_version
-- What heartbeats and the like do not change: batches and lines in each state, and what an
-- operator has asked for.
SELECT * FROM (SELECT group_concat(key || value) FROM control) LEFT JOIN totals_by_slot;

-- name: newest_of_kinds
-- The newest dead letters of some kinds of failure: the newest of each, and of these the newest.
SELECT failure, checksum, {dead_letters} FROM dead_letters WHERE id IN (
    SELECT newest.id
    FROM json_each(:ids) kind CROSS JOIN json_each(:statuses) state CROSS JOIN dead_letters newest
    WHERE newest.id IN (
        SELECT d.id FROM dead_letters d
        WHERE d.status = state.value AND d.failure = kind.value AND <where>
        ORDER BY d.id DESC LIMIT :limit + :skip
    )
    ORDER BY newest.id DESC LIMIT :limit OFFSET :skip
) ORDER BY id DESC;

-- name: take_leased
DELETE FROM batches WHERE token = :token RETURNING payload, lines, bytes;

-- name: read_processors
SELECT rowid AS position, {processors} FROM processors ORDER BY position DESC LIMIT :limit;
