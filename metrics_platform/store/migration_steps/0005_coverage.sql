ALTER TABLE platform.metrics ADD COLUMN kind text;
ALTER TABLE platform.ledger
    ADD COLUMN minutes_lost double precision NOT NULL DEFAULT 0, ADD COLUMN counted bigint;
COMMENT ON COLUMN platform.ledger.minutes_lost IS 'Of minutes_present, by missing clusters: their share';
COMMENT ON COLUMN platform.ledger.counted IS 'Events of the kind that were read, before the filter';

CREATE TABLE platform.minute_events (
    kind text NOT NULL,
    minute_start timestamptz NOT NULL,
    cluster text NOT NULL,
    counted bigint,
    accepted bigint,
    PRIMARY KEY (kind, minute_start, cluster)
);
COMMENT ON TABLE platform.minute_events IS 'Events counted by the stream and accepted by raw ingestion';

CREATE TABLE platform.window_events (
    kind text NOT NULL,
    grain text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    accepted bigint NOT NULL,
    PRIMARY KEY (kind, grain, window_start)
);
COMMENT ON TABLE platform.window_events IS 'Events accepted by raw ingestion, of all clusters';

CREATE TABLE platform.ingested (
    kind text NOT NULL,
    cluster text NOT NULL,
    through timestamptz,
    PRIMARY KEY (kind, cluster)
);
COMMENT ON TABLE platform.ingested IS 'The Kafka time up to which the raw store has everything';
INSERT INTO platform.ingested
    SELECT kind, cluster, (
        SELECT through FROM platform.ingestion AS step
        WHERE step.kind = known.kind AND status = 'done' AND through IS NOT NULL
        ORDER BY version DESC LIMIT 1)
    FROM (SELECT DISTINCT kind, cluster FROM platform.ingestion_offsets) AS known;
ALTER TABLE platform.ingestion DROP COLUMN through;

CREATE VIEW platform.known_events AS
    SELECT events.kind, events.grain, events.window_start, events.accepted
    FROM platform.window_events AS events
    JOIN (SELECT kind, min(through) AS through FROM platform.ingested
          GROUP BY kind HAVING count(*) = count(through)) AS reached
        ON reached.kind = events.kind AND events.window_end <= reached.through;
COMMENT ON VIEW platform.known_events IS 'Windows through whose end every cluster is ingested';

CREATE FUNCTION platform.coverage(
    minutes_present integer, minutes_total integer, minutes_lost double precision,
    counted bigint, accepted bigint
) RETURNS double precision LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN counted IS NOT NULL AND accepted > 0
        THEN least(1.0, counted::double precision / accepted)
        ELSE (minutes_present - minutes_lost) / minutes_total END
$$;

CREATE TABLE platform.outages (
    cluster text NOT NULL,
    layer text NOT NULL CHECK (layer IN ('stream', 'ingestion')),
    minute_start timestamptz NOT NULL,
    minute_end timestamptz NOT NULL,
    reason text NOT NULL,
    recorded_at timestamptz NOT NULL,
    closed_at timestamptz,
    PRIMARY KEY (cluster, layer, minute_start)
);
CREATE INDEX ON platform.outages (minute_start) WHERE closed_at IS NULL;
COMMENT ON TABLE platform.outages IS 'Minutes that lack a Kafka cluster, until it is made up for';
