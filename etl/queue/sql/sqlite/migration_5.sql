-- From version 4: files are known by what they are, not only by their names.
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
