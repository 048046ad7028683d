ALTER TABLE platform.ingestion ADD COLUMN replay jsonb;
COMMENT ON COLUMN platform.ingestion.replay IS
    'Which rejected records the step decoded again; null for a step that read Kafka';
