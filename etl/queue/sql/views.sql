-- What slots have counted, added up. Views are made again whenever a store is upgraded.

CREATE VIEW totals AS SELECT {counts_totals} FROM totals_by_slot;

-- The sum, at each second, of the last numbers that each slot had until then.
CREATE VIEW queue_history AS
WITH changes AS (
    SELECT second, {totals_changes} FROM queue_history_by_slot
    WINDOW earlier AS (PARTITION BY slot ORDER BY second)
), history AS (SELECT second, {totals_running} FROM changes GROUP BY second)
SELECT {queue_history} FROM history
WHERE second >= (SELECT max(second) FROM queue_history_by_slot) - {history_seconds};

CREATE VIEW processor_history AS
SELECT second, processor, {processor_history_totals}
FROM processor_history_by_slot
WHERE second >= (SELECT max(second) FROM processor_history_by_slot) - {history_seconds}
GROUP BY second, processor;

CREATE VIEW latency AS
SELECT processor, bucket, {latency_totals} FROM latency_by_slot GROUP BY processor, bucket;

CREATE VIEW source_formats AS
SELECT source, format, {source_formats_totals}
FROM source_formats_by_slot GROUP BY source, format;
