-- From version 2: files are known by what they are, not only by their names; a lease has the time
-- from which it lasts.
ALTER TABLE checkpoints RENAME TO checkpoints_before;
ALTER TABLE checkpoints_before DROP CONSTRAINT checkpoints_pkey;
CREATE TABLE checkpoints ({checkpoints_definitions}, PRIMARY KEY (source, number));
CREATE INDEX checkpoints_by_file ON checkpoints (file) WHERE file <> '';
INSERT INTO checkpoints ({checkpoints})
SELECT source, "offset", line_number, signature, 0, '', '', '', extract(epoch FROM clock_timestamp()), ''
FROM checkpoints_before;
DROP TABLE checkpoints_before;
-- Payloads, dead letters and outputs have checksums (those of before have none),
-- and outputs are known for as long as the store is.
ALTER TABLE payloads ADD COLUMN checksum BIGINT;
ALTER TABLE batches ADD COLUMN checksum BIGINT;
ALTER TABLE dead_letters ADD COLUMN checksum BIGINT;
ALTER TABLE outputs RENAME TO pending_outputs;
ALTER TABLE pending_outputs RENAME CONSTRAINT outputs_pkey TO pending_outputs_pkey;
CREATE TABLE outputs (
    final    TEXT COLLATE "C" PRIMARY KEY,
    staged   TEXT,
    size     BIGINT,
    checksum BIGINT,
    source   TEXT NOT NULL,
    lines    BIGINT NOT NULL
);
CREATE UNIQUE INDEX outputs_by_staged ON outputs (staged) WHERE staged IS NOT NULL;
INSERT INTO outputs (final, staged, source, lines)
SELECT DISTINCT ON (final) final, staged, '', 0 FROM pending_outputs;
DROP TABLE pending_outputs;
-- What is kept for a time only says since when, and a kind of failure whose it is.
DROP VIEW IF EXISTS totals, queue_history, processor_history, latency, source_formats;
ALTER TABLE totals_by_slot ADD COLUMN pruned BIGINT NOT NULL DEFAULT 0;
ALTER TABLE dead_letters DROP CONSTRAINT IF EXISTS dead_letters_failure_fkey;
ALTER TABLE dead_letters ADD COLUMN closed_at DOUBLE PRECISION;
UPDATE dead_letters SET closed_at = extract(epoch FROM now())
WHERE status IN ('replayed', 'discarded');
CREATE INDEX dead_letters_by_end ON dead_letters (closed_at) WHERE closed_at IS NOT NULL;
ALTER TABLE failures ADD COLUMN source TEXT COLLATE "C";
UPDATE failures SET source = only_one.source FROM (
    SELECT failure, min(source) AS source FROM dead_letters
    GROUP BY failure HAVING min(source) = max(source)
) only_one WHERE only_one.failure = failures.id;
ALTER TABLE failures DROP CONSTRAINT failures_fingerprint_path_version_run_key;
ALTER TABLE failures ADD UNIQUE (fingerprint, path, version, run, source);
ALTER TABLE checkpoints ADD COLUMN moved_at DOUBLE PRECISION NOT NULL DEFAULT 0;
UPDATE checkpoints SET moved_at = extract(epoch FROM now());
UPDATE checkpoints SET source = 'key:' || substr(source, 6)
WHERE source LIKE 'http:%' AND (signature LIKE '%:whole' OR signature LIKE '%:part');
CREATE INDEX checkpoints_of_keys ON checkpoints (moved_at) WHERE {is_key};
ALTER TABLE batches ADD COLUMN leased_at DOUBLE PRECISION;
