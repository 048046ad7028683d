-- How long the passes of the hourly runs took, so that a run knows how many older hours fit into its time.
CREATE TABLE platform.batch_passes (
    run_id text NOT NULL,
    ended_at timestamptz NOT NULL,
    hours integer NOT NULL,
    seconds double precision NOT NULL
);
CREATE INDEX ON platform.batch_passes (ended_at);
COMMENT ON TABLE platform.batch_passes IS 'How long each pass of the hourly runs took, and how many hours it computed';
