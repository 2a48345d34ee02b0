package sqliteledger

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/ledgertest"
)

func TestTheSQLiteLedgerKeepsEveryPromise(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
		dir, n := t.TempDir(), 0
		return ledgertest.Harness{
			Open: func(ctx context.Context) (provision.Ledger, error) {
				n++
				return Open(ctx, filepath.Join(dir, fmt.Sprintf("%d.db", n)), nil)
			},
			Reopen: func(ctx context.Context, l provision.Ledger) (provision.Ledger, error) {
				if err := l.Close(); err != nil {
					return nil, err
				}
				return Open(ctx, l.(*Ledger).Path(), nil)
			},
		}
	})
}
