package tasktest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

func describeCases() []Case {
	const counts = "Counts must never fall, and Succeeded + Failed must never exceed the lines of the data file."
	const percent = "Percent must lie between 0 and 100, and be 100 once the status is Completed."
	return []Case{
		{"describe/unknown", quoted("DescribeTask", "It must return [ErrNotFound] for an id that is not a task of this account.",
			"A run that is taken up again has to learn that its task is gone, not that the service fails."),
			checkDescribeUnknown},
		{"describe/echo", quoted("DescribeTask", "The bucket, key, role and template of the answer must equal those given to StartTask, byte for byte.",
			"After a lost answer the task is recognised by its key; a key that comes back changed is a task that is never found."),
			checkDescribeEcho},
		{"describe/counts-never-fall", quoted("DescribeTask", counts, "Progress that goes backwards makes people stop a task that is well."),
			checkCountsNeverFall},
		{"describe/counts-within-lines", quoted("DescribeTask", counts, "The report is compared with the counts; too high a count turns a complete report into an incomplete one."),
			checkCountsWithinLines},
		{"describe/percent", quoted("DescribeTask", percent, "Waiting aims at the end that the percentage promises."),
			checkPercent},
		{"describe/ended-stays", quoted("DescribeTask", "Once Status.Done reports true the description must not change again.",
			"Reports are read after the end and compared with the counts of the end."),
			checkEndedStays},
	}
}

func checkDescribeUnknown(b *bench) error {
	return expectNotFound("DescribeTask", func(id task.ID) error { _, err := b.backend.DescribeTask(b.ctx, id); return err })
}

// expectNotFound calls a method with an id that no task has.
func expectNotFound(method string, call func(task.ID) error) error {
	if err := call(unknownTask); !errors.Is(err, task.ErrNotFound) {
		return fmt.Errorf("%s of an unknown task gave %s, which is not ErrNotFound", method, said(err))
	}
	return nil
}

func checkDescribeEcho(b *bench) error {
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	object, err := b.upload(devices)
	if err != nil {
		return err
	}
	t, err := b.start(object)
	if err != nil {
		return err
	}
	in := b.startInput(object)
	for range 2 { // while it runs, perhaps, and after its end
		d, err := t.Describe(b.ctx)
		if err != nil {
			return err
		}
		for _, m := range []struct{ what, given, got string }{
			{"ID", string(t.ID()), string(d.ID)},
			{"InputFileBucket", in.InputFileBucket, d.InputFileBucket},
			{"InputFileKey", in.InputFileKey, d.InputFileKey},
			{"RoleARN", in.RoleARN, d.RoleARN},
			{"TemplateBody", in.TemplateBody, d.TemplateBody},
		} {
			if m.given != m.got {
				return fmt.Errorf("%s was given as %q and described as %q", m.what, m.given, m.got)
			}
		}
		if _, err := t.Wait(b.ctx, b.waiting(nil)); err != nil {
			return err
		}
	}
	return nil
}

// watch runs a task of good and bad lines and shows every state of it.
func (b *bench) watch(see func(d *task.Description, lines int) error) error {
	devices, err := b.newDevices(12)
	if err != nil {
		return err
	}
	spoil(devices)
	t, err := b.begin(devices)
	if err != nil {
		return err
	}
	var seen error
	_, err = t.Wait(b.ctx, b.waiting(func(d *task.Description) {
		if seen == nil {
			seen = see(d, len(devices))
		}
	}))
	if seen != nil {
		return seen
	}
	return err
}

func checkCountsNeverFall(b *bench) error {
	var last task.Description
	return b.watch(func(d *task.Description, _ int) error {
		if d.Succeeded < last.Succeeded || d.Failed < last.Failed {
			return fmt.Errorf("counts fell from %d registered and %d refused to %d and %d", last.Succeeded, last.Failed, d.Succeeded, d.Failed)
		}
		last = *d
		return nil
	})
}

func checkCountsWithinLines(b *bench) error {
	return b.watch(func(d *task.Description, lines int) error {
		if d.Succeeded < 0 || d.Failed < 0 || d.Succeeded+d.Failed > lines {
			return fmt.Errorf("%d registered and %d refused of %d lines", d.Succeeded, d.Failed, lines)
		}
		if d.Status == task.Completed && d.Succeeded+d.Failed != lines {
			return fmt.Errorf("completed with %d registered and %d refused of %d lines", d.Succeeded, d.Failed, lines)
		}
		return nil
	})
}

