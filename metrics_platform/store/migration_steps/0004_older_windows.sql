CREATE VIEW platform.older_windows AS
SELECT metric, grain, count(*) AS windows, min(window_start) AS first_start, max(window_end) AS last_end
FROM platform.ledger JOIN platform.metrics ON name = metric
WHERE retired_at IS NULL AND definition <> version
GROUP BY metric, grain;
COMMENT ON VIEW platform.older_windows IS 'Windows that follow an older definition of their metric';
