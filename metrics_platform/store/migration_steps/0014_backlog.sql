CREATE TABLE platform.backlog (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cause text NOT NULL CHECK (cause IN ('skipped', 'unreachable', 'behind', 'changed', 'missing', 'lost')),
    kind text,
    metric text,
    cluster text,
    window_start timestamptz,
    window_end timestamptz,
    reason text NOT NULL,
    since timestamptz NOT NULL,
    step bigint,
    events bigint NOT NULL DEFAULT 0,
    details jsonb,
    settled_at timestamptz
);
CREATE INDEX ON platform.backlog (window_start) WHERE settled_at IS NULL;
CREATE INDEX ON platform.backlog (cause, window_start);
CREATE UNIQUE INDEX one_changed_hour ON platform.backlog (kind, coalesce(metric, ''), window_start)
    WHERE cause = 'changed' AND settled_at IS NULL;
CREATE UNIQUE INDEX one_missing_window ON platform.backlog (kind, window_start, window_end)
    WHERE cause = 'missing' AND settled_at IS NULL;
CREATE UNIQUE INDEX one_lost_range ON platform.backlog
    (kind, cluster, (details ->> 'topic'), ((details ->> 'partition')::integer),
     ((details ->> 'first_offset')::bigint))
    WHERE cause = 'lost';
COMMENT ON TABLE platform.backlog IS 'Everything that is owed: what, for which time, why, since when, until when';
COMMENT ON COLUMN platform.backlog.kind IS 'Of event; null for all kinds';
COMMENT ON COLUMN platform.backlog.metric IS 'The one metric that owes it; null for all metrics of the kind';
COMMENT ON COLUMN platform.backlog.cluster IS 'The Kafka cluster that is missing; null for all';
COMMENT ON COLUMN platform.backlog.step IS 'The newest ingestion step that added to it';
COMMENT ON COLUMN platform.backlog.events IS 'New events that wait to be counted';
COMMENT ON COLUMN platform.backlog.details IS 'Of skipped minutes and lost records, where they lay on Kafka';

INSERT INTO platform.backlog (cause, window_start, window_end, reason, since, details, settled_at)
    SELECT 'skipped', minute_start, minute_end, reason, recorded_at, offsets, closed_at FROM platform.gaps;
INSERT INTO platform.backlog (cause, cluster, window_start, window_end, reason, since, settled_at)
    SELECT CASE layer WHEN 'stream' THEN 'unreachable' ELSE 'behind' END, cluster, minute_start, minute_end,
           reason, recorded_at, closed_at FROM platform.outages;
INSERT INTO platform.backlog (cause, kind, window_start, window_end, reason, since, step, events)
    SELECT 'changed', kind, hour_start, hour_start + interval '1 hour', reason, since, ingestion_version, events
    FROM platform.dirty_windows;
INSERT INTO platform.backlog (cause, kind, cluster, reason, since, details)
    SELECT 'lost', kind, cluster, 'Kafka no longer had the records when they were to be ingested', noticed_at,
           jsonb_build_object('topic', topic, 'partition', partition,
                              'first_offset', first_offset, 'last_offset', last_offset)
    FROM platform.lost_records;

-- The four tables become views of the same names, with the same grants.
CREATE TEMPORARY TABLE _grants ON COMMIT DROP AS
    SELECT format('GRANT %s ON platform.%I TO %s%s', privilege_type, relname,
                  CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
                  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) AS statement
    FROM pg_class CROSS JOIN aclexplode(relacl)
    WHERE relnamespace = 'platform'::regnamespace AND grantee <> relowner
      AND relname IN ('gaps', 'outages', 'dirty_windows', 'lost_records');
DROP TABLE platform.gaps, platform.outages, platform.dirty_windows, platform.lost_records;

CREATE VIEW platform.gaps AS
    SELECT window_start AS minute_start, window_end AS minute_end, reason, details AS offsets,
           since AS recorded_at, settled_at AS closed_at
    FROM platform.backlog WHERE cause = 'skipped';
COMMENT ON VIEW platform.gaps IS 'Minutes that the stream skipped, until the batch made them exact';

CREATE VIEW platform.outages AS
    SELECT cluster, CASE cause WHEN 'unreachable' THEN 'stream' ELSE 'ingestion' END AS layer,
           window_start AS minute_start, window_end AS minute_end, reason,
           since AS recorded_at, settled_at AS closed_at
    FROM platform.backlog WHERE cause IN ('unreachable', 'behind');
COMMENT ON VIEW platform.outages IS 'Minutes that lack a Kafka cluster, until it is made up for';

CREATE VIEW platform.dirty_windows AS
    SELECT kind, window_start AS hour_start, since, reason, step AS ingestion_version, events, metric
    FROM platform.backlog WHERE cause = 'changed' AND settled_at IS NULL;
COMMENT ON VIEW platform.dirty_windows IS 'Hours whose raw events changed since they were last computed';

CREATE VIEW platform.lost_records AS
    SELECT kind, cluster, details ->> 'topic' AS topic, (details ->> 'partition')::integer AS partition,
           (details ->> 'first_offset')::bigint AS first_offset,
           (details ->> 'last_offset')::bigint AS last_offset, since AS noticed_at
    FROM platform.backlog WHERE cause = 'lost';
COMMENT ON VIEW platform.lost_records IS 'Offsets that Kafka no longer had when they were to be ingested';

DO $$
DECLARE line record;
BEGIN
    FOR line IN SELECT statement FROM _grants LOOP
        EXECUTE line.statement;
    END LOOP;
END $$;
