package ledgertest_test

import (
	"context"
	"testing"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/ledgertest"
)

func memory(context.Context) (provision.Ledger, error) { return provision.NewMemoryLedger(), nil }

func TestTheMemoryLedgerKeepsEveryPromise(t *testing.T) {
	ledgertest.Run(t, func(*testing.T) ledgertest.Harness { return ledgertest.Harness{Open: memory} })
}
