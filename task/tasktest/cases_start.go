package tasktest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

func backendCases() []Case {
	return []Case{
		{"backend/concurrent", quoted("Backend", "A Backend must be safe for concurrent use.",
			"Tasks of several parts are watched and read at the same time; an answer that goes to the wrong caller gives a device the certificate of another."),
			checkConcurrent},
		{"backend/context", quoted("Backend", "Every method must honour its context: when the context is done before the method has an answer, it returns promptly with an error that wraps the context's cause.",
			"A factory tool that is stopped has to stop, and has to be able to say why it did."),
			checkContext},
		{"backend/deadline", quoted("Backend", "Every method must honour its context: when the context is done before the method has an answer, it returns promptly with an error that wraps the context's cause.",
			"A service that never answers would otherwise hold a production line for ever."),
			checkDeadline},
		{"backend/errors", quoted("Backend", "Errors returned by a Backend must wrap [*Error] when the service answered, and one of this package's Err sentinels whenever one fits.",
			"People search for the service's own code and words; programs match the sentinel."),
			checkErrors},
	}
}

func checkConcurrent(b *bench) error {
	devices, t, d, err := b.runSome(3)
	if err != nil {
		return err
	}
	_, other, otherDone, err := b.runSome(1)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	const workers = 8
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() {
			mine, want, lines := t, d, devices
			if i%2 == 1 {
				mine, want, lines = other, otherDone, nil
			}
			for range 3 {
				got, err := mine.Describe(b.ctx)
				switch {
				case err != nil:
					errs[i] = err
				case got.ID != want.ID || got.InputFileKey != want.InputFileKey || got.Succeeded != want.Succeeded:
					errs[i] = fmt.Errorf("DescribeTask of %s, called while others call it, answered for %s", mine.ID(), got.ID)
				case lines != nil:
					errs[i] = b.registered(mine, lines)
				}
				if errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func checkContext(b *bench) error {
	devices, t, _, err := b.runSome(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	links, err := b.links(t, task.ResultsReport)
	if err != nil {
		return err
	}
	if len(links) == 0 {
		return errors.New("the RESULTS report of a task that registered a line has no link")
	}
	before, err := b.all("", 0)
	if err != nil {
		return err
	}
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
		if err := call(); !errors.Is(err, cause) {
			return fmt.Errorf("%s with a cancelled context gave %s, which does not wrap the context's cause", name, said(err))
		}
	}
	found, err := b.tasksOver(object, before)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("StartTask with a cancelled context started %d tasks", len(found))
	}
	return err
}

func checkDeadline(b *bench) error {
	_, t, _, err := b.runSome(1)
	if err != nil {
		return err
	}
	lift, err := b.inject(HangDescribe)
	if err != nil {
		return err
	}
	defer lift()
	cause := errors.New("tasktest's patience is at its end")
	ctx, cancel := context.WithTimeoutCause(b.ctx, patience, cause)
	defer cancel()
	start := time.Now()
	_, err = b.backend.DescribeTask(ctx, t.ID())
	switch took := time.Since(start); {
	case !errors.Is(err, cause):
		return fmt.Errorf("DescribeTask past its deadline gave %s, which does not wrap the context's cause", said(err))
	case took > patience+promptly:
		return fmt.Errorf("DescribeTask returned %v after its deadline", took-patience)
	}
	return nil
}

// patience is how long a service that never answers is waited for, promptly how long a method may take to return then.
const (
	patience = 300 * time.Millisecond
	promptly = 5 * time.Second
)

func checkErrors(b *bench) error {
	_, err := b.backend.DescribeTask(b.ctx, unknownTask)
	e, ok := errors.AsType[*task.Error](err)
	switch {
	case err == nil:
		return errors.New("DescribeTask of an unknown task gave no error")
	case !ok:
		return fmt.Errorf("the error of the service's answer wraps no *task.Error: %w", err)
	case e.Op == "" || e.Code == "":
		return fmt.Errorf("the *task.Error lacks the service's operation or code: %+v", *e)
	case e.Kind == nil || !errors.Is(err, e.Kind):
		return fmt.Errorf("the *task.Error with code %s has the wrong Kind: %s", e.Code, said(e.Kind))
	case !task.Refused(err):
		return fmt.Errorf("the service said no, but Refused is false of it: %w", err)
	}
	return nil
}

// unknownTask is an id of the right shape that no account has.
const unknownTask task.ID = "00000000-7a5c-4e57-8000-000000000000"

func startCases() []Case {
	return []Case{
		{"start/once", quoted("StartTask", "It must send the request at most once, an explicit throttle apart",
			"A request that is sent again after a lost answer registers every device of the file a second time, with a second certificate."),
			checkStartOnce},
		{"start/lost-before", quoted("Backend", "An error of [Service.StartTask] for which [Refused] is false leaves it open whether a task was started.",
			"Where no answer came, a claim that it was refused would end the search for the task that may be running."),
			checkStartLost},
		{"start/slow", quoted("Backend", "Every method must honour its context: when the context is done before the method has an answer, it returns promptly with an error that wraps the context's cause.",
			"A start that was given up may still take effect: its error must not say that it was refused, and nothing may be sent again."),
			checkStartSlow},
		{"start/throttled", quoted("StartTask", "It must send the request at most once, an explicit throttle apart",
			"A throttled start is a definite no that may be tried again: callers must be able to tell it from a lost answer."),
			checkStartThrottled},
		{"start/running", quoted("StartTask", "It must refuse with [ErrTaskRunning] while another task of the account is in progress",
			"Whoever queues tasks has to know this refusal from all others: it ends by waiting."),
			checkStartRunning},
		{"start/stopping", quoted("StartTask", "It must refuse with [ErrTaskRunning] while another task of the account is in progress",
			"A task keeps its place until its stop is done. Whoever stops one to start another waits for that; any other error would make them give up."),
			checkStartStopping},
		{"start/bad-template", quoted("StartTask", "with [ErrInvalidRequest] when the template is empty, longer than 10,240 characters or not JSON, or a required member is missing.",
			"A template that cannot work is a fault of the caller; trying again cannot help."),
			checkStartBadTemplate},
		{"start/missing-member", quoted("StartTask", "with [ErrInvalidRequest] when the template is empty, longer than 10,240 characters or not JSON, or a required member is missing.",
			"A forgotten role or file has to be told from a service that fails."),
			checkStartMissingMember},
		{"start/refusal-leaves-nothing", quoted("StartTask", "A refusal must leave no task behind.",
			"After a refusal callers start again; a task left behind would register every device twice."),
			checkStartRefusal},
	}
}

// startFaulty starts a task with the fault in place and returns the error and the tasks it led to.
func (b *bench) startFaulty(fault Fault) (startErr error, found []*task.Task, err error) {
	return b.startFaultyBy(fault, func(in *task.StartInput) error { _, err := b.backend.StartTask(b.ctx, in); return err })
}

func (b *bench) startFaultyBy(fault Fault, start func(*task.StartInput) error) (startErr error, found []*task.Task, err error) {
	devices, err := b.newDevices(2)
	if err != nil {
		return nil, nil, err
	}
	object, err := b.upload(devices)
	if err != nil {
		return nil, nil, err
	}
	before, err := b.all("", 0)
	if err != nil {
		return nil, nil, err
	}
	lift, err := b.inject(fault)
	if err != nil {
		return nil, nil, err
	}
	startErr = start(b.startInput(object))
	lift()
	found, err = b.tasksOver(object, before)
	return startErr, found, err
}

func checkStartOnce(b *bench) error {
	startErr, found, err := b.startFaulty(DropStartAfter)
	switch {
	case err != nil:
		return err
	case len(found) != 1:
		return fmt.Errorf("StartTask whose answer was lost led to %d tasks; the request was sent once, so one was expected", len(found))
	case startErr == nil:
		return errors.New("StartTask gave no error although no answer came")
	case task.Refused(startErr):
		return fmt.Errorf("StartTask started a task and its error says that it was refused: %w", startErr)
	}
	return nil
}

func checkStartLost(b *bench) error {
	startErr, found, err := b.startFaulty(DropStartBefore)
	switch {
	case err != nil:
		return err
	case startErr == nil:
		return errors.New("StartTask gave no error although the connection was closed before every request")
	case task.Refused(startErr):
		return fmt.Errorf("no answer came, but the error says that the service refused: %w", startErr)
	case len(found) != 0:
		return fmt.Errorf("StartTask led to %d tasks although no request took effect", len(found))
	}
	return nil
}

func checkStartSlow(b *bench) error {
	cause := errors.New("tasktest's patience is at its end")
	var took time.Duration
	startErr, found, err := b.startFaultyBy(HangStart, func(in *task.StartInput) error {
		ctx, cancel := context.WithTimeoutCause(b.ctx, patience, cause)
		defer cancel()
		begin := time.Now()
		_, err := b.backend.StartTask(ctx, in)
		took = time.Since(begin)
		return err
	})
	switch {
	case err != nil:
		return err
	case !errors.Is(startErr, cause):
		return fmt.Errorf("StartTask past its deadline gave %s, which does not wrap the context's cause", said(startErr))
	case task.Refused(startErr):
		return fmt.Errorf("no answer came, but the error says that the service refused: %w", startErr)
	case took > patience+promptly:
		return fmt.Errorf("StartTask returned %v after its deadline", took-patience)
	case len(found) > 1:
		return fmt.Errorf("StartTask whose answer never came led to %d tasks; the request was sent once", len(found))
	}
	return nil
}

func checkStartThrottled(b *bench) error {
	startErr, found, err := b.startFaulty(ThrottleStart)
	switch {
	case err != nil:
		return err
	case !errors.Is(startErr, task.ErrThrottled):
		return fmt.Errorf("a throttled StartTask gave %s, which is not ErrThrottled", said(startErr))
	case !task.Refused(startErr):
		return fmt.Errorf("a throttled StartTask is a definite no, but Refused is false of %w", startErr)
	case len(found) != 0:
		return fmt.Errorf("a throttled StartTask left %d tasks behind", len(found))
	}
	return nil
}

func checkStartRunning(b *bench) error {
	_, first, err := b.beginLong()
	if err != nil {
		return err
	}
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	id, startErr := b.backend.StartTask(b.ctx, b.startInput(object))
	if startErr == nil {
		b.tasks = append(b.tasks, task.Attach(b.backend, id))
	}
	d, err := first.Describe(b.ctx)
	switch {
	case err != nil:
		return err
	case d.Status.Done():
		return &SkipError{"the first task ended before a second one could be started; more LinesInProgress are needed"}
	case startErr == nil:
		return fmt.Errorf("StartTask started %s while %s is %s", id, first.ID(), d.Status)
	case !errors.Is(startErr, task.ErrTaskRunning):
		return fmt.Errorf("StartTask while another task is in progress gave the error %w, which is not ErrTaskRunning", startErr)
	}
	return nil
}

func checkStartStopping(b *bench) error {
	_, first, err := b.beginLong()
	if err != nil {
		return err
	}
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	if err := first.Stop(b.ctx); err != nil {
		return err
	}
	id, err := b.backend.StartTask(b.ctx, b.startInput(object))
	if err == nil { // the stop was done already
		b.tasks = append(b.tasks, task.Attach(b.backend, id))
		return nil
	}
	if !errors.Is(err, task.ErrTaskRunning) {
		return fmt.Errorf("StartTask while another task is being cancelled gave the error %w, which is not ErrTaskRunning", err)
	}
	return nil
}

// checkRefusals starts tasks that have to be refused as invalid.
func (b *bench) checkRefusals(changes map[string]func(*task.StartInput)) error {
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	for what, change := range changes {
		in := b.startInput(object)
		change(in)
		id, err := b.backend.StartTask(b.ctx, in)
		if err == nil {
			b.tasks = append(b.tasks, task.Attach(b.backend, id))
			return fmt.Errorf("StartTask took a request with %s and started %s", what, id)
		}
		if !errors.Is(err, task.ErrInvalidRequest) {
			return fmt.Errorf("StartTask with %s gave the error %w, which is not ErrInvalidRequest", what, err)
		}
	}
	return nil
}

func checkStartBadTemplate(b *bench) error {
	return b.checkRefusals(map[string]func(*task.StartInput){
		"an empty template":                  func(in *task.StartInput) { in.TemplateBody = "" },
		"a template of 10,241 characters":    func(in *task.StartInput) { in.TemplateBody += strings.Repeat(" ", 10241-len([]rune(template))) },
		"a template that is cut off":         func(in *task.StartInput) { in.TemplateBody = template[:len(template)/2] },
		"a template that is not JSON at all": func(in *task.StartInput) { in.TemplateBody = "Resources:" },
	})
}

func checkStartMissingMember(b *bench) error {
	return b.checkRefusals(map[string]func(*task.StartInput){
		"no bucket": func(in *task.StartInput) { in.InputFileBucket = "" },
		"no key":    func(in *task.StartInput) { in.InputFileKey = "" },
		"no role":   func(in *task.StartInput) { in.RoleARN = "" },
	})
}

func checkStartRefusal(b *bench) error {
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	before, err := b.all("", 0)
	if err != nil {
		return err
	}
	in := b.startInput(object)
	in.TemplateBody = "{"
	if _, err := b.backend.StartTask(b.ctx, in); err == nil {
		return errors.New("StartTask took a template that is not JSON")
	}
	found, err := b.tasksOver(object, before)
	if err == nil && len(found) > 0 {
		err = fmt.Errorf("StartTask refused and left the task %s behind", found[0].ID())
	}
	return err
}
