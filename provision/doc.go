// Package provision does the whole job: it turns a list of devices into registered things with working certificates.
//
//	run, err := provision.New(provision.Options{
//		Backend:    backend,                // awsbackend.New(…), or fakebackend.New(…) in tests
//		Template:   template.Walkthrough(), // what to make of each device; this one is for trials
//		RoleARN:    role,
//		Credential: &provision.MakeCSR{Store: keys}, // a key and a CSR each, kept in a folder
//		Output:     provision.Folder(keys),          // certificate.pem, thing.json and root-ca.pem beside the key
//	})
//	…
//	summary, err := run.Run(ctx, provision.Rows(
//		map[string]string{"ThingName": "device-one", "SerialNumber": "001"},
//		map[string]string{"ThingName": "device-two", "SerialNumber": "002"},
//	))
//
// Run returns nil only if every device is provisioned: its thing exists and its certificate carries the public key that
// belongs to the private key in the store. Otherwise the error is an [*IncompleteError] with the counts, and
// [Run.Results] yields every device with its verdict.
//
// # The way of a device
//
// Records are spooled into a [Ledger] first: bad rows and duplicates are found before anything is sent. Then the fleet
// is cut into parts. The account is asked for the names of each part: a device whose thing has a certificate already
// gets no second one unless [Options.Existing] allows it. For each part the [Credential] step makes what the lines
// need, durably; the part file is written and uploaded; a registration task is started and awaited; both its reports
// are read, and results are matched to devices by public key, never by position. The next part is made while a part
// registers. Last, the [Output] takes over what the device's firmware needs; [Run.Deliver] hands it over again, to the
// same place or another.
//
// # Errors
//
// What is wrong with one device is in its [Result], and costs no other device anything. What stops the run is returned
// by Run; what was done until then stands in the ledger.
//
// Lines that AWS refused because of its rates are sent again by Run itself, up to five times with growing pauses. What
// else can pass unchanged, such as a thing type that was missing, is sent again by [Run.Retry]; records that have to be
// corrected go through [Run.WriteFailures] and [Run.Amend].
//
// # Interruptions
//
// With a ledger that lasts (package sqliteledger), a PartDir and a key store on disk, a run that was interrupted goes
// on when a new process calls Run with the same options and the same devices. Where the answer to a start was lost, it
// first looks for the task, for as long as [Options.SettleWindow], and reports that with an [EventStartLost].
//
// # In tests
//
// On a fakebackend.Backend inside a testing/synctest bubble, waits take no time, and what goes wrong is chosen
// beforehand:
//
//	synctest.Test(t, func(t *testing.T) {
//		fake, err := fakebackend.New(fakebackend.Options{Rate: 15})
//		_, err = fake.AddFault(fakebackend.Fault{
//			Operation: "StartThingRegistrationTask", Do: fakebackend.Throttle, Times: 2,
//		})
//		_, err = fake.AddFault(fakebackend.Fault{Line: 2, Do: fakebackend.Fail, Code: "InvalidRequestException"})
//		err = provisionAll(t.Context(), fake, "testdata/devices.csv") // the program's own
//		require.ErrorIs(t, err, provision.ErrIncomplete)
//		_, ok := fake.Thing("device-one")
//		require.True(t, ok)
//	})
//
// The walkthrough that this package follows:
// https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
package provision
