-- From version 5: the types of the columns of data sets, and files that others have replaced.
DROP VIEW IF EXISTS totals;
DROP VIEW IF EXISTS queue_history;
DROP VIEW IF EXISTS processor_history;
DROP VIEW IF EXISTS latency;
DROP VIEW IF EXISTS source_formats;
ALTER TABLE outputs ADD COLUMN replaced_at REAL;
CREATE INDEX outputs_by_replacement ON outputs (replaced_at) WHERE replaced_at IS NOT NULL;
CREATE TABLE data_sets (folder TEXT PRIMARY KEY, columns TEXT NOT NULL) WITHOUT ROWID;
