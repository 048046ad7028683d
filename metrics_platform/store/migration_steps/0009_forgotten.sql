CREATE TABLE platform.forgotten (
    what text PRIMARY KEY,
    before timestamptz NOT NULL
);
COMMENT ON TABLE platform.forgotten IS
    'How far retention has got: windows of a grain by their end, revisions by when they were replaced';
