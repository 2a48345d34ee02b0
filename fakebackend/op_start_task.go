package fakebackend

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// StartThingRegistrationTask.
//
// Models: one running task per account; the role, which must exist, trust iot.amazonaws.com and be allowed to read the
// data file; the data file, which must be in the task's region and is read as it was when the task started. Not
// modelled: the caller's own permission to pass the role; resource policies and encryption keys of the bucket.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_StartThingRegistrationTask.html

var startTaskOperations = []*operation{
	operationOf("StartThingRegistrationTask", "POST /thing-registration-tasks", (*account).startThingRegistrationTask),
}

type startThingRegistrationTaskInput struct {
	TemplateBody    string `json:"templateBody" is:"TemplateBody" required:"true"`
	InputFileBucket string `json:"inputFileBucket" is:"RegistryS3BucketName" required:"true"`
	InputFileKey    string `json:"inputFileKey" is:"RegistryS3KeyName" required:"true"`
	RoleARN         string `json:"roleArn" is:"RoleArn" required:"true"`
}

type startThingRegistrationTaskOutput struct {
	TaskID string `json:"taskId"`
}

// startThingRegistrationTask starts a task.
func (b *account) startThingRegistrationTask(now time.Time, in *startThingRegistrationTaskInput) (*startThingRegistrationTaskOutput, *task.Error) {
	if !json.Valid([]byte(in.TemplateBody)) {
		return nil, refuse(codeInvalidRequest, "Invalid registration template. The template is not valid JSON.")
	}
	if running := b.st.running; running != nil {
		err := refuse(b.opts.RunningTaskCode, "Another thing registration task is in progress: %s", running.id)
		err.Kind = task.ErrTaskRunning
		return nil, err
	}
	// An error's code tells S3's refusals from the service's own, but what goes out is the service's answer.
	r := &registration{
		templateBody: in.TemplateBody, bucket: in.InputFileBucket, key: in.InputFileKey, roleARN: in.RoleARN,
		status: task.InProgress, created: now, modified: now,
	}
	var file *s3.Object
	for _, part := range []struct {
		bad  AtStart
		make func() error
	}{
		{b.opts.BadTemplate, func() (err error) { r.program, err = b.compile(in.TemplateBody); return err }},
		{b.opts.BadRole, func() (err error) {
			r.session, err = b.assume(in.RoleARN, in.InputFileBucket, in.InputFileKey)
			return err
		}},
		{b.opts.BadInput, func() (err error) { file, err = b.dataFile(in.InputFileBucket, in.InputFileKey); return err }},
	} {
		if err := part.make(); err != nil {
			if part.bad == RefuseStart {
				return nil, refuse(codeInvalidRequest, "%s", err)
			}
			r.failure = err.Error()
			break
		}
	}
	if r.failure == "" {
		total, err := countLines(file.Reader())
		if err != nil {
			return nil, refuse(codeInternalFailure, "%v", err)
		}
		r.file, r.total, r.input = file, total, newLineReader(file.Reader())
	}
	b.st.starts++
	r.id = b.uuid("task", b.st.starts)
	b.st.tasks.add(r.id, r)
	b.st.running = r
	b.events.add(Event{Time: now, Kind: EventTaskStarted, TaskID: r.id, Text: fmt.Sprintf("%d lines of s3://%s/%s", r.total, r.bucket, r.key)})
	return &startThingRegistrationTaskOutput{r.id}, nil
}

// compile reads a template for a registration task or RegisterThing. The error is in AWS's words.
func (b *account) compile(body string) (*template.Program, error) {
	return b.compileAs(template.Bulk, body)
}

// compileAs reads a template of a kind.
func (b *account) compileAs(kind template.Kind, body string) (*template.Program, error) {
	t, err := template.Parse([]byte(body))
	if err != nil {
		return nil, fmt.Errorf("Invalid registration template. %w", err) //nolint:staticcheck // AWS's words
	}
	if t.Wrapped() { // package template reads it out of a request or a JSON string; no source reports that AWS does
		return nil, errors.New("Invalid registration template. The template stands inside another JSON document; send the template alone.") //nolint:staticcheck // in AWS's form
	}
	if kind != template.Bulk {
		if err := certificateByID(t); err != nil {
			return nil, err
		}
	}
	p, err := t.Compile(template.CompileOptions{Kind: kind, AllowFunctions: b.opts.AllowFunctions, EmptyIsMissing: b.opts.EmptyIsMissing})
	if err != nil {
		return nil, errors.New(template.AWSMessage(err))
	}
	return p, nil
}

// certificateByID refuses a template that makes or registers its certificate: where the device has one when the template
// runs, AWS takes CertificateId only.
func certificateByID(t *template.Template) error {
	for _, r := range t.Resources {
		if c, ok := r.(template.Certificate); ok && (c.CertificateSigningRequest != nil || c.CertificatePEM != nil) {
			return errors.New("Invalid registration template. A certificate must be given by its CertificateId.") //nolint:staticcheck // in AWS's form
		}
	}
	return nil
}

// assume takes on the service role, and makes sure that it can read the data file.
func (b *account) assume(roleARN, bucket, key string) (*iam.Session, error) {
	session, err := b.session(roleARN)
	if err != nil {
		return nil, err
	}
	object := fmt.Sprintf("arn:%s:s3:::%s/%s", b.partition().Name, bucket, key)
	if !session.Allows("s3:GetObject", object) {
		return nil, fmt.Errorf("User: %s is not authorized to perform: s3:GetObject on resource: %s", b.assumed(session), object) //nolint:staticcheck // AWS's words
	}
	return session, nil
}

// session takes on a role as AWS IoT does.
func (b *account) session(roleARN string) (*iam.Session, error) {
	session, err := b.roles.Assume(roleARN, partition.IoT, map[string]string{"aws:SourceAccount": b.opts.Account})
	if refusal, ok := errors.AsType[*iam.Error](err); ok {
		return nil, fmt.Errorf("AWS IoT cannot assume the role %s: %s", roleARN, refusal.Message)
	}
	return session, err
}

// assumed is the principal of a session, as AWS names it in refusals.
func (b *account) assumed(s *iam.Session) string {
	name := s.RoleARN[strings.LastIndexByte(s.RoleARN, '/')+1:]
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/iot-bulk-registration", b.partition().Name, b.opts.Account, name)
}

// dataFile finds the data file.
func (b *account) dataFile(bucket, key string) (*s3.Object, error) {
	where, err := b.objects.HeadBucket(bucket)
	if err == nil && where.Region != b.opts.Region {
		return nil, fmt.Errorf("The bucket %s is in the region %s, not in %s", bucket, where.Region, b.opts.Region) //nolint:staticcheck // a message of the service
	}
	var file *s3.Object
	if err == nil {
		file, err = b.objects.Get(bucket, key)
	}
	if refusal, ok := errors.AsType[*s3.Error](err); ok {
		return nil, fmt.Errorf("The input file s3://%s/%s could not be read: %s: %s", bucket, key, refusal.Code, refusal.Message) //nolint:staticcheck // likewise
	}
	return file, err
}
