package provision

import (
	"errors"
	"iter"
	"slices"
	"time"
)

// Device is one device to be provisioned: a value for each parameter of the template.
type Device struct {
	// Name is the thing's name, by which the run knows the device. Empty takes what the template makes of the row.
	Name string
	// Row holds the values by parameter name, in UTF-8. What the credential step fills, such as CSR, is left out.
	Row map[string]string
	// Meta holds what the run keeps beside the device and never sends: a customer, a pallet, the site it is routed by. It
	// is seen by routes, credential steps with their key sources and stores, and outputs, and is in the ledger. The names
	// are none of Row's. See also [Options.Meta].
	Meta map[string]string
	// Source is where the record came from, for error messages: "devices.csv:12". It may be empty.
	Source string
	// Seq is the number of the record of the run that this one mends ([Result].Seq), for [Run.Amend]. 0 finds it by Name.
	Seq int64
	// RunID is the id of the run that the record is of, for [Run.Amend], which refuses another run's. Empty is not
	// checked.
	RunID string
	// Columns are the names in the header of the list that the device is from, or the members of its line; nil if it is
	// from no list. A run refuses a list whose header can't be right before it keeps anything of it ([HeaderError]). Of a
	// line of failures.csv they are those whose values no apostrophe marks as text: Amend compares them with what a
	// spreadsheet makes of numbers.
	Columns []string
	// Err marks a record that could not be read. The device is then Failed with this error; the others go on.
	Err error
}

// Devices makes a sequence of given devices.
func Devices(devices ...Device) iter.Seq2[Device, error] {
	return func(yield func(Device, error) bool) {
		for _, d := range devices {
			if !yield(d, nil) {
				return
			}
		}
	}
}

// Rows makes a sequence of devices that take their names from the template.
func Rows(rows ...map[string]string) iter.Seq2[Device, error] {
	return func(yield func(Device, error) bool) {
		for _, row := range rows {
			if !yield(Device{Row: row}, nil) {
				return
			}
		}
	}
}

// Verdict is where a device stands.
type Verdict string

// The verdicts. Every device of a finished run has one of the last seven.
const (
	Waiting     Verdict = "waiting"     // not sent yet
	Submitted   Verdict = "submitted"   // in a part that is on its way
	Issued      Verdict = "issued"      // it has its key and certificate, and is registered when it first connects; see Options.FirstConnection
	Provisioned Verdict = "provisioned" // registered, and its certificate matches its key
	NoKey       Verdict = "no-key"      // registered, and its private key is not in the key store, or another one is; see Run
	Failed      Verdict = "failed"      // refused; Cause and Message hold why
	Unknown     Verdict = "unknown"     // the service may or may not have registered it
	Removing    Verdict = "removing"    // its removal has begun and is not over; see Run.Remove
	Removed     Verdict = "removed"     // what the run had made of it was removed; Message holds what was kept
)

// Cause sorts failures by what has to be done about them.
type Cause string

// The causes. Those that [Cause.Retryable] reports can pass when tried again unchanged.
const (
	CauseNone            Cause = ""
	CauseInvalidRecord   Cause = "invalid-record"   // the record could not be read or breaks a rule; it was never sent
	CauseDuplicate       Cause = "duplicate"        // another record of the run has the same name or the same key
	CauseKey             Cause = "key"              // no key, CSR or certificate could be made for it here, or what was made has expired
	CauseKeyLost         Cause = "key-lost"         // of NoKey: the key store has no key for the certificate, or another one
	CauseCSRRefused      Cause = "csr-refused"      // the CSR is not acceptable, found here or by AWS
	CauseThrottled       Cause = "throttled"        // the account's rates were exceeded
	CauseQuota           Cause = "quota"            // a quota of the account, or of one thing or certificate, is used up
	CauseTypeMissing     Cause = "type-missing"     // the thing type does not exist
	CauseGroupMissing    Cause = "group-missing"    // a thing group or billing group does not exist
	CausePolicyMissing   Cause = "policy-missing"   // a policy named by the template does not exist
	CauseConflict        Cause = "conflict"         // a thing of that name exists with another configuration
	CauseRole            Cause = "role"             // the service role lacks an action
	CauseInvalidTemplate Cause = "invalid-template" // AWS could not apply the template to the row
	CauseInvalidValue    Cause = "invalid-value"    // AWS refused a value of the row
	CauseExists          Cause = "exists"           // its thing has an ACTIVE certificate of somebody else, see Existing; or the output holds an earlier one, see DeliveryFinder
	CauseCertificate     Cause = "certificate"      // what the account has for it is not right: another key, another certificate than its id names, or of another account
	CauseTask            Cause = "task"             // the whole task failed or was cancelled before the line's turn
	CauseService         Cause = "service"          // an error on AWS's side
	CauseOther           Cause = "other"            // a text not known here; it is in Message, verbatim
)

