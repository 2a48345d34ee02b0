package tasktest

import "github.com/seed1ff6f450/iotfleet/task"

// Harness is a backend ready to be tested.
type Harness interface {
	// Backend returns the backend, the same one each time. Its bucket exists.
	Backend() task.Backend
	// RoleARN returns the role that tasks are started with. It may read the bucket and register devices.
	RoleARN() string
}

// Pacer is a [Harness] that knows how long its tasks take. Some cases have to meet a task in progress.
type Pacer interface {
	// LinesInProgress returns how many lines keep a task in progress for about a second or more. Without it a case
	// takes 40.
	LinesInProgress() int
}

// Faulter is a [Harness] that can make the service fail, below the backend.
type Faulter interface {
	// Inject arranges for the fault. The calls it concerns fail from now on until lift is called. An error that
	// matches errors.ErrUnsupported means that this harness cannot do it; the case is skipped.
	Inject(fault Fault) (lift func(), err error)
}

// Fault is a way for the service or the network to fail.
type Fault string

// The faults a [Faulter] may be asked for.
const (
	// ThrottleStart refuses every StartThingRegistrationTask with ThrottlingException.
	ThrottleStart Fault = "throttle StartThingRegistrationTask"
	// DropStartBefore closes the connection before each StartThingRegistrationTask takes effect.
	DropStartBefore Fault = "drop the connection before StartThingRegistrationTask takes effect"
	// DropStartAfter closes the connection after each StartThingRegistrationTask has taken effect, without an answer.
	DropStartAfter Fault = "drop the connection after StartThingRegistrationTask has taken effect"
	// HangStart leaves StartThingRegistrationTask without an answer, whether it takes effect or not.
	HangStart Fault = "never answer StartThingRegistrationTask"
	// DropRegisterAfter closes the connection after each RegisterThing has taken effect, without an answer.
	DropRegisterAfter Fault = "drop the connection after RegisterThing has taken effect"
	// FailUpload answers every request to store an object with status 503.
	FailUpload Fault = "answer uploads with status 503"
	// TruncateReports ends the body of each report file after 1,000 bytes of the file at the latest, although its whole
	// length was announced.
	TruncateReports Fault = "cut report bodies off"
	// TruncateReportsOnce does so with the first report body only.
	TruncateReportsOnce Fault = "cut the first report body off"
	// ExpireLinks makes the links that were returned until now unacceptable. It concerns no later ones.
	ExpireLinks Fault = "expire the report links returned until now"
	// HangDescribe leaves DescribeThingRegistrationTask without an answer.
	HangDescribe Fault = "never answer DescribeThingRegistrationTask"
)

// The faults that refuse the second line of each data file on its way, and leave what it has made until then.
const (
	// FailLineBeforeCertificate refuses the line before it makes anything.
	FailLineBeforeCertificate Fault = "refuse line 2 before it makes anything"
	// FailLineAfterCertificate refuses it when its certificate is made and its thing is not.
	FailLineAfterCertificate Fault = "refuse line 2 when its certificate is made"
	// FailLineAfterThing refuses it when its certificate and its thing are made, not attached to each other.
	FailLineAfterThing Fault = "refuse line 2 when its certificate and its thing are made"
	// FailLineAfterPolicies refuses it when the policies are attached to its certificate as well.
	FailLineAfterPolicies Fault = "refuse line 2 when its policies are attached"
	// FailLineAfterAttachment refuses it when its certificate is attached to its thing, and not yet active.
	FailLineAfterAttachment Fault = "refuse line 2 when its certificate is attached"
	// FailLineAfterAll refuses it when everything is made and active.
	FailLineAfterAll Fault = "refuse line 2 when everything is made"
)

// failingLine is the line that those concern.
const failingLine = 2

// SkipError is what [Case.Check] returns when the harness lacks what the case needs, or the service did not get into
// the situation the case is about. Nothing follows from it about the backend.
type SkipError struct {
	Reason string
}

// Error returns the reason.
func (e *SkipError) Error() string { return "skipped: " + e.Reason }
