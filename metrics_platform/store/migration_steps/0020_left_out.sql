CREATE TABLE platform.left_out (
    metric text NOT NULL,
    layer text NOT NULL CHECK (layer IN ('stream', 'batch')),
    definition text NOT NULL,
    reason text NOT NULL,
    since timestamptz NOT NULL,
    tried_at timestamptz NOT NULL,
    PRIMARY KEY (metric, layer)
);
COMMENT ON TABLE platform.left_out IS 'Metrics that a layer cannot compute now, while it computes all others';
COMMENT ON COLUMN platform.left_out.definition IS 'The version that cannot be computed; another one is tried at once';
COMMENT ON COLUMN platform.left_out.tried_at IS 'When it was last tried in vain';

ALTER TABLE platform.backlog DROP CONSTRAINT backlog_cause_check;
ALTER TABLE platform.backlog ADD CONSTRAINT backlog_cause_check CHECK (cause IN
    ('skipped', 'unreachable', 'behind', 'changed', 'missing', 'unbalanced', 'failed', 'lost'));
CREATE UNIQUE INDEX one_failed_hour ON platform.backlog (metric, window_start)
    WHERE cause = 'failed' AND settled_at IS NULL;

ALTER TABLE platform.ledger ADD COLUMN overflowed bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN platform.ledger.overflowed IS
    'Events whose input is missing in the number, because it or the sum of its row has no representation';
ALTER TABLE platform.revisions ADD COLUMN overflowed bigint NOT NULL DEFAULT 0;

CREATE OR REPLACE VIEW platform.doubts AS
    SELECT kind, metric, window_start, window_end, cause, reason FROM platform.backlog
    WHERE settled_at IS NULL AND cause IN ('changed', 'unbalanced', 'failed', 'lost')
      AND window_start IS NOT NULL AND window_end IS NOT NULL;
