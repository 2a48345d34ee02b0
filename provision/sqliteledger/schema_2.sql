-- Up to which device keys may have been made. Of a run that began before this was recorded, any device may have one.
ALTER TABLE runs ADD COLUMN prepared INTEGER NOT NULL DEFAULT 0;
UPDATE runs SET prepared = (SELECT coalesce(max(seq), 0) FROM devices);
