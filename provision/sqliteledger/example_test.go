package sqliteledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
)

// A ledger that is opened again holds what it held: that is how a run goes on.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "fleet.db")

	ledger, err := sqliteledger.Open(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	err = ledger.Apply(ctx, provision.Change{
		Run: &provision.RunRecord{ID: "run-1", Total: 2},
		Add: []*provision.DeviceRecord{
			{Result: provision.Result{Seq: 1, Name: "device-one", Verdict: provision.Waiting}},
			{Result: provision.Result{Seq: 2, Name: "device-two", Verdict: provision.Failed, Cause: provision.CauseCSRRefused}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := ledger.Close(); err != nil {
		log.Fatal(err)
	}

	ledger, err = sqliteledger.Open(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ledger.Close()
	run, err := ledger.Run(ctx)
	if err != nil {
		log.Fatal(err)
	}
	counts, err := ledger.Counts(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(run.ID, "has", counts.Total(), "devices,", counts.Verdicts[provision.Waiting], "of them waiting")
	// Output: run-1 has 2 devices, 1 of them waiting
}

// One process writes at a time. Another one is told who that is.
func ExampleOpen_inUse() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "fleet.db")
	first, err := sqliteledger.Open(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()

	_, err = sqliteledger.Open(ctx, path, nil)
	if inUse, ok := errors.AsType[*sqliteledger.InUseError](err); ok {
		fmt.Println("in use by this very process:", inUse.Holder.PID == os.Getpid())
	}
	// Output: in use by this very process: true
}

// Anybody may read meanwhile, with this package or with any SQLite tool.
func ExampleOpenReadOnly() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "fleet.db")
	writer, err := sqliteledger.Open(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer writer.Close()
	err = writer.Apply(ctx, provision.Change{Add: []*provision.DeviceRecord{
		{Result: provision.Result{Seq: 1, Name: "device-one", Verdict: provision.Provisioned}},
		{Result: provision.Result{Seq: 2, Name: "device-two", Verdict: provision.Failed, Message: "Rate exceeded"}},
	}})
	if err != nil {
		log.Fatal(err)
	}

	reader, err := sqliteledger.OpenReadOnly(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	for d, err := range reader.Devices(ctx, provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Failed}}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Name, d.Message)
	}

	db, err := sql.Open("sqlite", path) // or: sqlite3 fleet.db "SELECT * FROM progress"
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	var devices int
	if err := db.QueryRowContext(ctx, "SELECT devices FROM progress WHERE verdict = 'provisioned'").Scan(&devices); err != nil {
		log.Fatal(err)
	}
	fmt.Println(devices, "provisioned")
	// Output:
	// device-two Rate exceeded
	// 1 provisioned
}
