package tasktest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/suitetest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Promises that several cases defend.
const (
	promiseHonour   = "Every method must honour its context: when the context is done before the method has an answer, it returns promptly with an error that wraps the context's cause."
	promiseKinds    = "Errors returned by a Backend must wrap [*Error] when the service answered, and one of this package's Err sentinels whenever one fits."
	promiseSentOnce = "It must send the request at most once, an explicit throttle apart"
	promiseRunning  = "It must refuse with [ErrTaskRunning] while another task of the account is in progress"
	promiseInvalid  = "with [ErrInvalidRequest] when the template is empty, longer than 10,240 characters or not JSON, or a required member is missing."
)

func backendCases() []Case {
	return []Case{
		{"backend/concurrent", quoted("Backend", "A Backend must be safe for concurrent use.",
			"Tasks of several parts are watched and read at the same time; an answer that goes to the wrong caller gives a device the certificate of another."),
			checkConcurrent},
		{"backend/context", quoted("Backend", promiseHonour,
			"A factory tool that is stopped has to stop, and has to be able to say why it did."),
			checkContext},
		{"backend/deadline", quoted("Backend", promiseHonour,
			"A service that never answers would otherwise hold a production line for ever."),
			checkDeadline},
		{"backend/errors", quoted("Backend", promiseKinds,
			"People search for the service's own code and words; programs match the sentinel."),
			checkErrors},
	}
}

func checkConcurrent(b *bench) {
	devices, t, d := b.runSome(3)
	_, other, otherDone := b.runSome(1)
	var wg sync.WaitGroup
	const workers = 8
	errs := make([]error, workers)
	for i := range workers {
		look := func() {
			mine, want, lines := t, d, devices
			if i%2 == 1 {
				mine, want, lines = other, otherDone, nil
			}
			for range 3 {
				got := b.describe(mine)
				if got.ID != want.ID || got.InputFileKey != want.InputFileKey || got.Succeeded != want.Succeeded {
					b.Failf("DescribeTask of %s, called while others call it, answered for %s", mine.ID(), got.ID)
				}
				if lines != nil {
					b.registered(mine, lines)
				}
			}
		}
		wg.Go(func() { errs[i] = suitetest.Try(look) })
	}
	wg.Wait()
	b.OK(errors.Join(errs...))
}

func checkContext(b *bench) {
	devices, t, _ := b.runSome(1)
	object := b.upload(devices)
	links := b.links(t, task.ResultsReport)
	if len(links) == 0 {
		b.Failf("the RESULTS report of a task that registered a line has no link")
	}
	before := b.all("", 0)
	cause := errors.New("stopped by tasktest")
	ctx, cancel := context.WithCancelCause(b.ctx)
	cancel(cause)
	for name, call := range map[string]func() error{
		"StartTask":    func() error { _, err := b.backend.StartTask(ctx, b.startInput(object)); return err },
		"DescribeTask": func() error { _, err := b.backend.DescribeTask(ctx, t.ID()); return err },
		"ListTasks":    func() error { _, err := b.backend.ListTasks(ctx, &task.ListInput{}); return err },
		"ListReports":  func() error { _, err := b.backend.ListReports(ctx, t.ID(), task.ResultsReport, ""); return err },
		"StopTask":     func() error { return b.backend.StopTask(ctx, t.ID()) },
		"Upload": func() error {
			_, err := b.backend.Upload(ctx, input(newKey(), dataFile(devices)))
			return err
		},
		"Open": func() error {
			body, err := b.backend.Open(ctx, links[0], 0)
			if err == nil {
				body.Close()
			}
			return err
		},
	} {
		b.Is(call(), cause, name+" with a cancelled context")
	}
	if found := b.tasksOver(object, before); len(found) > 0 {
		b.Failf("StartTask with a cancelled context started %d tasks", len(found))
	}
}

func checkDeadline(b *bench) {
	_, t, _ := b.runSome(1)
	lift := b.inject(HangDescribe)
	defer lift()
	cause := errors.New("tasktest's patience is at its end")
	ctx, cancel := context.WithTimeoutCause(b.ctx, patience, cause)
	defer cancel()
	start := time.Now()
	_, err := b.backend.DescribeTask(ctx, t.ID())
	b.Is(err, cause, "DescribeTask past its deadline")
	if took := time.Since(start); took > patience+promptly {
		b.Failf("DescribeTask returned %v after its deadline", took-patience)
	}
}

