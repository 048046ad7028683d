CREATE TABLE platform.next_shift (
    lease text PRIMARY KEY,
    at timestamptz,
    reason text NOT NULL
);
COMMENT ON TABLE platform.next_shift IS 'When the next shift starts, and why then';
COMMENT ON COLUMN platform.next_shift.lease IS 'The lease that the shifts pass on';
COMMENT ON COLUMN platform.next_shift.at IS 'Null while one is warming up or ending';

CREATE TABLE platform.runs (
    run_id text PRIMARY KEY,
    job text NOT NULL,
    host text NOT NULL,
    pid integer,
    pid_created double precision,
    began_at timestamptz NOT NULL,
    progress_at timestamptz NOT NULL,
    doing text NOT NULL,
    ended_because text,
    closed_at timestamptz
);
CREATE INDEX ON platform.runs (began_at) WHERE closed_at IS NULL;
COMMENT ON TABLE platform.runs IS 'The runs that use Spark: where each works, and when it was last seen to get on';
COMMENT ON COLUMN platform.runs.pid IS 'The process that works on this run alone; null if it does other things, too';
COMMENT ON COLUMN platform.runs.pid_created IS 'When that process began, in seconds since 1970: ids are reused';
COMMENT ON COLUMN platform.runs.doing IS 'What it was seen to do then';
COMMENT ON COLUMN platform.runs.ended_because IS 'Why the platform ended it; null if it ended by itself';
COMMENT ON COLUMN platform.runs.closed_at IS 'When its process was gone';
