// Package sqliteledger is a [provision.Ledger] in an SQLite file, so that a run goes on after a crash, a reboot or a
// power cut, and so that anybody can ask fleet.db what happened.
//
//	ledger, err := sqliteledger.Open(ctx, "fleet.db", nil)
//	if err != nil {
//		return err // who else writes to it, or what is wrong with the file
//	}
//	defer ledger.Close()
//	run, err := provision.New(provision.Options{Ledger: ledger, …})
//
// The file holds the run, its parts and tasks, its devices with their verdicts and certificates, and orphans; it never
// holds a private key or a report link. It is created with mode 0600. docs/ledger.md in this module explains the
// tables, with queries to start from.
//
// # Safety
//
// Every change is one transaction in SQLite's write-ahead log (WAL) with synchronous=FULL: what Apply has returned nil
// for is on the disk, and a crash before leaves all of a change or nothing. One process writes at a time; the lock is
// the system's own and ends with the process. Others read meanwhile: [OpenReadOnly], or sqlite3 on the command line.
//
// Keep the file on a local disk: SQLite's write-ahead log does not work over a network file system. Beside fleet.db are
// fleet.db-wal and fleet.db-shm, which belong to it, and fleet.db.lock. To copy a ledger that is in use, run
// sqlite3 fleet.db ".backup copy.db". The process that writes must not open any of these files by other means: on Unix,
// closing a file drops all of the process's locks on it.
//
// A ledger takes about 2 KB of disk for each device with a certificate, and about 40 MB of memory for a million
// devices.
//
// SQLite is https://sqlite.org, in pure Go: https://pkg.go.dev/modernc.org/sqlite. The registration tasks whose
// progress the ledger records: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html.
package sqliteledger
