-- What every commit of every worker changes is kept in rows of its own for each of 64 slots, which
-- connections have by their number, and added up when it is read: nobody waits for another's sync.

-- name: now
SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION) AS now;

-- name: lock
-- What is read after this stays as it is until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('etl:' || :name, 0));

-- name: add_totals
UPDATE totals_by_slot SET accepted = accepted + :accepted, done = done + :done,
                          filtered = filtered + :filtered, dead = dead + :dead
WHERE slot = {slot};

-- name: record_totals
-- The slot's totals at the end of a second.
INSERT INTO queue_history_by_slot (slot, second, {totals})
SELECT slot, :second, {totals} FROM totals_by_slot WHERE slot = {slot}
ON CONFLICT (slot, second) DO UPDATE SET {totals_updates};

-- name: forget_queue_history
-- All before this second but the slot's newest: it counts until there is a newer one.
DELETE FROM queue_history_by_slot old
WHERE slot = {slot} AND second < :second AND EXISTS (
    SELECT 1 FROM queue_history_by_slot newer
    WHERE newer.slot = old.slot AND newer.second > old.second AND newer.second < :second
);

-- name: forget_processor_history
DELETE FROM processor_history_by_slot WHERE slot = {slot} AND second < :second;

-- name: add_processor_history
INSERT INTO processor_history_by_slot AS processor_history (slot, {processor_history})
VALUES ({slot}, {processor_history_values})
ON CONFLICT (slot, second, processor) DO UPDATE SET {processor_history_sums};

-- name: add_latency
INSERT INTO latency_by_slot AS latency (slot, {latency}) VALUES ({slot}, {latency_values})
ON CONFLICT (slot, processor, bucket) DO UPDATE SET {latency_sums};

-- name: add_format
INSERT INTO source_formats_by_slot AS source_formats (slot, {source_formats})
VALUES ({slot}, {source_formats_values})
ON CONFLICT (slot, source, format) DO UPDATE SET {source_formats_sums};

-- name: read_processors
SELECT position, {processors} FROM processors ORDER BY position DESC LIMIT :limit;

-- name: store_version
SELECT version FROM etl_store;

-- name: changes
-- Differs once any transaction that writes has begun or ended: read from memory, not from tables.
SELECT CAST(pg_current_snapshot() AS TEXT) AS changes;

-- name: store_table
SELECT CAST(to_regclass('etl_store') AS TEXT) AS name;

-- name: set_store_version
INSERT INTO etl_store (version) VALUES (:version);
