package ledgertest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/ledgertest"
)

// In a test, call ledgertest.Run. Anywhere else, a ledger is tried case by case.
func ExampleCase_Check() {
	ledger := ledgertest.Harness{Open: func(context.Context) (provision.Ledger, error) { return provision.NewMemoryLedger(), nil }}
	tried, failed := 0, 0
	for _, c := range ledgertest.Cases() {
		if c.Durable {
			continue // the memory ledger keeps nothing
		}
		tried++
		if err := c.Check(context.Background(), ledger); err != nil {
			failed++
			fmt.Println(err)
		}
	}
	fmt.Println("some cases were tried:", tried > 0, "and failed:", failed)
	// Output: some cases were tried: true and failed: 0
}

// forgetful loses every orphan that it is given.
type forgetful struct{ provision.Ledger }

func (f forgetful) Apply(ctx context.Context, c provision.Change) error {
	c.Orphans = nil
	return f.Ledger.Apply(ctx, c)
}

// A case that fails says what was seen and which rule it is about.
func ExampleCase_Check_failing() {
	ledger := ledgertest.Harness{Open: func(context.Context) (provision.Ledger, error) {
		return forgetful{provision.NewMemoryLedger()}, nil
	}}
	var errs []error
	for _, c := range ledgertest.Cases() {
		if c.Name == "record/orphan" {
			errs = append(errs, c.Check(context.Background(), ledger))
		}
	}
	fmt.Println(errors.Join(errs...))
	// Output:
	// record/orphan: orphans: want 9 items, got 0
	// The rule: Change.Orphans creates or replaces orphans by CertificateID, every field of them.
}
