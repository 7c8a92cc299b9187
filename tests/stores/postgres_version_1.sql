CREATE FUNCTION old.count_batches() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    leased_more BIGINT := 0;
    leased_bytes_more BIGINT := 0;
    waiting_more BIGINT := 0;
    waiting_bytes_more BIGINT := 0;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        SELECT -coalesce(sum(lines) FILTER (WHERE state = 'leased'), 0),
               -coalesce(sum(bytes) FILTER (WHERE state = 'leased'), 0),
               -coalesce(sum(lines) FILTER (WHERE state = 'waiting'), 0),
               -coalesce(sum(bytes) FILTER (WHERE state = 'waiting'), 0)
        INTO leased_more, leased_bytes_more, waiting_more, waiting_bytes_more FROM old_rows;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT leased_more + coalesce(sum(lines) FILTER (WHERE state = 'leased'), 0),
               leased_bytes_more + coalesce(sum(bytes) FILTER (WHERE state = 'leased'), 0),
               waiting_more + coalesce(sum(lines) FILTER (WHERE state = 'waiting'), 0),
               waiting_bytes_more + coalesce(sum(bytes) FILTER (WHERE state = 'waiting'), 0)
        INTO leased_more, leased_bytes_more, waiting_more, waiting_bytes_more FROM new_rows;
    END IF;
    UPDATE totals_by_slot
    SET leased = leased + leased_more, leased_bytes = leased_bytes + leased_bytes_more,
        waiting = waiting + waiting_more, waiting_bytes = waiting_bytes + waiting_bytes_more
    WHERE slot = mod(pg_backend_pid(), 64) AND (leased_more, waiting_more, waiting_bytes_more) <> (0, 0, 0);
    RETURN NULL;
