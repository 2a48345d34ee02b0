package tasktest_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// fake is the in-memory fake of AWS as a harness.
type fake struct {
	backend *fakebackend.Backend
	inner   task.Backend // backend, or a wrapper around it
}

const (
	fakeRate     = 60 // a pace at which tasks of the suite can be met in progress and still take under a second
	linksPerPage = 2
	fakeRole     = "arn:aws:iam::123456789012:role/bulk"
)

func newFake(t *testing.T) fake {
	backend, err := fakebackend.New(fakebackend.Options{
		Rate: fakeRate, StopDelay: 100 * time.Millisecond, LinesPerReport: 3, PageSize: linksPerPage,
	})
	require.NoError(t, err)
	_, err = backend.EnsureRole(t.Context(), &task.RoleInput{Name: "bulk"})
	require.NoError(t, err)
	return fake{backend, backend}
}

// wrapped returns the harness with a backend around its own.
func (f fake) wrapped(b task.Backend) fake {
	f.inner = b
	return f
}

func (f fake) Backend() task.Backend { return f.inner }
func (f fake) RoleARN() string       { return fakeRole }
func (f fake) LinesInProgress() int  { return fakeRate }

func (f fake) Inject(fault tasktest.Fault) (lift func(), err error) {
	const always = -1
	rules := map[tasktest.Fault]fakebackend.Fault{
		tasktest.ThrottleStart:       {Operation: "StartThingRegistrationTask", Do: fakebackend.Throttle, Times: always},
		tasktest.DropStartBefore:     {Operation: "StartThingRegistrationTask", Do: fakebackend.DropBefore, Times: always},
		tasktest.DropStartAfter:      {Operation: "StartThingRegistrationTask", Do: fakebackend.DropAfter, Times: always},
		tasktest.HangStart:           {Operation: "StartThingRegistrationTask", Do: fakebackend.Hang, Times: always},
		tasktest.DropRegisterAfter:   {Operation: "RegisterThing", Do: fakebackend.DropAfter, Times: always},
		tasktest.FailUpload:          {Operation: "PutObject", Do: fakebackend.Fail, Code: "ServiceUnavailable", Status: 503, Times: always},
		tasktest.TruncateReports:     {Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 1000, Times: always},
		tasktest.TruncateReportsOnce: {Operation: "GetObject", Do: fakebackend.Truncate, Bytes: 1000},
		tasktest.HangDescribe:        {Operation: "DescribeThingRegistrationTask", Do: fakebackend.Hang, Times: always},
	}
	for line, step := range map[tasktest.Fault]fakebackend.Step{
		tasktest.FailLineBeforeCertificate: fakebackend.StepCertificate,
		tasktest.FailLineAfterCertificate:  fakebackend.StepThing,
		tasktest.FailLineAfterThing:        fakebackend.StepPolicy,
		tasktest.FailLineAfterPolicies:     fakebackend.StepAttachCertificate,
		tasktest.FailLineAfterAttachment:   fakebackend.StepActivate,
		tasktest.FailLineAfterAll:          fakebackend.StepReport,
	} {
		rules[line] = fakebackend.Fault{Line: 2, Step: step, Do: fakebackend.Fail, Times: always}
	}
	if fault == tasktest.ExpireLinks {
		f.backend.Advance(f.backend.Options().LinkLife + time.Second)
		return func() {}, nil
	}
	rule, ok := rules[fault]
	if !ok {
		return nil, errors.ErrUnsupported
	}
	id, err := f.backend.AddFault(rule)
	return func() { f.backend.RemoveFault(id) }, err
}

func TestTheFakePassesInRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes the time that the fake's tasks take; the same cases run in a synctest bubble")
	}
	tasktest.Run(t, func(t *testing.T) tasktest.Harness { t.Parallel(); return newFake(t) })
}

func TestTheFakePassesInASynctestBubble(t *testing.T) {
	for _, c := range tasktest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				require.NoError(t, c.Check(t.Context(), newFake(t)), c.Explanation)
			})
		})
	}
}

func TestAWrappedFakeStillHasItsAbilitiesAndPasses(t *testing.T) {
	for _, c := range tasktest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f = f.wrapped(&hooks{Backend: &hooks{Backend: f.backend}})
				require.NoError(t, c.Check(t.Context(), f), c.Explanation)
			})
		})
	}
}
