ALTER TABLE platform.ingestion_offsets ADD COLUMN topic_id text;
COMMENT ON COLUMN platform.ingestion_offsets.topic_id IS
    'Which topic of that name the offsets are of: one made anew has another id';