// patience is how long a service that never answers is waited for, promptly how long a method may take to return then.
const (
	patience = 300 * time.Millisecond
	promptly = 5 * time.Second
)

func checkErrors(b *bench) {
	_, err := b.backend.DescribeTask(b.ctx, unknownTask)
	e, ok := errors.AsType[*task.Error](err)
	switch {
	case err == nil:
		b.Failf("DescribeTask of an unknown task returned no error")
	case !ok:
		b.Failf("the error of the service's answer wraps no *task.Error: %w", err)
	case e.Op == "" || e.Code == "":
		b.Failf("the *task.Error lacks the service's operation or code: %+v", *e)
	case e.Kind == nil || !errors.Is(err, e.Kind):
		b.Failf("the *task.Error with code %s has the wrong Kind: %s", e.Code, said(e.Kind))
	case !task.Refused(err):
		b.Failf("the service said no, but Refused is false of it: %w", err)
	}
}

// unknownTask is an id of the right shape that no account has.
const unknownTask task.ID = "00000000-7a5c-4e57-8000-000000000000"

func startCases() []Case {
	return []Case{
		{"start/once", quoted("StartTask", promiseSentOnce,
			"A request that is sent again after a lost answer registers every device of the file a second time, with a second certificate."),
			checkStartOnce},
		{"start/lost-before", quoted("Backend", "An error of [Service.StartTask] for which [Refused] is false leaves it open whether a task was started.",
			"Where no answer came, a claim that it was refused would end the search for the task that may be running."),
			checkStartLost},
		{"start/slow", quoted("Backend", promiseHonour,
			"A start that was given up may still take effect: its error must not say that it was refused, and nothing may be sent again."),
			checkStartSlow},
		{"start/throttled", quoted("StartTask", promiseSentOnce,
			"A throttled start is a definite no that may be tried again: callers must be able to tell it from a lost answer."),
			checkStartThrottled},
		{"start/running", quoted("StartTask", promiseRunning,
			"Whoever queues tasks has to know this refusal from all others: it ends by waiting."),
			checkStartRunning},
		{"start/stopping", quoted("StartTask", promiseRunning,
			"A task keeps its place until its stop is done. Whoever stops one to start another waits for that; any other error would make them give up."),
			checkStartStopping},
		{"start/bad-template", quoted("StartTask", promiseInvalid,
			"A template that cannot work is a fault of the caller; trying again cannot help."),
			checkStartBadTemplate},
		{"start/missing-member", quoted("StartTask", promiseInvalid,
			"A forgotten role or file has to be told from a service that fails."),
			checkStartMissingMember},
		{"start/refusal-leaves-nothing", quoted("StartTask", "A refusal must leave no task behind.",
			"After a refusal callers start again; a task left behind would register every device twice."),
			checkStartRefusal},
	}
}

// startFaulty starts a task with the fault in place and returns the tasks it led to and the error.
func (b *bench) startFaulty(fault Fault) (found []*task.Task, startErr error) {
	return b.startFaultyBy(fault, func(in *task.StartInput) error { _, err := b.backend.StartTask(b.ctx, in); return err })
}

func (b *bench) startFaultyBy(fault Fault, start func(*task.StartInput) error) (found []*task.Task, startErr error) {
	object := b.upload(b.newDevices(2))
	before := b.all("", 0)
	lift := b.inject(fault)
	startErr = start(b.startInput(object))
	lift()
	return b.tasksOver(object, before), startErr
}

func checkStartOnce(b *bench) {
	found, startErr := b.startFaulty(DropStartAfter)
	switch {
	case len(found) != 1:
		b.Failf("StartTask whose answer was lost led to %d tasks; the request was sent once, so one was expected", len(found))
	case startErr == nil:
		b.Failf("StartTask returned no error although no answer came")
	case task.Refused(startErr):
		b.Failf("StartTask started a task and its error is a refusal: %w", startErr)
	}
}

func checkStartLost(b *bench) {
	found, startErr := b.startFaulty(DropStartBefore)
	switch {
	case startErr == nil:
		b.Failf("StartTask returned no error although the connection was closed before every request")
	case task.Refused(startErr):
		b.Failf("no answer came, but the error is a refusal of the service: %w", startErr)
	case len(found) != 0:
		b.Failf("StartTask led to %d tasks although no request took effect", len(found))
	}
}

