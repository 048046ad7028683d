CREATE SEQUENCE platform.revision;

CREATE TABLE platform.metrics (
    name text PRIMARY KEY,
    version text NOT NULL,
    columns jsonb NOT NULL,
    view_hash text NOT NULL,
    first_seen timestamptz NOT NULL,
    since timestamptz NOT NULL,
    retired_at timestamptz
);
COMMENT ON TABLE platform.metrics IS 'Current definitions; since: when this version became current';

CREATE TABLE platform.ledger (
    metric text NOT NULL,
    grain text NOT NULL,
    window_start timestamptz NOT NULL,
    window_end timestamptz NOT NULL,
    source text NOT NULL CHECK (source IN ('stream', 'rollup', 'batch')),
    revision bigint NOT NULL,
    minutes_present integer NOT NULL,
    minutes_total integer NOT NULL,
    events bigint NOT NULL,
    definition text NOT NULL,
    run_id text NOT NULL,
    committed_at timestamptz NOT NULL,
    first_committed_at timestamptz NOT NULL,
    exact_at timestamptz,
    PRIMARY KEY (metric, grain, window_start)
);
COMMENT ON TABLE platform.ledger IS 'One row per metric, grain and window: how true its number is';

CREATE TABLE platform.lease (
    name text PRIMARY KEY,
    holder text,
    token bigint NOT NULL,
    ttl interval NOT NULL,
    acquired_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    from_minute timestamptz,
    successor text,
    successor_ready_at timestamptz
);

CREATE TABLE platform.gaps (
    minute_start timestamptz PRIMARY KEY,
    minute_end timestamptz NOT NULL,
    reason text NOT NULL,
    offsets jsonb,
    recorded_at timestamptz NOT NULL,
    closed_at timestamptz
);
CREATE INDEX ON platform.gaps (minute_start) WHERE closed_at IS NULL;
COMMENT ON TABLE platform.gaps IS 'Minutes that the stream skipped, until the batch made them exact';

CREATE TABLE platform.ingestion (
    kind text NOT NULL,
    version bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('planned', 'done')),
    planned_at timestamptz NOT NULL,
    done_at timestamptz,
    ranges jsonb NOT NULL,
    accepted bigint,
    rejected bigint,
    rejected_by_reason jsonb,
    through timestamptz,
    PRIMARY KEY (kind, version)
);
CREATE UNIQUE INDEX one_pending_step ON platform.ingestion (kind) WHERE status = 'planned';

CREATE TABLE platform.ingestion_offsets (
    kind text NOT NULL,
    cluster text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    PRIMARY KEY (kind, cluster, topic, partition)
);

CREATE TABLE platform.dirty_windows (
    kind text NOT NULL,
    hour_start timestamptz NOT NULL,
    since timestamptz NOT NULL,
    reason text NOT NULL,
    ingestion_version bigint NOT NULL,
    PRIMARY KEY (kind, hour_start)
);
COMMENT ON TABLE platform.dirty_windows IS 'Hours whose raw events changed after their exact commit';

CREATE TABLE platform.alarms (
    check_name text NOT NULL,
    at timestamptz NOT NULL,
    severity text NOT NULL,
    message text NOT NULL,
    PRIMARY KEY (check_name, at)
);
