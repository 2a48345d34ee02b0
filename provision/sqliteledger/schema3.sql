-- Version 3 of the ledger: columns of the list that are kept beside a device and never sent.

ALTER TABLE devices ADD COLUMN meta TEXT;        -- a JSON object
