-- From version 1: tables and columns have the names that people know, and who paused the
-- queue is kept beside the reason.
ALTER TABLE positions RENAME TO checkpoints;
ALTER TABLE checkpoints RENAME COLUMN head TO signature;
ALTER TABLE dead RENAME TO dead_letters;
DROP INDEX dead_by_status;
DROP INDEX dead_by_failure;
CREATE INDEX dead_letters_by_status ON dead_letters (status, id);
CREATE INDEX dead_letters_by_failure ON dead_letters (status, failure);
INSERT INTO control (key, value)
SELECT 'paused_by', CASE WHEN value IN ('', 'by the console') THEN 'operator' ELSE 'worker' END
FROM control WHERE key = 'reason';
