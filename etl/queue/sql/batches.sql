-- name: insert_id
INSERT INTO batch_ids (id, put_at) VALUES (:id, :put_at);

-- name: insert_payload
INSERT INTO payloads (encoding, data, checksum) VALUES (:encoding, :data, :checksum);

-- name: insert_batch
-- With the payload that was inserted before it.
INSERT INTO batches
    (id, payload, source, format, context, first_line, skip, lines, bytes, put_at, checksum)
VALUES (:id, {last_payload}, :source, :format, :context, :first_line, :skip, :lines, :bytes,
        :put_at, :batch_checksum);

-- name: set_checkpoint
INSERT INTO checkpoints ({checkpoints}, moved_at) VALUES ({checkpoints_values}, :moved_at)
ON CONFLICT (source, number) DO UPDATE SET {checkpoints_updates}, moved_at = excluded.moved_at;

-- name: forget_files
-- Those that had a source's name long ago.
DELETE FROM checkpoints WHERE source = :source AND number BETWEEN 1 AND :last;

-- name: checkpoint
SELECT {checkpoints} FROM checkpoints WHERE source = :source ORDER BY number DESC LIMIT 1;

-- name: checkpoint_of_file
SELECT {checkpoints} FROM checkpoints WHERE source = :source AND number = :number;

-- name: checkpoints_of
-- Of some sources, and of a file.
SELECT {checkpoints} FROM checkpoints
WHERE source {in_texts} OR (file <> '' AND file = :file) ORDER BY source, number;

-- name: waiting_totals
SELECT waiting AS lines, waiting_bytes AS bytes FROM totals;

-- name: anything_waiting
SELECT 1 FROM batches WHERE state = 'waiting' ORDER BY seq LIMIT 1;

-- name: anything_ready
-- Whether a batch waits, or a lease has run out or began later than now.
SELECT 1 AS ready WHERE (
    SELECT seq FROM batches WHERE state = 'waiting' AND not_before <= {now} AND <where>
    ORDER BY seq LIMIT 1
) IS NOT NULL OR EXISTS (
    SELECT 1 FROM batches
    WHERE state = 'leased' AND (until < {now} OR leased_at > {now} + 1) AND <where>
);

-- name: begin_leases_now
-- The clock was set back: a lease that began later than now lasts as long from now on.
UPDATE batches SET until = until - leased_at + :now, leased_at = :now
WHERE seq IN (
    SELECT seq FROM batches WHERE state = 'leased' AND leased_at > :now + 1 ORDER BY seq {skip_locked}
);

-- name: expire_leases
UPDATE batches SET state = 'waiting', token = NULL, worker = NULL
WHERE seq IN (
    SELECT seq FROM batches WHERE state = 'leased' AND until < :now ORDER BY seq {skip_locked}
) RETURNING lines, bytes;

-- name: ready_batches
SELECT seq, source, format, context, lines, bytes, deliveries,
       (SELECT encoding FROM payloads WHERE id = payload) AS encoding
FROM batches WHERE state = 'waiting' AND not_before <= :now AND seq > :after AND <where>
ORDER BY seq LIMIT :limit {skip_locked};

-- name: lease_batches
UPDATE batches
SET state = 'leased', worker = :worker, token = :token, leased_at = :now, until = :until,
    deliveries = deliveries + 1
WHERE seq {in_ids};

-- name: leased_batches
SELECT b.id, b.source, b.format, b.context, b.first_line, b.skip, b.lines,
       p.encoding, p.data, p.checksum, b.checksum AS batch_checksum
FROM batches b LEFT JOIN payloads p ON p.id = b.payload WHERE b.token = :token ORDER BY b.seq;

-- name: next_batch
SELECT b.seq, b.put_at, b.id, b.source, b.format, b.context, b.first_line, b.skip, b.lines,
       p.encoding, p.data, p.checksum, b.checksum AS batch_checksum
FROM batches b JOIN payloads p ON p.id = b.payload
WHERE b.state = :state AND b.seq > :after ORDER BY b.seq LIMIT 1;

-- name: renew_lease
UPDATE batches SET leased_at = :now, until = :until WHERE token = :token RETURNING seq;

-- name: batches_of_lease
SELECT seq, lines, bytes FROM batches WHERE token = :token ORDER BY seq {for_update};

-- name: delete_unused_payloads
DELETE FROM payloads
WHERE id {in_ids} AND NOT EXISTS (SELECT 1 FROM batches WHERE payload = payloads.id);

-- name: release_lease
-- The delivery does not count.
UPDATE batches SET state = 'waiting', token = NULL, worker = NULL, deliveries = deliveries - 1,
                   not_before = :not_before WHERE token = :token
RETURNING lines, bytes;

-- name: insert_part
INSERT INTO batches
    (id, payload, source, format, context, first_line, skip, lines, bytes, put_at, deliveries,
     checksum)
SELECT :id, payload, :source, :format, :context, :first_line, :skip, :lines, :bytes, put_at, 1,
       :batch_checksum
FROM batches WHERE seq = :seq;

-- name: delete_batch
DELETE FROM batches WHERE seq = :seq;

-- name: count_hang
UPDATE batches SET deliveries = deliveries + 1 WHERE token = :token OR id = :batch;

-- name: tokens_of_worker
SELECT DISTINCT token FROM batches WHERE worker = :name AND state = 'leased';

-- name: lease_tokens
SELECT DISTINCT token FROM batches WHERE token IS NOT NULL;

-- name: take_back_lease
UPDATE batches SET state = 'waiting', token = NULL, worker = NULL WHERE token = :token
RETURNING lines, bytes;
