-- name: lock
-- Nothing to do: there is one writer at a time.
SELECT :name;

-- name: take_leased
DELETE FROM batches WHERE token = :token RETURNING seq, payload, lines, bytes;

-- name: read_processors
SELECT rowid AS position, {processors} FROM processors ORDER BY position DESC LIMIT :limit;
