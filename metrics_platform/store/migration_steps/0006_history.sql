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
