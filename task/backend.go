package task

import (
	"context"
	"io"
	"time"
)

// Backend is what a cloud implements: the service that runs registration tasks and the store that holds their
// data files and reports.
//
// The sentences of these doc comments that have the word "must" are promises. Package tasktest checks each of them
// under a name of its own; a Backend that passes it can be put under the rest of this library.
//
// A Backend must be safe for concurrent use. Every method must honour its context: when the context is done before the
// method has an answer, it returns promptly with an error that wraps the context's cause.
//
// Errors returned by a Backend must wrap [*Error] when the service answered, and one of this package's Err sentinels
// whenever one fits. An error of [Service.StartTask] for which [Refused] is false leaves it open whether a task was
// started.
type Backend interface {
	Service
	Store
}

// Service is AWS's five bulk registration operations and nothing more.
type Service interface {
	// StartTask starts a registration task over a data file that is already in the store and returns its id.
	//
	// It must send the request at most once, an explicit throttle apart: the operation has no client token, so a
	// blind repeat would start a second task. It must refuse with [ErrTaskRunning] while another task of the account
	// is in progress; with [ErrInvalidRequest] when the template is empty, longer than 10,240 characters or not
	// JSON, or a required member is missing. A refusal must leave no task behind.
	//
	// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_StartThingRegistrationTask.html
	StartTask(ctx context.Context, in *StartInput) (ID, error)

	// DescribeTask returns the task as it is now.
	//
	// It must return [ErrNotFound] for an id that is not a task of this account. The bucket, key, role and template of
	// the answer must equal those given to StartTask, byte for byte. Counts must never fall, and Succeeded + Failed
	// must never exceed the lines of the data file. Percent must lie between 0 and 100, and be 100 once the status is
	// Completed. Once Status.Done reports true the description must not change again.
	//
	// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeThingRegistrationTask.html
	DescribeTask(ctx context.Context, id ID) (*Description, error)

	// ListTasks returns one page of task ids in the service's own order.
	//
	// It must list a task as soon as StartTask has returned its id, each task exactly once over all pages, and return
	// an empty NextToken on the last page. A page must hold at most MaxResults ids; it may be empty without being the
	// last. When a status is asked for, only tasks in that status must be listed.
	//
	// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_ListThingRegistrationTasks.html
	ListTasks(ctx context.Context, in *ListInput) (*TaskPage, error)

	// ListReports returns one page of links to a task's report files. An empty token asks for the first page.
	//
	// The files behind the links of all pages, in order, must hold exactly one line for each line of the data file that
	// ended that way: RESULTS those that were registered, ERRORS those that were refused. Every call must return links
	// that can be opened now, so a caller whose link has expired lists again and finds the same files in the same
	// order. It must return [ErrNotFound] for an unknown task.
	//
	// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_ListThingRegistrationTaskReports.html
	ListReports(ctx context.Context, id ID, kind ReportType, token string) (*ReportPage, error)

	// StopTask asks the service to cancel a task.
	//
	// It must return [ErrNotFound] for an unknown task. A stopped task must end as Cancelled without further calls.
	// Lines already registered must stay registered and stay in the reports. Stopping a task that has ended must not
	// change it; whether it is an error is up to the service.
	//
	// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_StopThingRegistrationTask.html
	StopTask(ctx context.Context, id ID) error
}

// Store is where data files go and reports come from.
type Store interface {
	// Upload stores a data file and returns where it is.
	//
	// When Upload returns nil, a task started on the returned Bucket and Key must see exactly the bytes of in.Body. A
	// body whose length or SHA-256 differs from that of in must be refused with [ErrChecksum], and nothing stored under
	// the key. Uploading the same key again must replace the object whole: no reader ever sees a mixture. Body must be
	// read from its current position; it may be read more than once, and must not be closed. The returned Object must
	// have the size and the digest of what is stored.
	Upload(ctx context.Context, in *UploadInput) (*Object, error)

	// Open reads what a report link leads to, from a byte offset on.
	//
	// Reading from offset n must return the bytes that reading from 0 returns after its first n; an offset at the end
	// returns no bytes and io.EOF, not an error. An expired or refused link must return [ErrLinkExpired]. A body that
	// ends before its announced length must end in io.ErrUnexpectedEOF, never in a clean io.EOF. The caller closes the
	// reader. Once ctx is done, reading must end in an error that wraps its cause.
	Open(ctx context.Context, link Link, offset int64) (io.ReadCloser, error)
}

// ID names a registration task. AWS makes ids of at most 40 characters in the shape of a UUID.
type ID string

// StartInput is what StartTask needs. All members are required. The names are AWS's own.
type StartInput struct {
	TemplateBody    string // the provisioning template: JSON of 1 to 10,240 characters
	InputFileBucket string // bucket of the data file, in the task's own region
	InputFileKey    string // key of the data file
	RoleARN         string // the role the service assumes to read the file and to register devices
}

// Description is a registration task as the service reports it.
type Description struct {
	ID              ID
	Status          Status
	Message         string // why a task failed; at most 2,048 characters, often empty
	Succeeded       int    // lines registered so far
	Failed          int    // lines refused so far
	Percent         int    // 0 to 100
	Created         time.Time
	LastModified    time.Time
	TemplateBody    string
	InputFileBucket string
	InputFileKey    string
	RoleARN         string
}

// ListInput narrows ListTasks. The zero value lists every task in pages of the service's own size.
type ListInput struct {
	Status     Status // only tasks in this status; empty for all
	MaxResults int    // page size, 1 to 250; 0 leaves it to the service
	Token      string // NextToken of the page before
}

// TaskPage is one page of ListTasks.
type TaskPage struct {
	IDs       []ID
	NextToken string // empty on the last page
}

// ReportType chooses between a task's two reports.
type ReportType string

// The reports of a task.
const (
	ResultsReport ReportType = "RESULTS" // lines that were registered
	ErrorsReport  ReportType = "ERRORS"  // lines that were refused
)

// ReportPage is one page of ListReports.
type ReportPage struct {
	Links     []Link
	NextToken string // empty on the last page
}

// UploadInput is a data file on its way to the store.
type UploadInput struct {
	// Key is the object's key. AWS takes letters, digits and !_.*'()+,-./ in the key of a task's data file, 1 to
	// 1,024 characters.
	Key string
	// Body is the file's content from its current position.
	Body io.ReadSeeker
	// Size is the number of bytes in Body.
	Size int64
	// SHA256 is the digest of those bytes.
	SHA256 [32]byte
}

// Object is a stored data file.
type Object struct {
	Bucket string
	Key    string
	Size   int64
	SHA256 [32]byte
}
