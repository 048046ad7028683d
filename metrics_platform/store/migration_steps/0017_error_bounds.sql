ALTER TABLE platform.definitions
    ADD COLUMN error_bound double precision,
    ADD COLUMN error_of text,
    ADD COLUMN exact_up_to bigint;
-- All sketches so far: HyperLogLog with 2^12 registers, and KLL with k = 200.
UPDATE platform.definitions SET error_bound = 0.0325, error_of = 'value'
WHERE columns @> '[["sketch", "bytea"], ["value", "bigint"]]';
UPDATE platform.definitions SET error_bound = 0.0133, error_of = 'rank'
WHERE columns @> '[["sketch", "bytea"], ["value", "double precision"]]';
COMMENT ON COLUMN platform.definitions.error_bound IS
    'How far 95 of 100 exact numbers are at most from the true ones; null if they are the true ones';
COMMENT ON COLUMN platform.definitions.error_of IS 'What error_bound is a share of: value or rank';
COMMENT ON COLUMN platform.definitions.exact_up_to IS 'Numbers up to this one are true; null: none for sure';
