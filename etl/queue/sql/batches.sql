-- name: batch_exists
SELECT 1 FROM batches WHERE id = :id;

-- name: insert_payload
INSERT INTO payloads (encoding, data) VALUES (:encoding, :data);

-- name: insert_batch
INSERT INTO batches
    (id, payload, source, format, context, first_line, skip, lines, bytes, put_at)
VALUES (:id, :payload, :source, :format, :context, :first_line, :skip, :lines, :bytes, :put_at);

-- name: set_checkpoint
INSERT INTO checkpoints ({checkpoints}) VALUES ({checkpoints_values})
ON CONFLICT (source) DO UPDATE SET {checkpoints_updates};

-- name: checkpoint
SELECT {checkpoints} FROM checkpoints WHERE source = :source;

-- name: add_total
UPDATE totals SET lines = lines + :lines WHERE name = :name;

-- name: waiting_totals
SELECT lines, bytes FROM totals WHERE name = 'waiting';

-- name: record_totals
-- The totals at the end of a second.
INSERT INTO queue_history ({queue_history}) SELECT :second, {totals_pivot} FROM totals WHERE TRUE
ON CONFLICT (second) DO UPDATE SET {queue_history_updates};

-- name: forget_queue_history
DELETE FROM queue_history WHERE second < :second;

-- name: forget_processor_history
DELETE FROM processor_history WHERE second < :second;

-- name: anything_ready
-- Whether a batch waits, or a lease has run out.
SELECT 1 FROM batches
WHERE (state = 'waiting' AND not_before <= :now) OR (state = 'leased' AND until < :now) LIMIT 1;

-- name: expire_leases
UPDATE batches SET state = 'waiting', token = NULL, worker = NULL
WHERE state = 'leased' AND until < :now;

-- name: ready_batches
SELECT seq, source, format, context, lines, deliveries,
       (SELECT encoding FROM payloads WHERE id = payload) AS encoding
FROM batches WHERE state = 'waiting' AND not_before <= :now AND seq > :after
ORDER BY seq LIMIT :limit;

-- name: lease_batch
UPDATE batches
SET state = 'leased', worker = :worker, token = :token, until = :until, deliveries = deliveries + 1
WHERE seq = :seq;

-- name: leased_batches
SELECT b.id, b.source, b.format, b.context, b.first_line, b.skip, b.lines, p.encoding, p.data
FROM batches b JOIN payloads p ON p.id = b.payload WHERE b.token = :token ORDER BY b.seq;

-- name: next_waiting_batch
SELECT b.seq, b.put_at, b.id, b.source, b.format, b.context, b.first_line, b.skip, b.lines,
       p.encoding, p.data
FROM batches b JOIN payloads p ON p.id = b.payload
WHERE b.state = 'waiting' AND b.seq > :after ORDER BY b.seq LIMIT 1;

-- name: renew_lease
UPDATE batches SET until = :until WHERE token = :token;

-- name: batches_of_lease
SELECT seq, id, source, format, context, payload FROM batches WHERE token = :token ORDER BY seq;

-- name: delete_leased
DELETE FROM batches WHERE token = :token;

-- name: delete_unused_payload
DELETE FROM payloads
WHERE id = :payload AND NOT EXISTS (SELECT 1 FROM batches WHERE payload = :payload);

-- name: release_lease
-- The delivery does not count.
UPDATE batches SET state = 'waiting', token = NULL, worker = NULL, deliveries = deliveries - 1,
                   not_before = :not_before WHERE token = :token;

-- name: insert_part
INSERT INTO batches
    (id, payload, source, format, context, first_line, skip, lines, bytes, put_at, deliveries)
SELECT :id, payload, source, format, context, :first_line, :skip, :lines, bytes * :lines / lines, put_at, 1
FROM batches WHERE seq = :seq;

-- name: delete_batch
DELETE FROM batches WHERE seq = :seq;

-- name: tokens_of_worker
SELECT DISTINCT token FROM batches WHERE worker = :name AND state = 'leased';

-- name: take_back_lease
UPDATE batches SET state = 'waiting', token = NULL, worker = NULL WHERE token = :token;
