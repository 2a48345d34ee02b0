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
//	report, err := f.Check(ctx, provision.FromCSV(file, "devices.csv", nil))  // a dry run at every site
//	summary, err := f.Run(ctx, provision.FromCSV(file, "devices.csv", nil))
//	err = f.WriteFailures(ctx, failures)                                      // to be mended
//	summary, err = f.Amend(ctx, provision.FromCSV(mended, "failures.csv", nil))
//	result, err := f.Register(ctx, lateDevice)                                // at the site that it names
//	orphans, err := f.FindOrphans(ctx)
//	n, err := f.Deliver(ctx, out)                                             // to a second place
//	reports, err := f.Remove(ctx, provision.RemoveOptions{All: true}, "us")   // a trial at one site, undone
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
// never sent. [Fleet.WriteFailures] writes it beside what failed at the sites; mended, [Fleet.Amend] registers it at the
// site that it names then, and gives each of the others back to its own.
//
// # No device in two places
//
// A thing name belongs to one site: the first in the input that has it, or the one where it was registered by itself.
// When a run goes on, the ledgers are read first, and a device that is routed to another site than before ends the call
// with [provision.ErrInputChanged], before any site has sent anything. Register, Amend and Retry ask the ledgers of the
// other sites for a name before anything is sent. Public keys that come with the devices belong to one site as well, and
// a request or certificate with the name of another site's device is refused. Two sites can't have the same account and
// region, unless Options.TakeTurns is set, so that they work there in turn.
//
// A Fleet knows what its ledgers hold. A name that another program brought to a second site is reported by every later
// call, until [Fleet.Remove] has removed one of the two devices. A device that was removed holds its name and key for its
// site no longer: another site can register it, which is how a device moves. Whether its account has the device already is
// looked at by each site as its Options.Existing say.
//
// # Errors
//
// What fails at one site costs the others nothing. The error of a call is or joins a [*SiteError] for each site that
// failed, and what the other sites returned is returned with it.
//
// The limit of one task, and the rates: https://docs.aws.amazon.com/iot/latest/developerguide/bulk-provisioning.html
package fleet
