package keystore_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()

	keys, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	var g csr.Generator
	for _, name := range []string{"device-one", "Device:Two"} {
		result := g.One(ctx, csr.Device{Name: name})
		if result.Err != nil {
			log.Fatal(result.Err)
		}
		if err := keys.Put(ctx, keystore.Record{Device: name, Key: result.Key, Request: result.Request}); err != nil {
			log.Fatal(err)
		}
	}
	if err := keys.Sync(ctx); err != nil { // only now may the requests leave
		log.Fatal(err)
	}

	files, err := filepath.Glob(filepath.Join(dir, "*", "*"))
	if err != nil {
		log.Fatal(err)
	}
	for _, file := range files {
		rel, _ := filepath.Rel(dir, file)
		fmt.Println(filepath.ToSlash(rel))
	}
	record, err := keys.Get(ctx, "Device:Two")
	fmt.Println(record.Request.Subject(), record.Key, err)
	// Output:
	// device+two@12/private-key.pem
	// device+two@12/request.pem
	// device-one/private-key.pem
	// device-one/request.pem
	// CN=Device:Two [private key] <nil>
}

func ExampleFolder_Get() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "keys")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		log.Fatal(err)
	}

	// A run that may be a resumed one asks first, and makes a key only where there is none.
	for range 2 {
		_, err := keys.Get(ctx, "device-one")
		switch {
		case err == nil:
			fmt.Println("has its key")
		case errors.Is(err, keystore.ErrNotFound):
			fmt.Println("gets a key")
			result := new(csr.Generator).One(ctx, csr.Device{Name: "device-one"})
			if err := keys.Put(ctx, keystore.Record{Device: "device-one", Key: result.Key, Request: result.Request}); err != nil {
				log.Fatal(err)
			}
		default:
			log.Fatal(err)
		}
	}
	// Output:
	// gets a key
	// has its key
}

func ExampleFileName() {
	for _, device := range []string{"device-one", "Dev", "dev", "a:b", "NUL", "SN001"} {
		fmt.Println(device, keystore.FileName(device))
	}
	// Output:
	// device-one device-one
	// Dev dev@1
	// dev dev
	// a:b a+b
	// NUL =4eul@3
	// SN001 sn001@3
}

func ExampleNone() {
	// The key was made on the device; here is only its request.
	result := new(csr.Generator).One(context.Background(), csr.Device{Name: "device-one"})
	fmt.Println(keystore.None().Put(context.Background(), keystore.Record{Device: "device-one", Request: result.Request}))
	// A key in this process would be lost.
	fmt.Println(keystore.None().Put(context.Background(), keystore.Record{Device: "device-one", Key: result.Key, Request: result.Request}))
	// Output:
	// <nil>
	// device "device-one": private key would be lost: its key was made in this process and this store keeps nothing; use a Folder, or package sqlitekeys
}

func ExampleMemory() {
	ctx := context.Background()
	keys := keystore.Memory() // in a test, in place of a Folder
	result := new(csr.Generator).One(ctx, csr.Device{Name: "device-one"})
	if err := keys.Put(ctx, keystore.Record{Device: "device-one", Key: result.Key, Request: result.Request}); err != nil {
		log.Fatal(err)
	}
	record, err := keys.Get(ctx, "device-one")
	fmt.Println(record.Request.Matches(record.Key.Public()), err)
	_, err = keys.Get(ctx, "device-two")
	fmt.Println(err)
	// Output:
	// true <nil>
	// device "device-two": no record in memory
}
