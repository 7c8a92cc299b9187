-- name: totals
SELECT name, lines, bytes FROM totals;

-- name: batches_by_state
SELECT state, count(*) AS batches, min(put_at) AS oldest FROM batches GROUP BY state;

-- name: read_processors
SELECT rowid AS position, {processors} FROM processors;

-- name: read_latency
SELECT {latency} FROM latency;

-- name: read_processor_history
SELECT {processor_history} FROM processor_history;

-- name: read_queue_history
SELECT {queue_history} FROM queue_history;

-- name: read_errors
SELECT seq, {errors} FROM errors;

-- name: read_traces
SELECT seq, {traces}, lines, block FROM traces;

-- name: read_states
SELECT {states} FROM states;

-- name: read_workers
SELECT {workers}, (SELECT b.id FROM batches b WHERE b.worker = workers.name
                   AND b.state = 'leased' ORDER BY b.seq LIMIT 1) AS batch
FROM workers;

-- name: read_checkpoints
SELECT {checkpoints} FROM checkpoints;

-- name: read_source_formats
SELECT {source_formats} FROM source_formats;
