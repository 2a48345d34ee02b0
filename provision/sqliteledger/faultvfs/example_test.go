package faultvfs_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger/faultvfs"
)

// The process dies when a change is about to be made durable. What was there before is there afterwards.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "ledger")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "fleet.db")

	armed := false
	disk, err := faultvfs.New(func(op faultvfs.Op) faultvfs.Fault {
		if armed && op.Kind == faultvfs.Sync {
			return faultvfs.Stop
		}
		return faultvfs.None
	})
	if err != nil {
		log.Fatal(err)
	}
	defer disk.Close()
	ledger, err := sqliteledger.Open(ctx, path, &sqliteledger.Options{VFS: disk.Name()})
	if err != nil {
		log.Fatal(err)
	}
	part := func(n int) provision.Change { return provision.Change{Part: &provision.PartRecord{Number: n}} }
	fmt.Println("part 1 failed:", ledger.Apply(ctx, part(1)) != nil)
	armed = true
	fmt.Println("part 2 failed:", ledger.Apply(ctx, part(2)) != nil)
	_ = ledger.Close() // gives the lock back, as the end of the process would

	ledger, err = sqliteledger.Open(ctx, path, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer ledger.Close()
	parts, err := ledger.Parts(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("part 1 is there:", len(parts) > 0 && parts[0].Number == 1)
	// Output:
	// part 1 failed: false
	// part 2 failed: true
	// part 1 is there: true
}
