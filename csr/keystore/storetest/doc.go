// Package storetest checks that a [keystore.Store] keeps what the interface promises: one named case for each rule.
// Whoever writes a store of their own, for a vault or for hardware, runs it in their tests:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Harness {
//			return storetest.Harness{
//				Open:   func(ctx context.Context) (keystore.Store, error) { return vault.Open(ctx, newFolder(t)) },
//				Reopen: reopen, // ends a store as a crash does and opens it again; leave it out if it keeps nothing
//			}
//		})
//	}
//
// [Cases] and [Case.Check] do the same without a *testing.T. The cases put records with P-256 keys in software, and with
// Harness.NoKeys records without a key, for stores that take no other.
//
// AWS IoT never has the private key of a request and can't return it, so what a store loses is lost:
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html.
package storetest
