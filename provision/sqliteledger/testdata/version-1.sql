PRAGMA application_id = 1232032870;
PRAGMA user_version = 1;
CREATE TABLE runs (              -- one row: a ledger holds one run
    id              TEXT,
    created         TEXT,
    partition       TEXT,        -- aws, aws-cn or aws-us-gov
    account         TEXT,
    region          TEXT,
    fake            INTEGER NOT NULL,  -- 1: no certificate of this run is real
    template_sha256 TEXT,
    role_arn        TEXT,
    spooled         INTEGER NOT NULL,  -- 1: every device of the input is here
    total           INTEGER NOT NULL,  -- number of devices, once spooled
    ahead           INTEGER NOT NULL,  -- of them, those that were registered one by one before the input; they are the first
    input           INTEGER NOT NULL,  -- of them, those that came with the input; they are next
    finished        TEXT,
    preflight_sha256 TEXT,       -- digest of the template and role that the account was looked at for
    sites_sha256    TEXT,        -- in the ledger of a fleet: digest of the names of its sites
    orphans_looked  TEXT         -- when the account was looked through for orphans; NULL if something was sent since
);
CREATE TABLE parts (             -- one row for each data file and its registration task
    number              INTEGER PRIMARY KEY,
    attempt             INTEGER NOT NULL,
    state               TEXT,    -- written, uploaded, starting, started, ended, collected
    adopted             INTEGER NOT NULL,  -- 1: the task was started by somebody else
    lines               INTEGER NOT NULL,
    bytes               INTEGER NOT NULL,
    sha256              TEXT,
    file                TEXT,
    bucket              TEXT,
    key                 TEXT,
    task_id             TEXT,
    status              TEXT,    -- what AWS said of the task when it ended
    message             TEXT,
    succeeded           INTEGER NOT NULL,
    failed              INTEGER NOT NULL,
    discrepancy         TEXT,    -- what was wrong with AWS's counts or reports
    written             TEXT,
    uploaded            TEXT,
    started             TEXT,
    ended               TEXT,
    collected           TEXT,
    credentials_took_ns INTEGER NOT NULL,  -- nanoseconds that keys and requests took
    looked              TEXT,    -- when the account was looked at before its devices were sent
    task_created        TEXT     -- when AWS made the task, by its own clock
);
CREATE TABLE devices (           -- one row for each device of the input
    seq             INTEGER PRIMARY KEY,  -- its number in the run, from 1
    name            TEXT,        -- the thing's name
    verdict         TEXT,        -- waiting, submitted, provisioned, no-key, failed, unknown
    cause           TEXT,        -- why it failed
    attempts        INTEGER NOT NULL,  -- how often it was sent
    part            INTEGER,     -- the part it was last sent in
    line            INTEGER,     -- its line in that part's data file
    updated         TEXT,
    task_id         TEXT,
    certificate_id  TEXT,
    match           TEXT,        -- how its line in a report is recognised
    source          TEXT,        -- where the record came from, such as devices.csv:12
    message         TEXT,        -- AWS's text, or ours when it was never sent
    thing_arn       TEXT,
    certificate_arn TEXT,
    policies        TEXT,        -- a JSON array of names
    row             TEXT,        -- a JSON object: the values given for it
    original        TEXT,        -- the row as the input had it, if it was mended since
    certificate_pem TEXT,
    thing_existed   INTEGER NOT NULL DEFAULT 0,  -- 1: the account had its thing before it was sent
    existing        TEXT,        -- a JSON array: the ACTIVE certificates that thing had, not this run's
    meta            TEXT         -- a JSON object: columns of the list that are kept beside the device and never sent
);
CREATE INDEX devices_by_name        ON devices (name)           WHERE name IS NOT NULL;
CREATE INDEX devices_by_match       ON devices (match)          WHERE match IS NOT NULL;
CREATE INDEX devices_by_certificate ON devices (certificate_id) WHERE certificate_id IS NOT NULL;
CREATE INDEX devices_by_part        ON devices (part)           WHERE part IS NOT NULL;
CREATE INDEX devices_by_verdict     ON devices (verdict);
CREATE INDEX devices_by_cause       ON devices (cause)          WHERE cause IS NOT NULL;
CREATE INDEX devices_with_existing  ON devices (seq)            WHERE existing IS NOT NULL;
CREATE TABLE orphans (           -- one row for each certificate that this run caused and no device uses
    position        INTEGER PRIMARY KEY,  -- in the order they were found
    certificate_id  TEXT NOT NULL UNIQUE,
    certificate_arn TEXT,
    seq             INTEGER,     -- the device it was made for
    name            TEXT,
    why             TEXT,
    found           TEXT,
    removed         TEXT         -- NULL while it exists
);
CREATE VIEW progress AS          -- how many devices have each verdict
    SELECT verdict, count(*) AS devices FROM devices GROUP BY verdict;
CREATE VIEW failures AS          -- what is wrong with each device that is not provisioned, and not on its way either
    SELECT seq, name, verdict, cause, message, source, attempts, part, line, task_id, updated
    FROM devices WHERE verdict IN ('no-key', 'failed', 'unknown') ORDER BY seq;
