package fakebackend

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/template"
)

// Options are how a fake behaves. The zero value works: an account in us-east-1 with a bucket of its own, in which a
// task's lines are done as soon as anybody looks at the task.
//
// The first group is what a test sets; the others hold the places where AWS's behaviour is not documented and a client
// could come to depend on what was guessed, so that it can be tested against the other guess too. The page
// docs/fidelity.md lists all guesses, also those without a field.
type Options struct {
	// Region is the region of the account's IoT endpoint. Default us-east-1.
	Region string
	// Account is the account's id: 12 digits. Default 123456789012.
	Account string
	// Bucket is where Upload puts data files. New makes it, in Region, unless NoBucket is set. Default iotfleet-fake.
	Bucket string
	// NoBucket leaves Bucket to be made by EnsureBucket or CreateBucket.
	NoBucket bool

	// Rate is how many lines a second a task does. 0 means all of them at once.
	Rate float64
	// StartDelay is how long a task is InProgress before its first line is worked on.
	StartDelay time.Duration
	// StopDelay is how long a stopped task is Cancelling before it is Cancelled.
	StopDelay time.Duration
	// LinesPerReport is how many lines one report file holds. Default 1,000. A guess: AWS documents no figure.
	LinesPerReport int
	// PageSize is how many items a list operation returns when the caller does not choose. Default 100.
	PageSize int
	// LinkLife is how long a report link is good, in whole seconds: what is over is cut off. From 1 s to 7 days, which is
	// all that S3 allows. Default 86,400 s, as for the links in AWS's walkthrough.
	LinkLife time.Duration

	// Hooks are the pre-provisioning hooks, by the ARN of the Lambda function that provisioning templates name. A device
	// of a template whose hook is not among them is refused. [HTTPHook] asks a program of any language.
	Hooks map[string]ProvisioningHook

	// Seed makes ids, serial numbers, the CA and the certificates depend on nothing but the calls made and the clock.
	// Nil means random.
	Seed []byte
	// IssuerKey is the algorithm of the CA's key. The default, P256, signs fast; AWS's own is RSA2048.
	IssuerKey IssuerKey
	// IssuerName is the issuer that certificates name. Default [FakeIssuerName], which tells that it is a fake.
	// [AWSIssuerName] is the name in AWS's certificates.
	IssuerName string

	// RunningTaskCode is the error code of a Start while another task is in progress. Default
	// InvalidRequestException, since the operation declares no limit exception. The error is [task.ErrTaskRunning] in
	// any case.
	RunningTaskCode string
	// BadInput is what comes of a Start whose data file cannot be read. Default FailTask.
	BadInput AtStart
	// BadRole is what comes of a Start whose role does not exist, cannot be assumed by iot.amazonaws.com or may not
	// read the data file. Default FailTask.
	BadRole AtStart
	// BadTemplate is what comes of a Start whose template is JSON but not a template. Default RefuseStart. A
	// template that is not JSON is refused in any case.
	BadTemplate AtStart
	// OldestFirst lists tasks oldest first. By default the newest comes first, as in AWS's walkthrough.
	OldestFirst bool

	// StopEndedCode is the error code of stopping a task that has ended. Default "": no effect and no error.
	StopEndedCode string
	// NoReportsWhenCancelled leaves a stopped task without reports. By default they hold the lines that were done.
	NoReportsWhenCancelled bool
	// UnknownTaskReportsCode is the error code of ListThingRegistrationTaskReports for an unknown task, which does not
	// declare one for it. Default ResourceNotFoundException.
	UnknownTaskReportsCode string
	// ReportDelay keeps report links back until a task has ended and so long afterwards. At 0 the reports of a
	// running task can be read too.
	ReportDelay time.Duration
	// PlainErrors leaves the error's code out of an ERRORS line's text. By default it follows the text in brackets.
	PlainErrors bool
	// ErrorCodes adds the member errorCode to the lines of an ERRORS report.
	ErrorCodes bool
	// PolicyARNKey is the key of a policy's ARN in results. Default "": the policy's logical name in the template.
	PolicyARNKey string

	// OldEndpointTypes answers DescribeEndpoint for iot:Data and iot:Jobs, which AWS's reference lists. By default they
	// are refused, as an observer saw AWS do.
	OldEndpointTypes bool
	// UnknownTypeCode is the error code in the text of a line whose thing type does not exist. Default
	// ResourceRegistrationFailureException, as an observer saw; CreateThing has ResourceNotFoundException.
	UnknownTypeCode string

	// ProvisionOnce runs the template of just-in-time provisioning once for each certificate: one whose template failed
	// stays PENDING_ACTIVATION. By default the next connection runs it again.
	ProvisionOnce bool

	// LenientLines passes over blank lines, a byte order mark and carriage returns in a data file. A blank line counts
	// in the numbers of the lines after it, but neither as registered nor as failed. By default a line with any of them
	// fails.
	LenientLines bool
	// EmptyIsMissing lets a parameter's Default stand in for an empty string. By default an empty string is a value.
	EmptyIsMissing bool
	// AllowFunctions accepts Fn::* and Mappings, which AWS documents for fleet provisioning only.
	AllowFunctions bool
	// RefuseFlatCSR refuses a CSR whose PEM text has lost its line ends. By default it is accepted.
	RefuseFlatCSR bool
	// ExistingThing is what happens to a thing that exists already when the template has no OverrideSettings for what
	// differs: "" as CreateThing does (the same configuration passes, a different one fails), or
	// [template.DoNothing], [template.Replace] or [template.Fail].
	ExistingThing template.Override
	// FailOnlyIfDifferent lets the override FAIL pass when what exists is equal to what is asked for. By default it
	// fails whenever the resource exists.
	FailOnlyIfDifferent bool
	// UndoFailedLines takes back what a line made before it failed. By default it stays.
	UndoFailedLines bool
	// TokensOnce refuses an ownership token with which a device was provisioned already. By default it is good until it
	// expires, so that a device whose answer was lost can ask once more.
	TokensOnce bool
	// PolicyPerLine makes a policy of its own for each line whose template has a policy document. By default the name of
	// the policy depends on the document alone, so that lines with the same document share one.
	PolicyPerLine bool
}

