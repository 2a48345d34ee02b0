// Package keystore is where device keys rest between being made and being shipped.
//
// A lost key is a dead device, so a record (key and request together, or key and certificate) is on disk before its request
// or certificate leaves the process:
// [Store.Put] takes records in, and when [Store.Sync] returns nil everything put before is durable. A record is there
// whole or not at all, also after a crash or a power cut, and is never replaced.
//
//	keys, err := keystore.OpenFolder("fleet-out", nil)
//	if err != nil {
//		return err
//	}
//	for result, err := range generator.All(ctx, devices) {
//		…
//		record := keystore.Record{Device: result.Device.Name, Key: result.Key, Request: result.Request}
//		if err := keys.Put(ctx, record); err != nil {
//			return err
//		}
//	}
//	if err := keys.Sync(ctx); err != nil {
//		return err
//	}
//	// Only now may the requests go to AWS.
//
// [Folder] keeps a folder for each device, which openssl and people can read. Package sqlitekeys keeps all records in
// one SQLite file, for large fleets; [Copy] writes folders from it. [None] is for keys that rest in hardware or
// elsewhere, and [Memory] for tests.
//
// AWS IoT never has the private key of a request and cannot return it:
// https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html
package keystore
