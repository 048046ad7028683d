-- What runs find by themselves, which the rules of alarms read.
ALTER TABLE platform.alarms RENAME TO verdicts;
ALTER TABLE platform.verdicts RENAME CONSTRAINT alarms_pkey TO verdicts_pkey;
COMMENT ON TABLE platform.verdicts IS 'What runs found: of clocks, of Spark, of runs over their time';
DELETE FROM platform.verdicts WHERE check_name LIKE 'fresh/%' OR check_name = 'clock/postgresql';

CREATE TABLE platform.alarms (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rule text NOT NULL,
    subject text NOT NULL,
    severity text NOT NULL CHECK (severity IN ('warn', 'error')),
    message text NOT NULL,
    look text NOT NULL,
    since timestamptz NOT NULL,
    raised_at timestamptz NOT NULL,
    quiet_since timestamptz,
    recovered_at timestamptz
);
CREATE UNIQUE INDEX one_open_alarm ON platform.alarms (rule, subject) WHERE recovered_at IS NULL;
COMMENT ON TABLE platform.alarms IS 'Everything that is or was late, wrong or stopped: what, since when, how bad';
COMMENT ON COLUMN platform.alarms.subject IS 'Of what: a metric, a kind of event, a cluster, a place';
COMMENT ON COLUMN platform.alarms.since IS 'When it became late, wrong or stopped';
COMMENT ON COLUMN platform.alarms.quiet_since IS 'Its rule finds nothing any more; it recovers if that lasts';

CREATE TABLE platform.alarm_deliveries (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alarm bigint NOT NULL REFERENCES platform.alarms ON DELETE CASCADE,
    change text NOT NULL CHECK (change IN ('raised', 'worse', 'recovered')),
    channel text NOT NULL,
    severity text NOT NULL,
    message text NOT NULL,
    changed_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz,
    sent_at timestamptz,
    last_error text,
    UNIQUE (alarm, change, channel)
);
CREATE INDEX ON platform.alarm_deliveries (channel, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
COMMENT ON TABLE platform.alarm_deliveries IS 'Whom each change of an alarm was told, and what failed';
COMMENT ON COLUMN platform.alarm_deliveries.next_attempt_at IS 'Null once it was sent or given up';

CREATE TABLE platform.watch (
    looked_at timestamptz NOT NULL,
    next_at timestamptz NOT NULL,
    one boolean PRIMARY KEY DEFAULT true CHECK (one)
);
COMMENT ON TABLE platform.watch IS 'When the rules of alarms were last looked at, and will be next';
