package provision

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// ErrNoRun is returned by [Ledger.Run] when the ledger holds no run yet.
var ErrNoRun = errors.New("the ledger holds no run")

// Ledger is the state of one run. What it has returned nil for is durable, as far as the ledger is durable at all: a
// crash right after loses nothing, and a crash before leaves all of a call's changes or none.
//
// A Ledger must be safe for concurrent use. Records are copied in and out: changing one after a call changes nothing in
// the ledger. A ledger holds no private keys and no report links.
type Ledger interface {
	// Run returns the run's record, or ErrNoRun.
	Run(ctx context.Context) (*RunRecord, error)
	// Apply makes all of a change or nothing of it.
	Apply(ctx context.Context, change Change) error
	// Devices yields the devices that the filter lets through, in order of Seq. The error is terminal and last. The
	// ledger may be changed while the sequence is read; a device is yielded at most once.
	Devices(ctx context.Context, filter DeviceFilter) iter.Seq2[*DeviceRecord, error]
	// FindNames returns, for those of the names that the run has, the first Seq that has it. Devices that were refused
	// before they were sent (Failed with no attempts) hold no name.
	FindNames(ctx context.Context, names []string) (map[string]int64, error)
	// FindMatches does the same for DeviceRecord.Match.
	FindMatches(ctx context.Context, matches []Match) (map[Match]int64, error)
	// FindCertificates returns, for those of the certificate ids that a device of the run has, that device's Seq.
	FindCertificates(ctx context.Context, ids []string) (map[string]int64, error)
	// Counts returns the number of devices by verdict, and of those that are Failed by cause.
	Counts(ctx context.Context) (*Counts, error)
	// Parts returns all parts in order of Number.
	Parts(ctx context.Context) ([]*PartRecord, error)
	// Orphans returns all orphans in the order they were first applied.
	Orphans(ctx context.Context) ([]*Orphan, error)
	// Close releases the ledger.
	Close() error
}

// Change is what a step of a run leaves in the ledger, as one. Orphans whose certificate a device of Add or Devices has are
// forgotten, whenever they were applied: a device has come to use them.
type Change struct {
	Run *RunRecord // creates or replaces the run's record
	// RemoveFrom, unless 0, removes the devices with this Seq and all after it, before others are added.
	RemoveFrom int64
	Add        []*DeviceRecord // appends devices; Seq must go on from the last one without a gap
	Devices    []*DeviceRecord // replaces devices by Seq; each must be there
	// InputStays leaves the Name, Source, Row, Original and Meta of Devices as the ledger has them, whatever the records hold:
	// a step that changes what has become of devices need not write again what they came with.
	InputStays bool
	Part       *PartRecord // creates or replaces a part by Number, which is 1 or more
	Orphans    []*Orphan   // creates or replaces orphans by CertificateID
}

// RunRecord is what a run is about.
type RunRecord struct {
	ID             string
	Created        time.Time
	Identity       task.Identity // where it registers devices; a run never moves
	TemplateSHA256 string        // hex digest of the template's body
	RoleARN        string
	Spooled        bool  // every device of the input is in the ledger
	Total          int64 // number of devices; before Spooled, Ahead
	Ahead          int64 // of them, those that were registered one by one before the input came; they are the first
	Input          int64 // of them, those that came with the input and are next; those behind were registered one by one
	Finished       time.Time
	OrphansLooked  time.Time // when the account was looked through for orphans; zero if something was sent since
	// PreflightSHA256 is the hex digest of the template and the role that the account was looked at for, before the first
	// task. Empty if it was not, or something was wrong.
	PreflightSHA256 string
	// SitesSHA256 is the hex digest of the names of a fleet's sites, in the record of a fleet, which has no template. It
	// is empty in the record of a run.
	SitesSHA256 string
}

// DeviceRecord is a device in the ledger. Row, Original and Policies are UTF-8: a record of the input that is not is
// Failed when it is taken in, and kept with U+FFFD in place of what is not.
type DeviceRecord struct {
	Result
	Match Match // how its line in a report is recognised; empty until its credential is made
	// Original is the row as the input had it, if it or Meta was mended since; nil otherwise.
	Original map[string]string
	Updated  time.Time
}

// DeviceFilter chooses devices: those that all of its members let through. Zero members choose all.
type DeviceFilter struct {
	Name     string    // the thing's name
	Verdicts []Verdict // any of these
	Causes   []Cause   // any of these
	Part     int       // the part it was last sent in
	Existing bool      // those with certificates in Existing
	AfterSeq int64     // those with a greater Seq
	Limit    int       // the greatest number of devices
}

// PartState is how far a part has come. It only moves forward; only a refused Start takes it back to uploaded, and a look at
// the account that takes devices out of it before its start to written.
type PartState string

// The states of a part.
const (
	PartWritten   PartState = "written"   // the file is complete and its keys are durable
	PartUploaded  PartState = "uploaded"  // the object is in the bucket
	PartStarting  PartState = "starting"  // Start was or is about to be called; the answer is not recorded
	PartStarted   PartState = "started"   // the task's id is known
	PartEnded     PartState = "ended"     // the task has ended
	PartCollected PartState = "collected" // every device of it has a verdict
)

// PartRecord is one data file and its registration task.
type PartRecord struct {
	Number  int
	Attempt int // 1 for devices sent for the first time
	State   PartState
	Adopted bool // the task was started by somebody else
	Lines   int
	Bytes   int64
	SHA256  string // hex digest of the file
	File    string // its name in the folder of part files
	Bucket  string
	Key     string
	TaskID  task.ID
	// Status, Message, Succeeded and Failed are what the service reported of the task when it ended.
	Status      task.Status
	Message     string
	Succeeded   int
	Failed      int
	TaskCreated time.Time // when the service made the task, by its clock
	// Discrepancy is what was wrong with the task's counts or its reports, so that devices had to be read back. Empty if
	// nothing was.
	Discrepancy string
	// When each state was reached, and how long the keys and requests of the part took.
	Written, Uploaded, Started, Ended, Collected time.Time
	CredentialsTook                              time.Duration
	// Looked is when the account was last looked at before its devices were sent; zero if it was not. In a part that Prepare
	// has made of devices that are all sent again, it is when they were looked for before, until that is done once more.
	Looked time.Time
}

// unlooked is how many devices of a part were sent without a look at the account.
func (p *PartRecord) unlooked() int64 {
	if p.TaskID == "" || !p.Looked.IsZero() {
		return 0
	}
	return int64(p.Lines)
}

// Orphan is a certificate that this run caused and that no device of it uses: one to be removed.
type Orphan struct {
	CertificateID  string
	CertificateARN string
	Seq            int64  // the device it was made for
	Name           string // that device's thing name
	Why            string // how it came about
	Found          time.Time
	Removed        time.Time // zero while it exists
}

// Counts are the devices of a run by verdict and by cause.
type Counts struct {
	Verdicts map[Verdict]int64
	Causes   map[Cause]int64 // of the devices that are Failed
}

// Total is the number of devices.
func (c *Counts) Total() int64 {
	var n int64
	for _, k := range c.Verdicts {
		n += k
	}
	return n
}
