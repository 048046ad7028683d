ALTER TABLE platform.corrections ALTER COLUMN smape DROP NOT NULL;
