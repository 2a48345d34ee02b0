// Package task runs bulk registration tasks: one data file, one provisioning template, a certificate for every line.
//
// A program holds a [Task]; a cloud implements the small [Backend] below it. The same program therefore runs on AWS,
// on the fake, and on whatever else passes package tasktest.
//
//	t, err := task.Start(ctx, backend, &task.StartInput{
//		TemplateBody: body, InputFileBucket: bucket, InputFileKey: key, RoleARN: role,
//	})
//	…
//	if _, err := t.Wait(ctx, nil); err != nil { // also when the service failed or cancelled the task
//		return err
//	}
//	for r, err := range t.Results(ctx) { // every page, every file, every line
//		if err != nil {
//			return err // the report could not be read to its end
//		}
//		if r.Malformed != nil {
//			bad = append(bad, r.Malformed) // this line alone could not be read; its device has a certificate all the same
//			continue
//		}
//		fmt.Println(r.ARNs.Thing(), r.CertificatePEM)
//	}
//
// A task that refused lines, even all of them, still ends as [Completed]: look at [Description].Failed and read
// [Task.Errors]. Match results to devices by the public key of the certificate, never by order.
//
// # Errors
//
// Every error names the task and what was being done to it, and wraps what the backend returned. Match the cause with
// errors.Is against the Err values of this package, and reach the service's own words with
// errors.AsType[*task.Error](err). After a failed [Start], [Refused] reports whether it is certain that no task was
// started.
//
// # Abilities
//
// What not every backend can do is an interface of its own, found with [As] also through backends that wrap others:
// [Identifier], [Notifier], [Endpointer], [RootLister], [Registrar], [DeviceReader], [ThingFinder], [CertificateLister],
// [PolicyReader], [Remover], [BucketEnsurer], [RoleEnsurer], [CAEnsurer], [ResourceEnsurer] and
// [Preflighter].
//
// # Iterators
//
// An item's own fault is in the item and reading goes on; the second value of an iterator ends it, comes at most
// once, and comes last. The end of the context is such an error. Breaking out of a loop closes what was open; nothing
// here starts a goroutine. Each range over the same iterator of a Task reads anew; those of [ReadResults] and
// [ReadErrors] read their reader once.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
package task
