ALTER TABLE platform.dirty_windows ADD COLUMN events bigint NOT NULL DEFAULT 0;
COMMENT ON TABLE platform.dirty_windows IS 'Hours whose raw events changed since they were last computed';
