-- name: now
SELECT CAST(extract(epoch FROM clock_timestamp()) AS DOUBLE PRECISION) AS now;

-- name: lock
-- What is read after this stays as it is until the end of the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('etl:' || :name, 0));

-- name: try_lock
-- The same if nobody has it; else nothing.
SELECT pg_try_advisory_xact_lock(hashtextextended('etl:' || :name, 0)) AS locked;

-- name: known_ids
-- Those of a list that were put within the time for which ids are kept, or wait.
SELECT id FROM batch_ids WHERE id {in_texts} UNION SELECT id FROM batches WHERE id {in_texts};

-- name: newest_of_kinds
-- The newest dead letters of some kinds of failure: the newest of each, and of these the newest.
SELECT failure, checksum, {dead_letters} FROM dead_letters WHERE id IN (
    SELECT newest.id
    FROM json_array_elements_text(CAST(:ids AS JSON)) kind
    CROSS JOIN json_array_elements_text(CAST(:statuses AS JSON)) state
    CROSS JOIN LATERAL (
        SELECT d.id FROM dead_letters d
        WHERE d.status = state.value AND d.failure = CAST(kind.value AS BIGINT) AND <where>
        ORDER BY d.id DESC LIMIT :limit + :skip
    ) newest
    ORDER BY newest.id DESC LIMIT :limit OFFSET :skip
) ORDER BY id DESC;

-- name: take_leased
-- The payloads are locked first: what two commits leave of one at once, neither would delete.
WITH locked AS (
    SELECT id FROM payloads WHERE id IN (SELECT payload FROM batches WHERE token = :token)
    ORDER BY id FOR UPDATE
)
DELETE FROM batches WHERE token = :token AND payload IN (SELECT id FROM locked)
RETURNING payload, lines, bytes;

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
WITH old AS (DELETE FROM etl_store) INSERT INTO etl_store (version) VALUES (:version);

-- name: session
-- A process that differs from what the connection was told is that of a pooler's session.
SELECT pg_backend_pid() AS process, left(current_schema(), 50) AS schema;
