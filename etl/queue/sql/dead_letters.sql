-- What is in <> comes from a `DeadLetterFilter`: conditions on dead letters (d).

-- name: dead_letters
-- By id: what else is asked for is looked at row by row.
SELECT failure, checksum, {dead_letters} FROM dead_letters d WHERE <where>
ORDER BY id DESC LIMIT :limit OFFSET :skip;

-- name: kinds_of_failure
-- By conditions on them.
SELECT id, source FROM failures WHERE <where>;

-- name: failures
SELECT id AS failure, {failures} FROM failures WHERE id {in_ids};

-- name: dead_letter_groups
SELECT f.fingerprint, d.source, f.processor, f.code, f.error, d.message,
       substr(d.line, 1, 200) AS sample, g.lines, g.replays, g.first_failed_at, g.last_failed_at
FROM (
    SELECT failure, CAST(sum(lines) AS BIGINT) AS lines, max(replays) AS replays, max(id) AS newest,
           min(first_failed_at) AS first_failed_at, max(last_failed_at) AS last_failed_at
    FROM dead_letters d WHERE <where> GROUP BY failure
) g JOIN dead_letters d ON d.id = g.newest JOIN failures f ON f.id = g.failure
ORDER BY g.newest;

-- name: dead_letter_minutes
SELECT f.fingerprint, CAST({floor}((last_failed_at - :since) / 60) AS INTEGER) AS minute,
       CAST(sum(lines) AS BIGINT) AS lines
FROM (
    SELECT failure, lines, last_failed_at FROM dead_letters
    WHERE status = 'open' ORDER BY id DESC LIMIT :limit
) newest JOIN failures f ON f.id = newest.failure
WHERE last_failed_at >= :since AND last_failed_at < :until
GROUP BY f.fingerprint, minute;

-- name: lines_with_status
SELECT count(*) AS dead_letters, CAST(coalesce(sum(lines), 0) AS BIGINT) AS lines FROM (
    SELECT lines FROM dead_letters WHERE status = :was AND id {in_ids} ORDER BY id {for_update}
) found;

-- name: change_status
UPDATE dead_letters
SET status = :status, replays = replays + :replays,
    closed_at = CAST(:closed_at AS DOUBLE PRECISION)
WHERE status = :was AND id {in_ids};
