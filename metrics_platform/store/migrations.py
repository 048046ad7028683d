"""The platform's own tables, as numbered steps. A step that was released is never edited: add another."""

from __future__ import annotations

from datetime import datetime

from psycopg import sql

from metrics_platform.errors import PlatformError
from metrics_platform.store.connection import Connection, only


class StoreTooNew(PlatformError):
    """The store was migrated by a newer version of the platform than this one."""


_FIRST = """
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
"""

_DIRTY_EVENTS = """
    ALTER TABLE platform.dirty_windows ADD COLUMN events bigint NOT NULL DEFAULT 0;
    COMMENT ON TABLE platform.dirty_windows IS 'Hours whose raw events changed since they were last computed';
"""

_REPLAYS = """
    ALTER TABLE platform.ingestion ADD COLUMN replay jsonb;
    COMMENT ON COLUMN platform.ingestion.replay IS
        'Which rejected records the step decoded again; null for a step that read Kafka';
"""

_OLDER_WINDOWS = """
    CREATE VIEW platform.older_windows AS
    SELECT metric, grain, count(*) AS windows, min(window_start) AS first_start, max(window_end) AS last_end
    FROM platform.ledger JOIN platform.metrics ON name = metric
    WHERE retired_at IS NULL AND definition <> version
    GROUP BY metric, grain;
    COMMENT ON VIEW platform.older_windows IS 'Windows that follow an older definition of their metric';
"""

_COVERAGE = """
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
"""

HISTORY = """
    CREATE SCHEMA history;

    CREATE TABLE platform.revisions (
        LIKE platform.ledger,
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        superseded_at timestamptz NOT NULL,
        transaction xid8 NOT NULL DEFAULT pg_current_xact_id()
    );
    CREATE INDEX ON platform.revisions (metric, grain, window_start, id);
    CREATE INDEX ON platform.revisions (metric, superseded_at);
    CREATE INDEX ON platform.revisions (transaction);
    COMMENT ON TABLE platform.revisions IS
        'Lines of the ledger that were replaced; their rows are in history.<metric>, by revision_id';

    CREATE TABLE platform.corrections (
        revision_id bigint PRIMARY KEY,
        metric text NOT NULL,
        grain text NOT NULL,
        window_start timestamptz NOT NULL,
        window_end timestamptz NOT NULL,
        corrected_at timestamptz NOT NULL,
        run_id text NOT NULL,
        reason text NOT NULL,
        old_source text NOT NULL,
        new_source text NOT NULL,
        old_revision bigint NOT NULL,
        new_revision bigint NOT NULL,
        old_definition text NOT NULL,
        new_definition text NOT NULL,
        old_events bigint NOT NULL,
        new_events bigint NOT NULL,
        old_total numeric,
        new_total numeric,
        rows_missing bigint NOT NULL,
        rows_extra bigint NOT NULL,
        rows_changed bigint NOT NULL,
        absolute_error double precision NOT NULL,
        relative_error double precision,
        wape double precision,
        smape double precision NOT NULL,
        worst jsonb NOT NULL,
        reconciliation boolean NOT NULL GENERATED ALWAYS AS (
            old_source <> 'batch' AND new_source = 'batch' AND old_definition = new_definition) STORED
    );
    CREATE INDEX ON platform.corrections (metric, corrected_at);
    CREATE INDEX ON platform.corrections (grain, window_end);
    CREATE INDEX ON platform.corrections (metric, grain, corrected_at) WHERE reconciliation;
    COMMENT ON TABLE platform.corrections IS
        'What a batch replaced of what readers had, and why; reconciliation: exact for approximate';

    CREATE TABLE platform.accuracy (
        metric text NOT NULL,
        grain text NOT NULL,
        age interval NOT NULL,
        window_start timestamptz NOT NULL,
        definition text NOT NULL,
        error double precision NOT NULL,
        learned_at timestamptz NOT NULL,
        PRIMARY KEY (metric, grain, age, window_start)
    );
    COMMENT ON TABLE platform.accuracy IS
        'How far the number that a window had at an age was from its exact one (WAPE)';

    CREATE TABLE platform.error_bands (
        metric text NOT NULL,
        grain text NOT NULL,
        age interval NOT NULL,
        definition text NOT NULL,
        error double precision NOT NULL,
        windows bigint NOT NULL,
        learned_at timestamptz NOT NULL,
        PRIMARY KEY (metric, grain, age)
    );
    COMMENT ON TABLE platform.error_bands IS
        'How far a number of some age (since its window ended) usually is from the exact one';
"""