END $$;
CREATE TABLE old.batches (
    seq bigint NOT NULL,
    id text NOT NULL,
    payload bigint NOT NULL,
    source text NOT NULL,
    format text,
    first_line bigint NOT NULL,
    skip bigint NOT NULL,
    lines bigint NOT NULL,
    bytes bigint NOT NULL,
    put_at double precision NOT NULL,
    not_before double precision DEFAULT 0 NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    deliveries bigint DEFAULT 0 NOT NULL,
    worker text,
    token text,
    until double precision,
    context text DEFAULT '{}'::text NOT NULL,
    CONSTRAINT batches_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'leased'::text])))
);
ALTER TABLE old.batches ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.batches_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.checkpoints (
    source text NOT NULL COLLATE pg_catalog."C",
    "offset" bigint NOT NULL,
    line_number bigint NOT NULL,
    signature text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE old.control (
    key text NOT NULL,
    value text NOT NULL
);
CREATE TABLE old.dead_letters (
    id bigint NOT NULL,
    failure bigint NOT NULL,
    status text DEFAULT 'open'::text NOT NULL,
    replays bigint DEFAULT 0 NOT NULL,
    source text NOT NULL COLLATE pg_catalog."C",
    line_number bigint NOT NULL,
    lines bigint NOT NULL,
    line text NOT NULL COLLATE pg_catalog."C",
    raw bytea,
    format text COLLATE pg_catalog."C",
    payload text COLLATE pg_catalog."C",
    message text NOT NULL COLLATE pg_catalog."C",
    attempts bigint NOT NULL,
    first_failed_at double precision NOT NULL,
    last_failed_at double precision NOT NULL,
    batch text NOT NULL COLLATE pg_catalog."C",
    context text NOT NULL COLLATE pg_catalog."C",
    CONSTRAINT dead_letters_status_check CHECK ((status = ANY (ARRAY['open'::text, 'replaying'::text, 'replayed'::text, 'discarded'::text])))
);
ALTER TABLE old.dead_letters ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.dead_letters_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.errors (
    seq bigint NOT NULL,
    at double precision NOT NULL,
    worker text NOT NULL COLLATE pg_catalog."C",
    batch text NOT NULL COLLATE pg_catalog."C",
    processor text NOT NULL COLLATE pg_catalog."C",
    error text NOT NULL COLLATE pg_catalog."C",
    message text NOT NULL COLLATE pg_catalog."C",
    lines bigint NOT NULL,
    action text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE old.errors ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.errors_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.etl_store (
    version integer NOT NULL
);
CREATE TABLE old.failures (
    id bigint NOT NULL,
    processor text NOT NULL COLLATE pg_catalog."C",
    code text NOT NULL COLLATE pg_catalog."C",
    error text NOT NULL COLLATE pg_catalog."C",
    traceback text NOT NULL COLLATE pg_catalog."C",
    path text NOT NULL COLLATE pg_catalog."C",
    version text NOT NULL COLLATE pg_catalog."C",
    run text NOT NULL COLLATE pg_catalog."C",
    fingerprint text NOT NULL COLLATE pg_catalog."C"
);
ALTER TABLE old.failures ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.failures_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.latency_by_slot (
    slot bigint NOT NULL,
    processor text NOT NULL COLLATE pg_catalog."C",
    bucket bigint NOT NULL,
    lines bigint NOT NULL
);
CREATE VIEW old.latency AS
 SELECT latency_by_slot.processor,
    latency_by_slot.bucket,
    (sum(latency_by_slot.lines))::bigint AS lines
   FROM old.latency_by_slot
  GROUP BY latency_by_slot.processor, latency_by_slot.bucket;
CREATE TABLE old.outputs (
    staged text NOT NULL,
    final text NOT NULL
);
CREATE TABLE old.payloads (
    id bigint NOT NULL,
    encoding text NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE ONLY old.payloads ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE old.payloads ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.payloads_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.processor_history_by_slot (
    slot bigint NOT NULL,
    second bigint NOT NULL,
    processor text NOT NULL COLLATE pg_catalog."C",
    received bigint NOT NULL,
    emitted bigint NOT NULL,
    filtered bigint NOT NULL,
    errors bigint NOT NULL,
    retries bigint NOT NULL,
    dead bigint NOT NULL,
    seconds double precision NOT NULL
);
CREATE VIEW old.processor_history AS
 SELECT processor_history_by_slot.second,
    processor_history_by_slot.processor,
    (sum(processor_history_by_slot.received))::bigint AS received,
    (sum(processor_history_by_slot.emitted))::bigint AS emitted,
    (sum(processor_history_by_slot.filtered))::bigint AS filtered,
    (sum(processor_history_by_slot.errors))::bigint AS errors,
    (sum(processor_history_by_slot.retries))::bigint AS retries,
    (sum(processor_history_by_slot.dead))::bigint AS dead,
    sum(processor_history_by_slot.seconds) AS seconds
   FROM old.processor_history_by_slot
  GROUP BY processor_history_by_slot.second, processor_history_by_slot.processor
 HAVING (processor_history_by_slot.second >= (( SELECT max(processor_history_by_slot_1.second) AS max
           FROM old.processor_history_by_slot processor_history_by_slot_1) - 3600));
CREATE TABLE old.processors (
    "position" bigint NOT NULL,
    worker text NOT NULL COLLATE pg_catalog."C",
    processor text NOT NULL COLLATE pg_catalog."C",
    received bigint NOT NULL,
    emitted bigint NOT NULL,
    filtered bigint NOT NULL,
    errors bigint NOT NULL,
    retries bigint NOT NULL,
    dead bigint NOT NULL,
    seconds double precision NOT NULL
);
ALTER TABLE old.processors ALTER COLUMN "position" ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.processors_position_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.queue_history_by_slot (
    slot bigint NOT NULL,
    second bigint NOT NULL,
    accepted bigint DEFAULT 0 NOT NULL,
    done bigint DEFAULT 0 NOT NULL,
    filtered bigint DEFAULT 0 NOT NULL,
    dead bigint DEFAULT 0 NOT NULL,
    leased bigint DEFAULT 0 NOT NULL,
    waiting bigint DEFAULT 0 NOT NULL
);
CREATE VIEW old.queue_history AS
 WITH changes AS (
         SELECT queue_history_by_slot.second,
            (queue_history_by_slot.accepted - lag(queue_history_by_slot.accepted, 1, (0)::bigint) OVER before) AS accepted,
            (queue_history_by_slot.done - lag(queue_history_by_slot.done, 1, (0)::bigint) OVER before) AS done,
            (queue_history_by_slot.filtered - lag(queue_history_by_slot.filtered, 1, (0)::bigint) OVER before) AS filtered,
            (queue_history_by_slot.dead - lag(queue_history_by_slot.dead, 1, (0)::bigint) OVER before) AS dead,
            (queue_history_by_slot.leased - lag(queue_history_by_slot.leased, 1, (0)::bigint) OVER before) AS leased,
            (queue_history_by_slot.waiting - lag(queue_history_by_slot.waiting, 1, (0)::bigint) OVER before) AS waiting
           FROM old.queue_history_by_slot
          WINDOW before AS (PARTITION BY queue_history_by_slot.slot ORDER BY queue_history_by_slot.second)
        ), history AS (
         SELECT changes.second,
            (sum(sum(changes.accepted)) OVER (ORDER BY changes.second))::bigint AS accepted,
            (sum(sum(changes.done)) OVER (ORDER BY changes.second))::bigint AS done,
            (sum(sum(changes.filtered)) OVER (ORDER BY changes.second))::bigint AS filtered,
            (sum(sum(changes.dead)) OVER (ORDER BY changes.second))::bigint AS dead,
            (sum(sum(changes.leased)) OVER (ORDER BY changes.second))::bigint AS leased,
            (sum(sum(changes.waiting)) OVER (ORDER BY changes.second))::bigint AS waiting
           FROM changes
          GROUP BY changes.second
        )
 SELECT history.second,
    history.accepted,
    history.done,
    history.filtered,
    history.dead,
    history.leased,
    history.waiting
   FROM history
  WHERE (history.second >= (( SELECT max(queue_history_by_slot.second) AS max
           FROM old.queue_history_by_slot) - 3600));
CREATE TABLE old.source_formats_by_slot (
    slot bigint NOT NULL,
    source text NOT NULL COLLATE pg_catalog."C",
    format text NOT NULL COLLATE pg_catalog."C",
    records bigint NOT NULL,
    timeless bigint NOT NULL,
    empty bigint NOT NULL,
    cut bigint NOT NULL
);
CREATE VIEW old.source_formats AS
 SELECT source_formats_by_slot.source,
    source_formats_by_slot.format,
    (sum(source_formats_by_slot.records))::bigint AS records,
    (sum(source_formats_by_slot.timeless))::bigint AS timeless,
    (sum(source_formats_by_slot.empty))::bigint AS empty,
    (sum(source_formats_by_slot.cut))::bigint AS cut
   FROM old.source_formats_by_slot
  GROUP BY source_formats_by_slot.source, source_formats_by_slot.format;
CREATE TABLE old.states (
    slot bigint NOT NULL,
    processor text NOT NULL COLLATE pg_catalog."C",
    state text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE old.totals_by_slot (
    slot bigint NOT NULL,
    accepted bigint DEFAULT 0 NOT NULL,
    done bigint DEFAULT 0 NOT NULL,
    filtered bigint DEFAULT 0 NOT NULL,
    dead bigint DEFAULT 0 NOT NULL,
    leased bigint DEFAULT 0 NOT NULL,
    waiting bigint DEFAULT 0 NOT NULL,
    leased_bytes bigint DEFAULT 0 NOT NULL,
    waiting_bytes bigint DEFAULT 0 NOT NULL
)
WITH (fillfactor='20');
CREATE VIEW old.totals AS
 SELECT one.name,
    (sum(one.lines))::bigint AS lines,
    (sum(one.bytes))::bigint AS bytes
   FROM (old.totals_by_slot
     CROSS JOIN LATERAL ( VALUES ('accepted'::text,totals_by_slot.accepted,0), ('done'::text,totals_by_slot.done,0), ('filtered'::text,totals_by_slot.filtered,0), ('dead'::text,totals_by_slot.dead,0), ('leased'::text,totals_by_slot.leased,totals_by_slot.leased_bytes), ('waiting'::text,totals_by_slot.waiting,totals_by_slot.waiting_bytes)) one(name, lines, bytes))
  GROUP BY one.name;
CREATE TABLE old.traces (
    seq bigint NOT NULL,
    at double precision NOT NULL,
    worker text NOT NULL COLLATE pg_catalog."C",
    batch text NOT NULL COLLATE pg_catalog."C",
    source text NOT NULL COLLATE pg_catalog."C",
    version text NOT NULL COLLATE pg_catalog."C",
    lines bigint NOT NULL,
    block bytea NOT NULL
);
ALTER TABLE old.traces ALTER COLUMN seq ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME old.traces_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE old.workers (
    name text NOT NULL COLLATE pg_catalog."C",
    slot bigint NOT NULL,
    host text NOT NULL COLLATE pg_catalog."C",
    pid bigint NOT NULL,
    started_at double precision NOT NULL,
    heartbeat_at double precision NOT NULL
);
INSERT INTO old.batches OVERRIDING SYSTEM VALUE VALUES (3, '06612c23f003d90f598c3930', 3, 'other.log', NULL, 1, 0, 1, 7, 1795692069.651805, 0, 'waiting', 0, NULL, NULL, NULL, '{}');
INSERT INTO old.batches OVERRIDING SYSTEM VALUE VALUES (2, '06612c23f003c2c1ed296145', 2, 'app.log', NULL, 1, 0, 2, 14, 1795692069.651805, 0, 'leased', 1, 'w2', '06612c23f01376356f6e8129', 2795692069.656087, '{}');
INSERT INTO old.checkpoints VALUES ('app.log', 21, 3, 's');
INSERT INTO old.dead_letters OVERRIDING SYSTEM VALUE VALUES (1, 1, 'open', 0, 'app.log', 2, 1, 'bad b', NULL, NULL, NULL, 'bad line', 1, 1795692069.600456, 1795692069.600456, '06612c23ece2b15c52e9fffb', '{}');
INSERT INTO old.errors OVERRIDING SYSTEM VALUE VALUES (1, 1795692069.600456, 'w', '06612c23ece2b15c52e9fffb', 'check', 'ValueError', 'bad line', 1, 'dead');
INSERT INTO old.etl_store VALUES (1);
INSERT INTO old.failures OVERRIDING SYSTEM VALUE VALUES (1, 'check', 'error', 'ValueError', 'Traceback (most recent call last):
  File "/tmp/oldetl/etl/processors/processor.py", line 125, in rows
    result = self.function(row)
             ^^^^^^^^^^^^^^^^^^
  File "<stdin>", line 13, in check
ValueError: bad line
', '["check"]', '57ae3733f558', 'r', 'caea7e7b03cd');
INSERT INTO old.latency_by_slot VALUES (39, 'check', -74, 3);
INSERT INTO old.payloads OVERRIDING SYSTEM VALUE VALUES (2, 'text', '\x494e464f20640a494e464f20650a');
INSERT INTO old.payloads OVERRIDING SYSTEM VALUE VALUES (3, 'text', '\x494e464f20660a');
INSERT INTO old.processor_history_by_slot VALUES (39, 1795692069, 'check', 3, 2, 0, 1, 0, 1, 0.004932324998662807);
INSERT INTO old.processors OVERRIDING SYSTEM VALUE VALUES (1, 'w', 'check', 3, 2, 0, 1, 0, 1, 0.004932324998662807);
INSERT INTO old.queue_history_by_slot VALUES (39, 1795692069, 6, 2, 0, 1, 0, 3);
INSERT INTO old.totals_by_slot VALUES (0, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (1, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (2, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (3, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (4, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (5, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (6, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (7, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (8, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (9, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (10, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (11, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (12, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (13, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (14, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (15, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (16, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (17, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (18, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (19, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (20, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (21, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (22, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (23, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (24, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (25, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (26, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (27, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (28, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (29, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (30, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (31, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (32, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (33, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (34, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (35, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (36, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (37, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (38, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (40, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (41, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (42, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (43, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (44, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (45, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (46, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (47, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (39, 6, 2, 0, 1, 2, 1, 14, 7);
INSERT INTO old.totals_by_slot VALUES (48, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (49, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (50, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (51, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (52, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (53, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (54, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (55, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (56, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (57, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (58, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (59, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (60, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (61, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (62, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.totals_by_slot VALUES (63, 0, 0, 0, 0, 0, 0, 0, 0);
INSERT INTO old.traces OVERRIDING SYSTEM VALUE VALUES (1, 1795692069.600456, 'w', '06612c23ece2b15c52e9fffb', 'app.log', '57ae3733f558', 3, '\x28b52ffd209fa5040054085b7b2270617468223a205b302c20302c20305d2c20227374617465223a205b22646f6e65222c2022646561646f6e65225d2c20226c696e494e464f2061222c20226261642062222c20635f6e756d626572223a205b312c20322c20335d7d2c205b5b5b22636865636b222c20302e303031363434313038333332383837363032335d5d5d5d04004a15c1e60845cde4aea207');
SELECT pg_catalog.setval('old.batches_seq_seq', 3, true);
SELECT pg_catalog.setval('old.dead_letters_id_seq', 1, true);
SELECT pg_catalog.setval('old.errors_seq_seq', 1, true);
SELECT pg_catalog.setval('old.failures_id_seq', 1, true);
SELECT pg_catalog.setval('old.payloads_id_seq', 3, true);
SELECT pg_catalog.setval('old.processors_position_seq', 1, true);
SELECT pg_catalog.setval('old.traces_seq_seq', 1, true);
ALTER TABLE ONLY old.batches
    ADD CONSTRAINT batches_id_key UNIQUE (id);
ALTER TABLE ONLY old.batches
    ADD CONSTRAINT batches_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY old.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (source);
ALTER TABLE ONLY old.control
    ADD CONSTRAINT control_pkey PRIMARY KEY (key);
ALTER TABLE ONLY old.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (id);
ALTER TABLE ONLY old.errors
    ADD CONSTRAINT errors_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY old.failures
    ADD CONSTRAINT failures_fingerprint_path_version_run_key UNIQUE (fingerprint, path, version, run);
ALTER TABLE ONLY old.failures
    ADD CONSTRAINT failures_pkey PRIMARY KEY (id);
ALTER TABLE ONLY old.latency_by_slot
    ADD CONSTRAINT latency_by_slot_pkey PRIMARY KEY (slot, processor, bucket);
ALTER TABLE ONLY old.outputs
    ADD CONSTRAINT outputs_pkey PRIMARY KEY (staged);
ALTER TABLE ONLY old.payloads
    ADD CONSTRAINT payloads_pkey PRIMARY KEY (id);
ALTER TABLE ONLY old.processor_history_by_slot
    ADD CONSTRAINT processor_history_by_slot_pkey PRIMARY KEY (slot, second, processor);
ALTER TABLE ONLY old.processors
    ADD CONSTRAINT processors_pkey PRIMARY KEY (worker, processor);
ALTER TABLE ONLY old.queue_history_by_slot
    ADD CONSTRAINT queue_history_by_slot_pkey PRIMARY KEY (slot, second);
ALTER TABLE ONLY old.source_formats_by_slot
    ADD CONSTRAINT source_formats_by_slot_pkey PRIMARY KEY (slot, source, format);
ALTER TABLE ONLY old.states
    ADD CONSTRAINT states_pkey PRIMARY KEY (slot, processor);
ALTER TABLE ONLY old.totals_by_slot
    ADD CONSTRAINT totals_by_slot_pkey PRIMARY KEY (slot);
ALTER TABLE ONLY old.traces
    ADD CONSTRAINT traces_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY old.workers
    ADD CONSTRAINT workers_pkey PRIMARY KEY (name);
ALTER TABLE ONLY old.workers
    ADD CONSTRAINT workers_slot_key UNIQUE (slot);
CREATE INDEX batches_by_age ON old.batches USING btree (state, put_at);
CREATE INDEX batches_by_payload ON old.batches USING btree (payload);
CREATE INDEX batches_by_state ON old.batches USING btree (state, seq);
CREATE INDEX batches_by_token ON old.batches USING btree (token) WHERE (token IS NOT NULL);
CREATE INDEX dead_letters_by_failure ON old.dead_letters USING btree (status, failure);
CREATE INDEX dead_letters_by_status ON old.dead_letters USING btree (status, id);
CREATE TRIGGER batches_gone AFTER DELETE ON old.batches REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION old.count_batches();
CREATE TRIGGER batches_moved AFTER UPDATE ON old.batches REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION old.count_batches();
CREATE TRIGGER batches_put AFTER INSERT ON old.batches REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION old.count_batches();
ALTER TABLE ONLY old.batches
    ADD CONSTRAINT batches_payload_fkey FOREIGN KEY (payload) REFERENCES old.payloads(id);
ALTER TABLE ONLY old.dead_letters
    ADD CONSTRAINT dead_letters_failure_fkey FOREIGN KEY (failure) REFERENCES old.failures(id);
