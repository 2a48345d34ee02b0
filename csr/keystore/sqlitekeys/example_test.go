package sqlitekeys_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/sqlitekeys"
)

// Keys of a fleet in one file, and then in a folder for each device, for openssl and people.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	keys, err := sqlitekeys.Open(ctx, filepath.Join(dir, "keys.db"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer keys.Close()
	var g csr.Generator
	for i := range 1000 {
		name := fmt.Sprintf("device-%04d", i)
		result := g.One(ctx, csr.Device{Name: name})
		if result.Err != nil {
			log.Fatal(result.Err)
		}
		if err := keys.Put(ctx, keystore.Record{Device: name, Key: result.Key, Request: result.Request}); err != nil {
			log.Fatal(err)
		}
	}
	if err := keys.Sync(ctx); err != nil { // one transaction; only now may the requests leave
		log.Fatal(err)
	}
	record, err := keys.Get(ctx, "device-0007")
	fmt.Println(record.Request.Subject(), record.Key, err)

	folder, err := keystore.OpenFolder(filepath.Join(dir, "devices"), nil)
	if err != nil {
		log.Fatal(err)
	}
	n, err := keystore.Copy(ctx, folder, keys)
	fmt.Println(n, err)
	files, err := filepath.Glob(filepath.Join(dir, "devices", "device-0007", "*"))
	if err != nil {
		log.Fatal(err)
	}
	for _, file := range files {
		rel, _ := filepath.Rel(dir, file)
		fmt.Println(filepath.ToSlash(rel))
	}
	// Output:
	// CN=device-0007 [private key] <nil>
	// 1000 <nil>
	// devices/device-0007/private-key.pem
	// devices/device-0007/request.pem
}
