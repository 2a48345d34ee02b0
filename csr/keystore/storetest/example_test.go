package storetest_test

import (
	"context"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/csr/keystore/storetest"
)

// trusting vouches for every key.
type trusting struct{ keystore.Store }

func (trusting) Verify(ctx context.Context, _ string, _ [32]byte) error { return ctx.Err() }

// In a test, call storetest.Run. Anywhere else, a store is tried case by case. One that fails says what was seen, and which
// rule it is about.
func ExampleCase_Check() {
	store := storetest.Harness{Open: func(context.Context) (keystore.Store, error) { return trusting{keystore.Memory()}, nil }}
	for _, c := range storetest.Cases() {
		if c.Durable {
			continue // what is in memory ends with the process
		}
		if err := c.Check(context.Background(), store); err != nil && c.Name == "verify/missing" {
			fmt.Println(err)
		}
	}
	// Output:
	// verify/missing: Verify in an empty store: want an error that wraps "no record", got <nil>
	// The rule: Verify is an ErrNotFound where there is no record: no device counts as provisioned whose key is gone.
}