// Retryable reports whether trying the same device again, unchanged, can help: with CauseKey, CauseThrottled,
// CauseQuota, CauseTypeMissing, CauseGroupMissing, CausePolicyMissing, CauseRole, CauseExists, CauseTask and CauseService.
func (c Cause) Retryable() bool {
	return slices.Contains([]Cause{CauseKey, CauseThrottled, CauseQuota, CauseTypeMissing, CauseGroupMissing, CausePolicyMissing,
		CauseRole, CauseExists, CauseTask, CauseService}, c)
}

// Result is one device and what became of it.
type Result struct {
	Seq            int64 // number in the run, from 1: the place in the input, unless devices were registered before it
	Name           string
	Row            map[string]string
	Meta           map[string]string // kept beside the device, never sent
	Source         string
	Verdict        Verdict
	Cause          Cause  // why it failed, or has no key
	Message        string // AWS's text verbatim, or ours when it was never sent
	Part           int    // the part it was last sent in; 0 if never
	Line           int64  // its line in that part's data file
	TaskID         string // the registration task of that part
	ThingARN       string
	CertificateARN string
	CertificateID  string
	CertificatePEM string
	Policies       []string // names of the policies attached to the certificate
	Attempts       int      // how often it was sent
	ThingExisted   bool     // the account had its thing before it was first sent, which OverrideSettings then say what to do with
	// Existing are the ACTIVE certificates that its thing had before it was sent and that are not this run's, see
	// [Options].Existing, and those that somebody else has put on it since (Meanwhile).
	Existing []ExistingCertificate
}

// ExistingCertificate is an ACTIVE certificate that the thing of a device has and that is not the run's.
type ExistingCertificate struct {
	ID      string    `json:"id"`
	ARN     string    `json:"arn"`
	Created time.Time `json:"created"`
	// SerialNumber is its serial number in lower-case hex if the run's own CA has issued it; empty otherwise, and once it was
	// found on another thing, which goes on using it. See [Run.RevocationList].
	SerialNumber string `json:"serialNumber,omitempty"`
	// Replace is true if the device's new certificate takes its place. Retired is when it was detached from the thing, and
	// deactivated and deleted unless another thing has it; zero before.
	Replace bool      `json:"replace,omitempty"`
	Retired time.Time `json:"retired,omitzero"`
	// Meanwhile is true if it was not on the thing when the account was looked at before the device was sent: somebody else
	// has put it there while the run was under way. It is never replaced; see [Summary].Meanwhile.
	Meanwhile bool `json:"meanwhile,omitempty"`
}

var (
	// ErrIncomplete: the run is over and at least one device is not provisioned, or has a certificate beside its own that
	// nobody asked for. The [*IncompleteError] has the counts.
	ErrIncomplete = errors.New("not every device is provisioned")
	// ErrInputChanged: the devices given differ from those the run was started with.
	ErrInputChanged = errors.New("the input is not the one this run was started with")
	// ErrElsewhere: the ledger belongs to another account, region, partition, template, or to the fake, or was begun with
	// [Options].FirstConnection and goes on without, or the other way round.
	ErrElsewhere = errors.New("this run belongs elsewhere")
	// ErrOldLedger: the account has done more of this run than the ledger knows, so the ledger is an older copy, and
	// Options.Existing keeps the run from looking at what that was.
	ErrOldLedger = errors.New("the ledger is older than the run")
	// ErrStartUnknown: it is not known whether a task was started, so none is started again.
	ErrStartUnknown = errors.New("cannot tell whether the task was started")
)
