-- Version 1 of the keys. The package's documentation explains the columns.

CREATE TABLE keys (              -- one row for each device
    position          INTEGER PRIMARY KEY,
    device            TEXT NOT NULL UNIQUE,
    private_key_pem   TEXT,
    csr_pem           TEXT,
    certificate_pem   TEXT,      -- in place of csr_pem
    public_key_sha256 TEXT NOT NULL,
    checksum          TEXT,      -- of private_key_pem and public_key_sha256, which belong together
    run               TEXT NOT NULL,
    created           TEXT NOT NULL,
    CHECK ((csr_pem IS NULL) <> (certificate_pem IS NULL))
);
