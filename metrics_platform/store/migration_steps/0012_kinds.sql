ALTER TABLE platform.definitions ADD COLUMN kind text;
UPDATE platform.definitions SET kind = metrics.kind FROM platform.metrics WHERE name = metric;
ALTER TABLE platform.definitions ALTER COLUMN kind SET NOT NULL;
COMMENT ON TABLE platform.definitions IS
    'All definitions that ever were current: the kind of event that they count, and their columns';
