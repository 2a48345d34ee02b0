// Package fakebackend is an AWS account in memory: it registers devices in bulk as AWS IoT does, so that a factory tool
// and its tests run with no account, no network and no waiting.
//
//	fake, err := fakebackend.New(fakebackend.Options{Rate: 15}) // lines a second
//	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
//	object, err := fake.Upload(ctx, dataFile) // a *task.UploadInput
//	started, err := task.Start(ctx, fake, &task.StartInput{
//		TemplateBody: template, InputFileBucket: object.Bucket, InputFileKey: object.Key, RoleARN: role,
//	})
//	fake.Advance(time.Minute) // or let time pass, or run inside a synctest bubble
//	description, err := started.Wait(ctx, nil)
//	device, ok := fake.Thing("device-one")
//
// A [Backend] is a [task.Backend] with every ability of package task. Everything else that AWS offers is called as it
// is called in AWS, through an SDK: iot.NewFromConfig(fakeaws.Config(fake)).CreateThingType(…) makes a thing type, in
// process. docs/coverage.md lists the operations.
//
// Certificates are real ones: signed for the key of the CSR, with its subject, by a CA whose certificate [Backend.CA]
// returns. No device and no AWS endpoint trusts that CA, and by default its name tells that it is a fake.
//
// # Devices
//
// Package fakegateway has devices connect to the account over MQTT and HTTPS, with the certificates that were registered
// here and as far as the policies allow. They trust [Backend.RootCA]. A certificate of a registered CA can be registered
// or provisioned at its first connection. [Backend.Events] tells what happens, and why a device was refused.
//
// # Time
//
// A task's progress is a pure function of its start, the clock, its lines, [Options.Rate] and the faults; nothing runs
// in the background. The clock is the machine's (or a synctest bubble's) until [Backend.SetTime] freezes it;
// [Backend.Advance] moves it. With Rate 0, a task's lines are done when anybody next looks.
//
// # Faults
//
// Nothing fails by chance. [Backend.AddFault] sets which request or line goes wrong, how, and how often, and
// [Backend.FaultHits] tells how often it did.
//
// # Beyond the process
//
// The account ends with the process, and a run in another process finds none of its tasks. [Backend.Snapshot] and
// [Backend.Restore] take it along; or keep it in a process of its own, as examples/fakeaws does over HTTP.
//
// # Fidelity
//
// What is documented, what was observed and what is guessed stands in docs/fidelity.md. A guess that a client could
// come to depend on is a field of [Options], so that the client can be tested against the other answer too. Package
// fakeaws serves the same account over HTTP, in AWS's own wire protocols.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
package fakebackend
