-- Version 2 of the ledger: what the look at the account found before devices were sent.

ALTER TABLE parts ADD COLUMN looked TEXT;        -- when the account was looked at before its devices were sent
ALTER TABLE devices ADD COLUMN thing_existed INTEGER NOT NULL DEFAULT 0;  -- 1: the account had its thing before it was sent
ALTER TABLE devices ADD COLUMN existing TEXT;    -- a JSON array: the ACTIVE certificates that thing had, not this run's

-- When orphans were looked for, and by whose clock.

ALTER TABLE runs ADD COLUMN orphans_looked TEXT; -- when the account was looked through for orphans; NULL if something was sent since
ALTER TABLE parts ADD COLUMN task_created TEXT;  -- when AWS made the task, by its own clock
