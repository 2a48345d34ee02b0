package sqliteledger_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// A run that was interrupted goes on when its ledger is opened again. The keys and the part files have to be there, too.
func Example() {
	dir, err := os.MkdirTemp("", "run")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	fake, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		log.Fatal(err)
	}
	role, err := fake.EnsureRole(context.Background(), &task.RoleInput{Name: "registration"})
	if err != nil {
		log.Fatal(err)
	}
	keys, err := keystore.OpenFolder(filepath.Join(dir, "devices"), nil)
	if err != nil {
		log.Fatal(err)
	}
	devices := provision.Rows(
		map[string]string{"ThingName": "device-one", "SerialNumber": "001"},
		map[string]string{"ThingName": "device-two", "SerialNumber": "002"},
	)
	// What a factory tool does each time it is called.
	tool := func(ctx context.Context, observe func(provision.Event)) error {
		ledger, err := sqliteledger.Open(ctx, filepath.Join(dir, "fleet.db"), nil)
		if err != nil {
			return err
		}
		defer ledger.Close()
		run, err := provision.New(provision.Options{
			Backend: fake, Template: template.Walkthrough(), RoleARN: role,
			Credential: &provision.MakeCSR{Store: keys}, Output: provision.Folder(keys),
			Ledger: ledger, PartDir: filepath.Join(dir, "parts"), Observe: observe,
		})
		if err != nil {
			return err
		}
		summary, err := run.Run(ctx, devices)
		if summary != nil {
			fmt.Println(summary)
		}
		return err
	}

	ctx, cancel := context.WithCancel(context.Background())
	err = tool(ctx, func(e provision.Event) {
		if _, ok := e.(provision.EventTaskStarted); ok {
			cancel() // Ctrl-C
		}
	})
	fmt.Println("interrupted:", errors.Is(err, context.Canceled))
	fmt.Println(tool(context.Background(), func(e provision.Event) {
		if e, ok := e.(provision.EventSpooled); ok {
			fmt.Println("goes on:", e.Resumed)
		}
	}))
	// Output:
	// interrupted: true
	// goes on: true
	// 2 of 2 devices provisioned
	// <nil>
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
