-- name: lock
-- Nothing to do: there is one writer at a time.
SELECT :name;

-- name: add_totals
UPDATE totals SET lines = lines + CASE name
    WHEN 'accepted' THEN :accepted WHEN 'done' THEN :done WHEN 'filtered' THEN :filtered ELSE :dead
END WHERE name IN ('accepted', 'done', 'filtered', 'dead');

-- name: record_totals
-- The totals at the end of a second.
INSERT INTO queue_history ({queue_history}) SELECT :second, {totals_pivot} FROM totals WHERE TRUE
ON CONFLICT (second) DO UPDATE SET {queue_history_updates};

-- name: forget_queue_history
DELETE FROM queue_history WHERE second < :second;

-- name: forget_processor_history
DELETE FROM processor_history WHERE second < :second;

-- name: add_processor_history
INSERT INTO processor_history ({processor_history}) VALUES ({processor_history_values})
ON CONFLICT (second, processor) DO UPDATE SET {processor_history_sums};

-- name: add_latency
INSERT INTO latency ({latency}) VALUES ({latency_values})
ON CONFLICT (processor, bucket) DO UPDATE SET {latency_sums};

-- name: add_format
INSERT INTO source_formats ({source_formats}) VALUES ({source_formats_values})
ON CONFLICT (source, format) DO UPDATE SET {source_formats_sums};

-- name: read_processors
SELECT rowid AS position, {processors} FROM processors ORDER BY position DESC LIMIT :limit;
