-- From version 2: a batch says how it is read, and what was read is counted by format.
ALTER TABLE batches ADD COLUMN context TEXT NOT NULL DEFAULT '{{}}';
ALTER TABLE dead_letters ADD COLUMN context TEXT NOT NULL DEFAULT '{{}}';
CREATE TABLE source_formats (
    {source_formats_definitions}, PRIMARY KEY (source, format)
) WITHOUT ROWID;