// AtStart chooses between the two ways a bad Start can end.
type AtStart string

// What comes of a bad Start. Empty is the default that the option's comment names.
const (
	FailTask    AtStart = "fail-task"    // the task is started, and ends as Failed with a message
	RefuseStart AtStart = "refuse-start" // the request is refused with InvalidRequestException
)

// IssuerKey is the algorithm of the CA's key.
type IssuerKey string

// The algorithms a CA's key can have.
const (
	P256    IssuerKey = "p256"
	RSA2048 IssuerKey = "rsa2048"
)

// Names for [Options.IssuerName]. Both are the text of a single OU attribute, which is how AWS names its issuer.
const (
	FakeIssuerName = issuer.DefaultName // "iotfleet fake AWS IoT CA, not trusted by any device"
	AWSIssuerName  = issuer.AWSName     // "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"
)

const (
	day = 24 * time.Hour
	// maxLinkLife is the longest life of a presigned link.
	maxLinkLife = 7 * day
)

// withDefaults checks the options and fills in what is zero.
func (o Options) withDefaults() (Options, error) {
	o.Hooks = maps.Clone(o.Hooks)
	setDefault(&o.Region, "us-east-1")
	setDefault(&o.Account, "123456789012")
	setDefault(&o.Bucket, "iotfleet-fake")
	setDefault(&o.LinesPerReport, 1000)
	setDefault(&o.PageSize, 100)
	setDefault(&o.LinkLife, day)
	setDefault(&o.IssuerKey, P256)
	setDefault(&o.IssuerName, FakeIssuerName)
	setDefault(&o.RunningTaskCode, codeInvalidRequest)
	setDefault(&o.BadInput, FailTask)
	setDefault(&o.BadRole, FailTask)
	setDefault(&o.BadTemplate, RefuseStart)
	setDefault(&o.UnknownTaskReportsCode, codeNotFound)
	setDefault(&o.UnknownTypeCode, codeRegistrationFailure)

	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("fakebackend: Options."+format, args...))
	}
	if !partition.IsAccount(o.Account) {
		bad("Account is %q; it must be 12 digits", o.Account)
	}
	if !regionForm(o.Region) {
		bad("Region is %q; it must be a region's name, such as eu-central-1", o.Region)
	}
	if err := rule.Bucket.Check(o.Bucket); err != nil {
		bad("Bucket: %w", err)
	}
	if !(o.Rate >= 0 && o.Rate <= 1e9) {
		bad("Rate is %v; it must be between 0 and 1e9 lines a second", o.Rate)
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"StartDelay", o.StartDelay}, {"StopDelay", o.StopDelay}, {"ReportDelay", o.ReportDelay},
	} {
		if d.value < 0 {
			bad("%s is %v; it must not be negative", d.name, d.value)
		}
	}
	if o.LinkLife < time.Second || o.LinkLife > maxLinkLife {
		bad("LinkLife is %v; it must be between 1s and %v, which is how long S3's links can be good", o.LinkLife, maxLinkLife)
	}
	if o.LinesPerReport < 1 {
		bad("LinesPerReport is %d; it must be at least 1", o.LinesPerReport)
	}
	if o.PageSize < 1 || o.PageSize > maxPage {
		bad("PageSize is %d; AWS's pages have 1 to %d items", o.PageSize, maxPage)
	}
	if o.IssuerKey != P256 && o.IssuerKey != RSA2048 {
		bad("IssuerKey is %q; it must be %s or %s", o.IssuerKey, P256, RSA2048)
	}
	switch o.ExistingThing {
	case "", template.DoNothing, template.Replace, template.Fail:
	default:
		bad("ExistingThing is %q; it must be empty, DO_NOTHING, REPLACE or FAIL", o.ExistingThing)
	}
	for _, a := range []AtStart{o.BadInput, o.BadRole, o.BadTemplate} {
		if a != FailTask && a != RefuseStart {
			bad("BadInput, BadRole and BadTemplate must be %s or %s, not %q", FailTask, RefuseStart, a)
			break
		}
	}
	return o, errors.Join(errs...)
}

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// regionForm reports whether s can be a region's name: lower-case words joined by hyphens.
func regionForm(s string) bool {
	return len(s) >= 3 && len(s) <= 32 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" &&
		s[0] != '-' && s[len(s)-1] != '-'
}