CREATE VIEW certificates AS      -- what each provisioned device got
    SELECT seq, name, certificate_id, certificate_arn, thing_arn, policies, updated
    FROM devices WHERE verdict = 'provisioned' ORDER BY seq;
CREATE VIEW tasks AS             -- the registration tasks, with the devices as they stand now beside what AWS counted
    SELECT p.number AS part, p.attempt, p.state, p.task_id, p.status, p.lines, p.succeeded, p.failed,
        (SELECT count(*) FROM devices d WHERE d.part = p.number) AS devices_now,
        (SELECT count(*) FROM devices d WHERE d.part = p.number AND d.verdict = 'provisioned') AS provisioned_now,
        p.message, p.started, p.ended,
        round((julianday(p.ended) - julianday(p.started)) * 86400, 3) AS seconds,
        round(p.credentials_took_ns / 1e9, 3) AS credentials_seconds
    FROM parts p WHERE p.task_id IS NOT NULL OR p.state = 'starting' ORDER BY p.number;
INSERT INTO devices VALUES (1, 'device-1', 'provisioned', NULL, 1, NULL, NULL, '2027-01-15T08:00:01.000000001Z', NULL, 'certificate-1-1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1certificate-1-1', 0, NULL, NULL);
INSERT INTO devices VALUES (2, 'device-2', 'provisioned', NULL, 2, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, 'certificate-2-2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2certificate-2-2', 0, NULL, NULL);
INSERT INTO devices VALUES (3, 'device-3', 'provisioned', NULL, 1, NULL, NULL, '2027-01-15T08:00:01.000000001Z', NULL, 'certificate-3-1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1certificate-3-1', 0, NULL, NULL);
INSERT INTO devices VALUES (4, 'device-4', 'provisioned', NULL, 1, NULL, NULL, '2027-01-15T08:00:01.000000001Z', NULL, 'certificate-4-1', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1certificate-4-1', 0, NULL, NULL);
INSERT INTO devices VALUES (5, 'device-5', 'provisioned', NULL, 2, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, 'certificate-5-2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2certificate-5-2', 0, NULL, NULL);
INSERT INTO devices VALUES (6, 'device-6', 'provisioned', NULL, 3, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, 'certificate-6-3', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3certificate-6-3', 0, NULL, NULL);
INSERT INTO devices VALUES (7, 'device-7', 'provisioned', NULL, 3, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, 'certificate-7-3', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3certificate-7-3', 0, NULL, NULL);
INSERT INTO devices VALUES (8, 'device-8', 'provisioned', NULL, 3, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, 'certificate-8-3', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3certificate-8-3', 0, NULL, NULL);
INSERT INTO devices VALUES (9, 'device-9', 'provisioned', NULL, 2, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, 'certificate-9-2', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2certificate-9-2', 0, NULL, NULL);
INSERT INTO devices VALUES (10, 'device-10', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:01.000000001Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (11, 'device-11', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (12, 'device-12', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212121212"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (13, 'device-13', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313131313"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (14, 'device-14', 'provisioned', NULL, 3, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, 'certificate-14-3', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3certificate-14-3', 0, NULL, NULL);
INSERT INTO devices VALUES (15, 'device-15', 'provisioned', NULL, 3, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, 'certificate-15-3', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3certificate-15-3', 0, NULL, NULL);
INSERT INTO devices VALUES (16, 'device-16', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616161616"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (17, 'device-17', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717171717"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (18, 'device-18', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818181818"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (19, 'device-19', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919191919"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO devices VALUES (20, 'device-20', 'waiting', NULL, 0, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"SerialNumber":"202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020"}', NULL, NULL, 0, NULL, NULL);
INSERT INTO orphans VALUES (1, 'orphan-0', NULL, 4, NULL, '3', NULL, NULL);
INSERT INTO orphans VALUES (2, 'orphan-1', NULL, 2, NULL, NULL, '2027-01-15T08:00:01.000000001Z', NULL);
INSERT INTO orphans VALUES (3, 'orphan-2', NULL, 3, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL);
INSERT INTO orphans VALUES (4, 'orphan-3', NULL, 4, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL);
INSERT INTO parts VALUES (1, 1, 'started', 0, 5, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, '2027-01-15T08:00:00.000000000Z', NULL, NULL, 0, NULL, NULL);
INSERT INTO parts VALUES (2, 1, 'started', 0, 5, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, '2027-01-15T08:00:01.000000001Z', NULL, NULL, 0, NULL, NULL);
INSERT INTO parts VALUES (3, 1, 'started', 0, 5, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, '2027-01-15T08:00:02.000000002Z', NULL, NULL, 0, NULL, NULL);
INSERT INTO parts VALUES (4, 1, 'started', 0, 5, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, '2027-01-15T08:00:03.000000003Z', NULL, NULL, 0, NULL, NULL);
INSERT INTO runs VALUES ('run', '2027-01-15T08:00:00.000000000Z', NULL, NULL, NULL, 0, NULL, NULL, 0, 20, 0, 0, NULL, NULL, NULL, NULL);
