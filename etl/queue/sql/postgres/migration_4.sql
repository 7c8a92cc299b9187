-- From version 3: the types of the columns of data sets, and files that others have replaced.
DROP VIEW IF EXISTS totals, queue_history, processor_history, latency, source_formats;
ALTER TABLE outputs ADD COLUMN replaced_at DOUBLE PRECISION;
CREATE INDEX outputs_by_replacement ON outputs (replaced_at) WHERE replaced_at IS NOT NULL;
CREATE TABLE data_sets (folder TEXT COLLATE "C" PRIMARY KEY, columns TEXT NOT NULL);
