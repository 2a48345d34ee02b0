// Package ledgertest checks that a [provision.Ledger] keeps what the interface promises: one named case for each sentence
// of the doc comments of Ledger and Change. Whoever writes a ledger of their own, on another database, runs it in their
// tests:
//
//	func TestLedger(t *testing.T) {
//		ledgertest.Run(t, func(t *testing.T) ledgertest.Harness {
//			return ledgertest.Harness{
//				Open:   func(ctx context.Context) (provision.Ledger, error) { return mydb.Open(ctx, newFile(t)) },
//				Reopen: reopen, // closes a ledger and opens it again; leave it out if it keeps nothing
//			}
//		})
//	}
//
// [Cases] and [Case.Check] do the same without a *testing.T.
//
// The state that a ledger keeps is that of registration tasks, which AWS describes here:
// https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html.
package ledgertest
