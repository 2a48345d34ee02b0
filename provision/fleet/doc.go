// Package fleet provisions one list of devices on several backends at once: accounts or regions.
//
//	f, err := fleet.New(fleet.Options{
//		Route: fleet.ByColumn("Region"), // the value of each row that names its site
//		Sites: map[string]provision.Options{
//			"eu": {Backend: europe, Template: t, RoleARN: roleEU, Credential: keys, Output: out},
//			"us": {Backend: america, Template: t, RoleARN: roleUS, Credential: keys, Output: out},
//		},
//	})
//	…
//	summary, err := f.Run(ctx, provision.FromCSV(file, "devices.csv", nil))
//
// AWS runs one registration task for each account and region, at the rate of its control plane, so a large fleet takes
// as long as its largest site. Which device belongs where is decided by the row or by a function of the user's, never
// by this package: a device connects to the endpoint of its region, so it can't be moved for the sake of speed.
//
// # Sites
//
// Each site is a run of package provision with a ledger of its own. The input is read once; what a site has not taken
// yet waits in a temporary file, so a slow or failing site holds neither the input nor the other sites. Memory is that
// of the sites' runs, up to 2,000 rows for each site, and at most 64 bytes for each device's name: twice that when the
// ledgers hold devices already, and once more for each public key that was given with its device.
//
// # Devices that no site takes
//
// A record that can't be read, that has no route, whose route names no site, or whose thing name a device of another
// site has, is Failed by the fleet itself and costs no other record anything. Its verdict is in the fleet's own ledger
// ([Options.Ledger]), in the results with an empty site, and in the counts, so that they add up to the input. It was
// never sent: once it is mended, give it to a fleet of its own. What failed at a site is mended there, as in any run:
// make a [provision.Run] over the site's options and call its WriteFailures and Amend.
//
// # No device in two places
//
// A thing name belongs to one site: the first in the input that has it. When a run goes on, the ledgers are read first,
// and a device that is routed to another site than before ends the call with [provision.ErrInputChanged], before any
// site has sent anything. Public keys that come with the devices belong to one site as well. Two sites can't have the
// same account and region, unless Options.TakeTurns is set, so that they work there in turn.
//
// The limit of one task, and the rates: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
package fleet
