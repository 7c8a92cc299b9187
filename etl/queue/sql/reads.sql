-- Tables are read by the newest rows first.

-- name: totals
SELECT {counts}, (SELECT min(put_at) FROM batches WHERE state = 'waiting') AS oldest FROM totals;

-- name: read_latency
SELECT {latency} FROM latency ORDER BY processor DESC, bucket DESC LIMIT :limit;

-- name: read_processor_history
SELECT {processor_history} FROM processor_history ORDER BY second DESC LIMIT :limit;

-- name: read_queue_history
SELECT {queue_history} FROM queue_history ORDER BY second DESC LIMIT :limit;

-- name: read_errors
SELECT seq, {errors} FROM errors ORDER BY seq DESC LIMIT :limit;

-- name: batches_done
-- Each leaves a trace; the newest stays.
SELECT coalesce(max(seq), 0) AS batches FROM traces;

-- name: read_traces
SELECT seq, {traces}, lines, block FROM traces ORDER BY seq DESC LIMIT :limit;

-- name: read_states
SELECT {states} FROM states ORDER BY slot DESC, processor DESC LIMIT :limit;

-- name: read_workers
SELECT {workers}, b.id AS batch, b.source, b.first_line + b.skip AS first_line, b.leased_at,
       (SELECT CAST(sum(lines) AS BIGINT) FROM batches
        WHERE state = 'leased' AND token = b.token) AS lines
FROM workers LEFT JOIN batches b ON b.seq = (
    SELECT min(seq) FROM batches WHERE state = 'leased' AND worker = workers.name
)
ORDER BY slot DESC LIMIT :limit;

-- name: read_checkpoints
SELECT {checkpoints} FROM checkpoints ORDER BY source DESC, number DESC LIMIT :limit;

-- name: read_source_formats
SELECT {source_formats} FROM source_formats ORDER BY source DESC, format DESC LIMIT :limit;
