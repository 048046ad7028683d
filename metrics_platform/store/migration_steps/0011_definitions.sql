CREATE TABLE platform.definitions (
    metric text NOT NULL,
    version text NOT NULL,
    columns jsonb NOT NULL,
    PRIMARY KEY (metric, version)
);
COMMENT ON TABLE platform.definitions IS 'All definitions that ever were current, with their columns';
INSERT INTO platform.definitions SELECT name, version, columns FROM platform.metrics;
