package keystore_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

func ExampleOpenArchive() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	keys, err := keystore.OpenArchive(filepath.Join(dir, "fleet.keys"), nil)
	if err != nil {
		log.Fatal(err)
	}
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
	if err := keys.Sync(ctx); err != nil { // one sync of one file; only now may the requests leave
		log.Fatal(err)
	}
	record, err := keys.Get(ctx, "device-0007")
	fmt.Println(record.Request.Subject(), record.Key, err)
	if err := keys.Close(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// CN=device-0007 [private key] <nil>
}

func ExampleArchive_Export() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys, err := keystore.OpenArchive(filepath.Join(dir, "fleet.keys"), nil)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = keys.Close() }()
	for _, name := range []string{"device-one", "device-two"} {
		result := new(csr.Generator).One(ctx, csr.Device{Name: name})
		if err := keys.Put(ctx, keystore.Record{Device: name, Key: result.Key, Request: result.Request}); err != nil {
			log.Fatal(err)
		}
	}

	// Files that openssl and people can read, as a Folder has them.
	n, err := keys.Export(ctx, filepath.Join(dir, "devices"))
	fmt.Println(n, err)
	files, err := filepath.Glob(filepath.Join(dir, "devices", "*", "*"))
	if err != nil {
		log.Fatal(err)
	}
	for _, file := range files {
		rel, _ := filepath.Rel(dir, file)
		fmt.Println(filepath.ToSlash(rel))
	}
	// Output:
	// 2 <nil>
	// devices/device-one/private-key.pem
	// devices/device-one/request.pem
	// devices/device-two/private-key.pem
	// devices/device-two/request.pem
}
