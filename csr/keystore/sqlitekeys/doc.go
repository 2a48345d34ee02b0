// Package sqlitekeys is a [keystore.Store] in an SQLite file, for fleets too large for a folder each: one database
// holds all keys, and a Sync is one transaction, whatever the number of devices.
//
//	keys, err := sqlitekeys.Open(ctx, "keys.db", nil)
//	if err != nil {
//		return err // who else writes to it, or what is wrong with the file
//	}
//	defer keys.Close()
//	run, err := provision.New(provision.Options{Credential: &provision.MakeCSR{Store: keys}, …})
//	…
//	folder, err := keystore.OpenFolder("devices", nil)
//	…
//	n, err := keystore.Copy(ctx, folder, keys) // a folder for each device, for openssl and people
//
// The file has mode 0600, and its keys are not encrypted: whoever can read it has them. Anybody who may can look into
// it:
//
//	sqlite3 -readonly keys.db "SELECT private_key_pem FROM keys WHERE device = 'device-one'"
//
// The table keys has the columns
//
//	position           the order the records were put in, from 1
//	device             the device's name
//	private_key_pem    PKCS #8 in PEM; NULL when the key is kept elsewhere, in hardware for instance
//	csr_pem            the certificate signing request; NULL when there is a certificate in its place
//	certificate_pem    the certificate that a CA of the user's own issued; NULL when there is a request
//	public_key_sha256  SHA-256 of the SubjectPublicKeyInfo, hexadecimal: what ties a certificate to its key
//	checksum           SHA-256 of private_key_pem and public_key_sha256, hexadecimal: they are what Put has checked; NULL without a key
//	run                the id of the run that the key was made for; empty if no run made it
//	created            when it was put, in UTC, such as 2026-11-23T08:15:00.000000000Z
//
// # Safety
//
// Sync is a transaction in SQLite's write-ahead log with synchronous=FULL: what it has returned nil for is on the disk.
// A crash before leaves all of a group or nothing. One process writes at a time; the lock is the system's own and ends
// with the process. Others read meanwhile: [OpenReadOnly], or sqlite3.
//
// Keep the file on a local disk. Beside keys.db are keys.db-wal and keys.db-shm, which belong to it, and keys.db.lock.
// To copy keys that are in use, run sqlite3 keys.db ".backup copy.db" under umask 077. The process that writes must not
// open any of these files by other means: on Unix, closing a file drops all of the process's locks on it.
//
// SQLite is https://sqlite.org, in pure Go: https://pkg.go.dev/modernc.org/sqlite. AWS IoT never has the private key of
// a request and cannot return it:
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html.
package sqlitekeys
