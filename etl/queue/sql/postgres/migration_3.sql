-- From version 2: files are known by what they are, not only by their names.
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
