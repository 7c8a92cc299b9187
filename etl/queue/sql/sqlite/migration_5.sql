-- From version 4: files are known by what they are, not only by their names; a lease has the time
-- from which it lasts.
ALTER TABLE checkpoints RENAME TO checkpoints_before;
CREATE TABLE checkpoints ({checkpoints_definitions}, PRIMARY KEY (source, number)) WITHOUT ROWID;
CREATE INDEX checkpoints_by_file ON checkpoints (file) WHERE file <> '';
INSERT INTO checkpoints ({checkpoints})
SELECT source, "offset", line_number, signature, 0, '', '', '', (julianday('now') - 2440587.5) * 86400.0, ''
FROM checkpoints_before;
DROP TABLE checkpoints_before;
-- Payloads, dead letters and outputs have checksums (those of before have none),
-- and outputs are known for as long as the store is.
ALTER TABLE payloads ADD COLUMN checksum INTEGER;
ALTER TABLE batches ADD COLUMN checksum INTEGER;
ALTER TABLE dead_letters ADD COLUMN checksum INTEGER;
ALTER TABLE outputs RENAME TO pending_outputs;
CREATE TABLE outputs (
    final    TEXT PRIMARY KEY,           -- below the output root, or an absolute path
    staged   TEXT,                       -- the same; null once the file has its final name
    size     INTEGER,                    -- bytes
    checksum INTEGER,
    source   TEXT NOT NULL,
    lines    INTEGER NOT NULL            -- of the batch, that were done
) WITHOUT ROWID;
CREATE UNIQUE INDEX outputs_by_staged ON outputs (staged) WHERE staged IS NOT NULL;
INSERT OR REPLACE INTO outputs (final, staged, source, lines)
SELECT final, staged, '', 0 FROM pending_outputs;
DROP TABLE pending_outputs;
-- What is kept for a time only says since when, and a kind of failure whose it is.
DROP VIEW IF EXISTS totals;
DROP VIEW IF EXISTS queue_history;
DROP VIEW IF EXISTS processor_history;
DROP VIEW IF EXISTS latency;
DROP VIEW IF EXISTS source_formats;
ALTER TABLE totals_by_slot ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN closed_at REAL;
UPDATE dead_letters SET closed_at = unixepoch() WHERE status IN ('replayed', 'discarded');
CREATE INDEX dead_letters_by_end ON dead_letters (closed_at) WHERE closed_at IS NOT NULL;
CREATE TABLE failures_of_sources (
    id INTEGER PRIMARY KEY,
    {failures_definitions},
    source TEXT,
    UNIQUE (fingerprint, path, version, run, source)
);
INSERT INTO failures_of_sources (id, {failures}, source)
SELECT id, {failures}, only.source FROM failures LEFT JOIN (
    SELECT failure, min(source) AS source FROM dead_letters
    GROUP BY failure HAVING min(source) = max(source)
) only ON only.failure = id;
DROP TABLE failures;
ALTER TABLE failures_of_sources RENAME TO failures;
ALTER TABLE checkpoints ADD COLUMN moved_at REAL NOT NULL DEFAULT 0;
UPDATE checkpoints SET moved_at = unixepoch();
UPDATE checkpoints SET source = 'key:' || substr(source, 6)
WHERE source LIKE 'http:%' AND (signature LIKE '%:whole' OR signature LIKE '%:part');
CREATE INDEX checkpoints_of_keys ON checkpoints (moved_at) WHERE {is_key};
ALTER TABLE batches ADD COLUMN leased_at REAL;
