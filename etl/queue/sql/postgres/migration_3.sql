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
ALTER TABLE batches ADD COLUMN leased_at DOUBLE PRECISION;
