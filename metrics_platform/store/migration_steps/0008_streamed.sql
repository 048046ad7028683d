ALTER TABLE platform.lease ADD COLUMN newest_minute timestamptz;
COMMENT ON COLUMN platform.lease.newest_minute IS 'The newest minute that a holder has committed';
UPDATE platform.lease SET newest_minute = (
    SELECT max(window_start) FROM platform.ledger JOIN platform.metrics ON name = metric
    WHERE grain = 'minute' AND retired_at IS NULL);
