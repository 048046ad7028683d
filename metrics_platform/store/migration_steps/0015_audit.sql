CREATE TABLE platform.installation (id uuid PRIMARY KEY);
CREATE UNIQUE INDEX one_installation ON platform.installation ((true));
COMMENT ON TABLE platform.installation IS 'The identity that ties this metric store to its raw store';
INSERT INTO platform.installation VALUES (gen_random_uuid());

ALTER TABLE platform.ingestion ADD COLUMN in_raw_store boolean;
COMMENT ON COLUMN platform.ingestion.in_raw_store IS
    'Whether the raw store has a commit of the step; null for steps of before this was recorded';

CREATE TABLE platform.ingested_records (
    kind text NOT NULL,
    step bigint NOT NULL,
    cluster text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    topic_id text,
    first_offset bigint NOT NULL,
    next_offset bigint NOT NULL,
    events bigint NOT NULL,
    rejected bigint NOT NULL,
    void bigint NOT NULL,
    unexplained bigint NOT NULL,
    PRIMARY KEY (kind, step, cluster, topic, partition)
);
COMMENT ON TABLE platform.ingested_records IS 'What became of the offsets of each ingestion step, by partition';
COMMENT ON COLUMN platform.ingested_records.void IS 'Offsets that hold no record: markers, aborted, compacted';
COMMENT ON COLUMN platform.ingested_records.unexplained IS 'Records on Kafka that the raw store lacks';

ALTER TABLE platform.minute_events ADD COLUMN redelivered bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN platform.minute_events.redelivered IS
    'Events in the raw store beside the accepted ones that changed no number: only delivered again';
ALTER TABLE platform.window_events ADD COLUMN redelivered bigint NOT NULL DEFAULT 0,
    ADD COLUMN rejected bigint NOT NULL DEFAULT 0, ADD COLUMN lost double precision NOT NULL DEFAULT 0;
COMMENT ON COLUMN platform.window_events.rejected IS 'Rejected records by the time of Kafka';
COMMENT ON COLUMN platform.window_events.lost IS 'Lost records, spread evenly over the time in which they came';

CREATE OR REPLACE VIEW platform.known_events AS
    SELECT events.kind, events.grain, events.window_start, events.accepted,
           events.accepted + events.rejected + ceil(events.lost)::bigint AS possible
    FROM platform.window_events AS events
    JOIN (SELECT kind, min(through) AS through FROM platform.ingested
          GROUP BY kind HAVING count(*) = count(through)) AS reached
        ON reached.kind = events.kind AND events.window_end <= reached.through;

ALTER TABLE platform.backlog DROP CONSTRAINT backlog_cause_check;
ALTER TABLE platform.backlog ADD CONSTRAINT backlog_cause_check CHECK (cause IN
    ('skipped', 'unreachable', 'behind', 'changed', 'missing', 'unbalanced', 'lost'));
CREATE UNIQUE INDEX one_unbalanced_window ON platform.backlog (kind, window_start, window_end)
    WHERE cause = 'unbalanced' AND settled_at IS NULL;

CREATE VIEW platform.doubts AS
    SELECT kind, metric, window_start, window_end, cause, reason FROM platform.backlog
    WHERE settled_at IS NULL AND cause IN ('changed', 'unbalanced', 'lost')
      AND window_start IS NOT NULL AND window_end IS NOT NULL;
COMMENT ON VIEW platform.doubts IS 'Spans of time in which no number is exact, and why';

CREATE TABLE platform.audits (
    kind text NOT NULL,
    grain text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    step bigint NOT NULL,
    accepted bigint NOT NULL,
    redelivered bigint NOT NULL,
    counted bigint NOT NULL,
    duplicates bigint NOT NULL,
    erased bigint NOT NULL DEFAULT 0,
    differences text,
    audited_at timestamptz NOT NULL,
    run_id text NOT NULL,
    PRIMARY KEY (kind, grain, window_start)
);
COMMENT ON TABLE platform.audits IS 'For each window that the batch computed: how its books balanced';
