package provision

import (
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Event is what a run is doing. It is one of the structs of this package whose names begin with Event, by value: use
// a type switch, and ignore those you don't know, since there may be more of them one day.
type Event interface{ event() }

// EventSpooled: every record of the input is in the ledger. It comes again whenever devices that had failed are to be
// sent again, in Run, Retry or Amend: count those that have a verdict from its numbers anew, or such devices count twice.
type EventSpooled struct {
	Devices int64
	// Failed, Provisioned, NoKey, Removed and Issued are those of them that have a verdict already: bad rows, duplicates,
	// and the devices that an earlier call has finished. Those that are Removing count as Removed.
	Failed, Provisioned, NoKey, Removed, Issued int64
	Resumed                                     bool // the run had begun before
	// Notes are about records that this call took in and that are sent as they are: what is odd about their requests or
	// certificates. One finding for each oddity has the first such record's number and how many more there are.
	Notes finding.List
	// Replaced is true when the run had another input before this call, of which nothing was sent.
	Replaced bool
}

// EventExisting: the account was looked at for devices that are about to be sent, and had things of their names.
type EventExisting struct {
	Looked    int // devices that were looked for
	Things    int // of them, those whose thing exists
	Certified int // of these, those whose thing has ACTIVE certificates that are not this run's
	// Those that are not sent: Failed with CauseExists (or CauseKey, see TakeOverExisting), or registered already.
	Failed, Provisioned, NoKey int
}

// EventPreflight: the account was looked at before the run's first task. Findings that are an Error stop the run only if
// they concern every device; the others are here to be read.
type EventPreflight struct {
	Findings finding.List
	Stops    bool  // the run sends nothing and ends with [ErrPreflight], which lists the findings that are an Error
	Err      error // why not everything could be looked at; the run goes on
}

// EventPartReady: a part file is complete, its keys are durable, and it is in the bucket.
type EventPartReady struct {
	Part   int
	Lines  int
	Bytes  int64
	SHA256 string
	Bucket string
	Key    string
}

// EventUnreachable: a request of the backend got no answer: the connection was refused or broke, or the time ran out. It
// is tried again, and each attempt that fails is such an event. Only a backend with task.Notifier reports it; one that
// several runs share reports it to each of them.
type EventUnreachable struct {
	Host string
	Err  error
}

// EventTaskWaiting: another task of the account is in progress, and the run waits for it.
type EventTaskWaiting struct {
	Part int
	// Other is the task it waits for: its id, data file, role and times show whose it is. Nil if it could not be seen.
	Other *task.Description
}

// EventStartLost: whether a part's task was started is not known, and the run looks for the task: the answer was lost, or
// there is no task of the part under the id that came back. Only when it has not found it until the given time does it
// count as not started or forgotten.
type EventStartLost struct {
	Part  int
	Until time.Time
}

// EventTaskStarted: a registration task of this run is in progress.
type EventTaskStarted struct {
	Part      int
	Task      task.ID
	Recovered bool // it was found by its data file: the answer to Start was lost, or the ledger is an older copy
}

// EventTaskProgress: the service was asked how a task is getting on.
type EventTaskProgress struct {
	Part        int
	Description *task.Description
}

// EventDiscrepancy: the reports of a task that has ended do not hold what they should (another form than AWS's, no links,
// fewer lines than the task counted), or it is Completed and has not counted every line. The run reads them again until
// the given time. A zero Until means that it has given up: devices without a verdict are read back from the account.
type EventDiscrepancy struct {
	Part    int
	Task    task.ID
	Problem string
	Until   time.Time
}

// EventPartCollected: every device of a part has a verdict.
type EventPartCollected struct {
	Part        int
	Provisioned int
	NoKey       int // registered, and the private key is not in the key store
	Failed      int
	Unknown     int
	Took        time.Duration // since the part's task was started
}

// EventIssued: devices have their keys and certificates, and are left to their first connection ([Options].FirstConnection).
type EventIssued struct {
	Issued int
	Failed int // no certificate could be issued for them
}

// EventLookedThrough: the certificates that were made since the run began are looked through at its end, or by
// [Run.FindOrphans], and that takes a while: it comes for every hundred that are not the run's own.
type EventLookedThrough struct {
	Others int // of them so far, each of which is asked for by itself
}

func (EventIssued) event()        {}
func (EventLookedThrough) event() {}
func (EventSpooled) event()       {}
func (EventExisting) event()      {}
func (EventPreflight) event()     {}
func (EventPartReady) event()     {}
func (EventUnreachable) event()   {}
func (EventTaskWaiting) event()   {}
func (EventStartLost) event()     {}
func (EventTaskStarted) event()   {}
func (EventTaskProgress) event()  {}
func (EventDiscrepancy) event()   {}
func (EventPartCollected) event() {}
