-- name: control_values
SELECT key, value FROM control;

-- name: set_control
INSERT INTO control (key, value) VALUES (:key, :value)
ON CONFLICT (key) DO UPDATE SET value = excluded.value;

-- name: forget_silent_workers
DELETE FROM workers WHERE heartbeat_at < :since;

-- name: begin_heartbeats_now
-- The clock was set back: who was heard of later than now is taken to have been heard of now.
UPDATE workers SET heartbeat_at = :now WHERE heartbeat_at > :now + 1;

-- name: worker
SELECT slot, host, pid, heartbeat_at FROM workers WHERE name = :name;

-- name: slots
SELECT name, slot FROM workers;

-- name: insert_worker
INSERT INTO workers ({workers}) VALUES ({workers_values});

-- name: heartbeat
UPDATE workers SET heartbeat_at = :now WHERE name = :name AND host = :host AND pid = :pid;

-- name: delete_worker
DELETE FROM workers WHERE name = :name;

-- name: workers_of_host
SELECT name, pid FROM workers WHERE host = :host;

-- name: slot_of_worker
SELECT slot FROM workers WHERE name = :name AND host = :host AND pid = :pid;

-- name: states_of_slot
SELECT processor, state FROM states WHERE slot = :slot;

-- name: pending_outputs
SELECT staged, final, size, checksum FROM outputs WHERE staged IS NOT NULL;

-- name: outputs
SELECT coalesce(staged, final) AS staged, final, size, checksum FROM outputs
WHERE replaced_at IS NULL ORDER BY final;

-- name: forget_outputs
DELETE FROM outputs WHERE final {in_texts} AND replaced_at IS NULL RETURNING source, lines;

-- name: set_outputs_aside
UPDATE outputs SET replaced_at = :now, staged = NULL
WHERE final {in_texts} AND replaced_at IS NULL RETURNING source, lines;

-- name: replaced_outputs
SELECT final AS staged, final, size, checksum FROM outputs
WHERE replaced_at <= :until ORDER BY final;

-- name: forget_replaced
DELETE FROM outputs WHERE final {in_texts} AND replaced_at IS NOT NULL;

-- name: data_sets
SELECT folder, columns FROM data_sets ORDER BY folder;

-- name: data_set
SELECT columns FROM data_sets WHERE folder = :folder;

-- name: set_data_set
INSERT INTO data_sets (folder, columns) VALUES (:folder, :columns)
ON CONFLICT (folder) DO UPDATE SET columns = excluded.columns;

-- name: spooled_outputs
-- What waits for targets below the output root: see `sinks/target.py`.
SELECT final, lines, size FROM outputs WHERE final >= '.spool/' AND final < '.spool0';

-- name: spooled_anywhere
-- The same where a store keeps no output root, and so whole paths.
SELECT final, lines, size FROM outputs WHERE final LIKE '%%/.spool/%%';

-- name: target_notes
SELECT key, value FROM control WHERE key LIKE 'target:%%';

-- name: mark_published
-- By the name that it is kept under; stores of before kept whole paths.
UPDATE outputs SET staged = NULL WHERE staged IN (:staged, :path);

-- name: output_root
SELECT value FROM control WHERE key = 'output_root';