_LOST_RECORDS = """
    CREATE TABLE platform.lost_records (
        kind text NOT NULL,
        cluster text NOT NULL,
        topic text NOT NULL,
        partition integer NOT NULL,
        first_offset bigint NOT NULL,
        last_offset bigint NOT NULL,
        noticed_at timestamptz NOT NULL,
        PRIMARY KEY (kind, cluster, topic, partition, first_offset)
    );
    COMMENT ON TABLE platform.lost_records IS
        'Offsets that Kafka no longer had when they were to be ingested';
"""

_STREAMED = """
    ALTER TABLE platform.lease ADD COLUMN newest_minute timestamptz;
    COMMENT ON COLUMN platform.lease.newest_minute IS 'The newest minute that a holder has committed';
    UPDATE platform.lease SET newest_minute = (
        SELECT max(window_start) FROM platform.ledger JOIN platform.metrics ON name = metric
        WHERE grain = 'minute' AND retired_at IS NULL);
"""

_FORGOTTEN = """
    CREATE TABLE platform.forgotten (
        what text PRIMARY KEY,
        before timestamptz NOT NULL
    );
    COMMENT ON TABLE platform.forgotten IS
        'How far retention has got: windows of a grain by their end, revisions by when they were replaced';
"""

_UNKNOWN_ERRORS = """
    ALTER TABLE platform.corrections ALTER COLUMN smape DROP NOT NULL;
"""

_DEFINITIONS = """
    CREATE TABLE platform.definitions (
        metric text NOT NULL,
        version text NOT NULL,
        columns jsonb NOT NULL,
        PRIMARY KEY (metric, version)
    );
    COMMENT ON TABLE platform.definitions IS 'All definitions that ever were current, with their columns';
    INSERT INTO platform.definitions SELECT name, version, columns FROM platform.metrics;
"""

_KINDS = """
    ALTER TABLE platform.definitions ADD COLUMN kind text;
    UPDATE platform.definitions SET kind = metrics.kind FROM platform.metrics WHERE name = metric;
    ALTER TABLE platform.definitions ALTER COLUMN kind SET NOT NULL;
    COMMENT ON TABLE platform.definitions IS
        'All definitions that ever were current: the kind of event that they count, and their columns';
"""

_TOPIC_IDS = """
    ALTER TABLE platform.ingestion_offsets ADD COLUMN topic_id text;
    COMMENT ON COLUMN platform.ingestion_offsets.topic_id IS
        'Which topic of that name the offsets are of: one made anew has another id';
"""

MIGRATIONS = (
    _FIRST,
    _DIRTY_EVENTS,
    _REPLAYS,
    _OLDER_WINDOWS,
    _COVERAGE,
    HISTORY,
    _LOST_RECORDS,
    _STREAMED,
    _FORGOTTEN,
    _UNKNOWN_ERRORS,
    _DEFINITIONS,
    _KINDS,
    _TOPIC_IDS,
)


def applied(conn: Connection) -> int:
    """How many migrations the store has seen; 0 for an empty database."""
    if conn.execute("SELECT to_regclass('platform.migrations')").fetchone() == (None,):
        return 0
    return only(conn.execute("SELECT coalesce(max(number), 0) FROM platform.migrations"))[0]


def applied_at(conn: Connection, step: str) -> datetime:
    """When the store saw a step of MIGRATIONS."""
    number = MIGRATIONS.index(step) + 1
    return only(conn.execute("SELECT applied_at FROM platform.migrations WHERE number = %s", (number,)))[0]


def apply(conn: Connection, now: datetime) -> None:
    """Run the migrations not yet applied, inside the caller's transaction. Raises StoreTooNew."""
    conn.execute("CREATE SCHEMA IF NOT EXISTS platform")
    conn.execute("CREATE SCHEMA IF NOT EXISTS store")
    conn.execute("CREATE SCHEMA IF NOT EXISTS metrics")
    conn.execute(
        "CREATE TABLE IF NOT EXISTS platform.migrations "
        "(number integer PRIMARY KEY, applied_at timestamptz NOT NULL)"
    )
    done = applied(conn)
    refuse_newer(done)
    for number, statements in enumerate(MIGRATIONS[done:], start=done + 1):
        conn.execute(sql.SQL(statements))
        conn.execute("INSERT INTO platform.migrations VALUES (%s, %s)", (number, now))


def refuse_newer(done: int) -> None:
    """Raise StoreTooNew when more migrations were applied than this version knows."""
    if done > len(MIGRATIONS):
        raise StoreTooNew(
            f"the metric store is at migration {done}, this version of the platform knows {len(MIGRATIONS)}; "
            "upgrade the platform"
        )