func checkPercent(b *bench) error {
	return b.watch(func(d *task.Description, _ int) error {
		if d.Percent < 0 || d.Percent > 100 || d.Status == task.Completed && d.Percent != 100 {
			return fmt.Errorf("a task that is %s is at %d%%", d.Status, d.Percent)
		}
		return nil
	})
}

func checkEndedStays(b *bench) error {
	_, t, first, err := b.runSome(2)
	if err != nil {
		return err
	}
	for range 3 {
		if _, err := b.links(t, task.ResultsReport); err != nil {
			return err
		}
		if err := b.pause(300 * time.Millisecond); err != nil {
			return err
		}
		d, err := t.Describe(b.ctx)
		if err != nil {
			return err
		}
		if err := same(first, d); err != nil {
			return err
		}
	}
	return nil
}

// same compares two descriptions of an ended task.
func same(first, later *task.Description) error {
	a, b := *first, *later
	if !a.Created.Equal(b.Created) || !a.LastModified.Equal(b.LastModified) {
		return fmt.Errorf("the dates of an ended task changed from %v, %v to %v, %v", a.Created, a.LastModified, b.Created, b.LastModified)
	}
	a.Created, a.LastModified = b.Created, b.LastModified
	if a != b {
		return fmt.Errorf("an ended task changed from %+v to %+v", *first, *later)
	}
	return nil
}

func listCases() []Case {
	const each = "It must list a task as soon as StartTask has returned its id, each task exactly once over all pages, and return an empty NextToken on the last page."
	return []Case{
		{"list/at-once", quoted("ListTasks", each, "The search for a task whose answer was lost must be able to see it."), checkListAtOnce},
		{"list/each-once", quoted("ListTasks", each, "A task that is skipped between two pages is a task that is started again."), checkListEachOnce},
		{"list/last-page", quoted("ListTasks", each, "A listing without an end is a recovery without an end."), checkListLastPage},
		{"list/page-size", quoted("ListTasks", "A page must hold at most MaxResults ids; it may be empty without being the last.",
			"Callers size their own memory by it."), checkListPageSize},
		{"list/status", quoted("ListTasks", "When a status is asked for, only tasks in that status must be listed.",
			"The search for a running task must not end at an old one."), checkListStatus},
	}
}

func checkListAtOnce(b *bench) error {
	devices, err := b.newDevices(1)
	if err != nil {
		return err
	}
	t, err := b.begin(devices)
	if err != nil {
		return err
	}
	ids, err := b.all("", 0)
	if err == nil && !slices.Contains(ids, t.ID()) {
		err = fmt.Errorf("StartTask returned %s and ListTasks does not have it", t.ID())
	}
	return err
}

func checkListEachOnce(b *bench) error {
	var started []task.ID
	for range 3 {
		_, t, _, err := b.runSome(1)
		if err != nil {
			return err
		}
		started = append(started, t.ID())
	}
	for _, size := range []int{1, 2, 0} {
		ids, err := b.all("", size)
		if err != nil {
			return err
		}
		times := map[task.ID]int{}
		for _, id := range ids {
			times[id]++
		}
		for _, id := range started {
			if times[id] != 1 {
				return fmt.Errorf("task %s is listed %d times over pages of MaxResults %d", id, times[id], size)
			}
		}
	}
	return nil
}

func checkListLastPage(b *bench) error {
	if _, _, _, err := b.runSome(1); err != nil {
		return err
	}
	if _, err := b.all("", 0); err != nil {
		return err
	}
	_, err := b.all(task.Completed, 1)
	return err
}

func checkListPageSize(b *bench) error {
	for range 2 {
		if _, _, _, err := b.runSome(1); err != nil {
			return err
		}
	}
	_, err := b.all("", 1) // compares every page with its size
	return err
}

func checkListStatus(b *bench) error {
	_, t, _, err := b.runSome(1)
	if err != nil {
		return err
	}
	for _, status := range []task.Status{task.InProgress, task.Completed, task.Failed, task.Cancelled, task.Cancelling} {
		ids, err := b.all(status, 0)
		if err != nil {
			return err
		}
		if slices.Contains(ids, t.ID()) != (status == task.Completed) {
			return fmt.Errorf("a task that is Completed: listed under %s is %v", status, !(status == task.Completed))
		}
	}
	return nil
}
