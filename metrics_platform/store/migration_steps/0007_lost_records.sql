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