func checkStartSlow(b *bench) {
	cause := errors.New("tasktest's patience is at its end")
	var took time.Duration
	found, startErr := b.startFaultyBy(HangStart, func(in *task.StartInput) error {
		ctx, cancel := context.WithTimeoutCause(b.ctx, patience, cause)
		defer cancel()
		begin := time.Now()
		_, err := b.backend.StartTask(ctx, in)
		took = time.Since(begin)
		return err
	})
	b.Is(startErr, cause, "StartTask past its deadline")
	switch {
	case task.Refused(startErr):
		b.Failf("no answer came, but the error is a refusal of the service: %w", startErr)
	case took > patience+promptly:
		b.Failf("StartTask returned %v after its deadline", took-patience)
	case len(found) > 1:
		b.Failf("StartTask whose answer never came led to %d tasks; the request was sent once", len(found))
	}
}

func checkStartThrottled(b *bench) {
	found, startErr := b.startFaulty(ThrottleStart)
	b.Is(startErr, task.ErrThrottled, "a throttled StartTask")
	switch {
	case !task.Refused(startErr):
		b.Failf("a throttled StartTask is a definite no, but Refused is false of %w", startErr)
	case len(found) != 0:
		b.Failf("a throttled StartTask left %d tasks behind", len(found))
	}
}

// startSecond starts a task while another one may have the account's place.
func (b *bench) startSecond() (task.ID, error) {
	id, err := b.backend.StartTask(b.ctx, b.startInput(b.upload(b.newDevices(1))))
	if err == nil {
		b.tasks = append(b.tasks, task.Attach(b.backend, id))
	}
	return id, err
}

func checkStartRunning(b *bench) {
	_, first := b.beginLong()
	id, err := b.startSecond()
	switch d := b.describe(first); {
	case d.Status.Done():
		b.skip("the first task ended before a second one could be started; more LinesInProgress are needed")
	case err == nil:
		b.Failf("StartTask started %s while %s is %s", id, first.ID(), d.Status)
	}
	b.Is(err, task.ErrTaskRunning, "StartTask while another task is in progress")
}

func checkStartStopping(b *bench) {
	_, first := b.beginLong()
	b.stop(first)
	if _, err := b.startSecond(); err != nil { // otherwise the stop was done already
		b.Is(err, task.ErrTaskRunning, "StartTask while another task is being cancelled")
	}
}

// checkRefusals starts tasks that have to be refused as invalid.
func (b *bench) checkRefusals(changes map[string]func(*task.StartInput)) {
	object := b.upload(b.newDevices(1))
	for what, change := range changes {
		in := b.startInput(object)
		change(in)
		id, err := b.backend.StartTask(b.ctx, in)
		if err == nil {
			b.tasks = append(b.tasks, task.Attach(b.backend, id))
			b.Failf("StartTask took a request with %s and started %s", what, id)
		}
		b.Is(err, task.ErrInvalidRequest, "StartTask with "+what)
	}
}

func checkStartBadTemplate(b *bench) {
	b.checkRefusals(map[string]func(*task.StartInput){
		"an empty template":                  func(in *task.StartInput) { in.TemplateBody = "" },
		"a template of 10,241 characters":    func(in *task.StartInput) { in.TemplateBody += strings.Repeat(" ", 10241-len([]rune(template))) },
		"a template that is cut off":         func(in *task.StartInput) { in.TemplateBody = template[:len(template)/2] },
		"a template that is not JSON at all": func(in *task.StartInput) { in.TemplateBody = "Resources:" },
	})
}

func checkStartMissingMember(b *bench) {
	b.checkRefusals(map[string]func(*task.StartInput){
		"no bucket": func(in *task.StartInput) { in.InputFileBucket = "" },
		"no key":    func(in *task.StartInput) { in.InputFileKey = "" },
		"no role":   func(in *task.StartInput) { in.RoleARN = "" },
	})
}

func checkStartRefusal(b *bench) {
	object := b.upload(b.newDevices(1))
	before := b.all("", 0)
	in := b.startInput(object)
	in.TemplateBody = "{"
	if _, err := b.backend.StartTask(b.ctx, in); err == nil {
		b.Failf("StartTask took a template that is not JSON")
	}
	if found := b.tasksOver(object, before); len(found) > 0 {
		b.Failf("StartTask refused and left the task %s behind", found[0].ID())
	}
}
