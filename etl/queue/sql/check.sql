-- What `etl check` reads, in pages.

-- name: batch_rows
SELECT seq, id, source, format, context, first_line, skip, lines, checksum FROM batches
WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: check_batches
SELECT state, CAST(sum(lines) AS BIGINT) AS lines FROM batches GROUP BY state;

-- name: check_dead
-- Those that are there, and those that were discarded and pruned.
SELECT CAST(coalesce(sum(lines), 0) AS BIGINT)
       + (SELECT CAST(coalesce(sum(pruned), 0) AS BIGINT) FROM totals_by_slot) AS lines
FROM dead_letters WHERE status IN ('open', 'discarded');

-- name: check_payloads
SELECT id, encoding, data, checksum FROM payloads WHERE id > :after ORDER BY id LIMIT :limit;

-- name: batches_of_payload
SELECT id, source, lines FROM batches WHERE payload = :payload ORDER BY seq;

-- name: check_dead_letters
SELECT id, checksum, {checked} FROM dead_letters WHERE id > :after ORDER BY id LIMIT :limit;

-- name: check_traces
SELECT seq, batch, source, block FROM traces WHERE seq > :after ORDER BY seq LIMIT :limit;

-- name: check_outputs
SELECT final, staged, size, checksum, source, lines FROM outputs
WHERE final > :after AND replaced_at IS NULL
ORDER BY final LIMIT :limit;

-- name: check_output
SELECT 1 AS found FROM outputs WHERE final = :final AND replaced_at IS NULL;
