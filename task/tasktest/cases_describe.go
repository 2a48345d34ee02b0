package tasktest

import (
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

func checkDescribeUnknown(b *bench) {
	_, err := b.backend.DescribeTask(b.ctx, unknownTask)
	b.Is(err, task.ErrNotFound, "DescribeTask of an unknown task")
}

func checkDescribeEcho(b *bench) {
	object := b.upload(b.newDevices(1))
	t := b.start(object)
	in := b.startInput(object)
	for range 2 { // while it runs, perhaps, and after its end
		d := b.describe(t)
		for _, m := range []struct{ what, given, got string }{
			{"ID", string(t.ID()), string(d.ID)},
			{"InputFileBucket", in.InputFileBucket, d.InputFileBucket},
			{"InputFileKey", in.InputFileKey, d.InputFileKey},
			{"RoleARN", in.RoleARN, d.RoleARN},
			{"TemplateBody", in.TemplateBody, d.TemplateBody},
		} {
			if m.given != m.got {
				b.Failf("%s was given as %q and described as %q", m.what, m.given, m.got)
			}
		}
		b.ended(t)
	}
}

// watch runs a task of good and bad lines and shows every state of it.
func (b *bench) watch(see func(d *task.Description, lines int)) {
	devices := b.newDevices(12)
	spoil(devices)
	_, err := b.begin(devices).Wait(b.ctx, b.waiting(func(d *task.Description) { see(d, len(devices)) }))
	b.OK(err)
}

func checkCountsNeverFall(b *bench) {
	var last task.Description
	b.watch(func(d *task.Description, _ int) {
		if d.Succeeded < last.Succeeded || d.Failed < last.Failed {
			b.Failf("counts fell from %d registered and %d refused to %d and %d", last.Succeeded, last.Failed, d.Succeeded, d.Failed)
		}
		last = *d
	})
}

func checkCountsWithinLines(b *bench) {
	b.watch(func(d *task.Description, lines int) {
		if d.Succeeded < 0 || d.Failed < 0 || d.Succeeded+d.Failed > lines {
			b.Failf("%d registered and %d refused of %d lines", d.Succeeded, d.Failed, lines)
		}
		if d.Status == task.Completed && d.Succeeded+d.Failed != lines {
			b.Failf("completed with %d registered and %d refused of %d lines", d.Succeeded, d.Failed, lines)
		}
	})
}

func checkPercent(b *bench) {
	b.watch(func(d *task.Description, _ int) {
		if d.Percent < 0 || d.Percent > 100 || d.Status == task.Completed && d.Percent != 100 {
			b.Failf("a task that is %s is at %d%%", d.Status, d.Percent)
		}
	})
}

func checkEndedStays(b *bench) {
	_, t, first := b.runSome(2)
	for range 3 {
		b.links(t, task.ResultsReport)
		b.pause(300 * time.Millisecond)
		b.unchanged(first, b.describe(t))
	}
}

// unchanged compares two descriptions of an ended task.
func (b *bench) unchanged(first, later *task.Description) {
	x, y := *first, *later
	if !x.Created.Equal(y.Created) || !x.LastModified.Equal(y.LastModified) {
		b.Failf("the dates of an ended task changed from %v, %v to %v, %v", x.Created, x.LastModified, y.Created, y.LastModified)
	}
	x.Created, x.LastModified = y.Created, y.LastModified
	if x != y {
		b.Failf("an ended task changed from %+v to %+v", *first, *later)
	}
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

func checkListAtOnce(b *bench) {
	t := b.begin(b.newDevices(1))
	if !slices.Contains(b.all("", 0), t.ID()) {
		b.Failf("StartTask returned %s and ListTasks does not have it", t.ID())
	}
}

func checkListEachOnce(b *bench) {
	var started []task.ID
	for range 3 {
		_, t, _ := b.runSome(1)
		started = append(started, t.ID())
	}
	for _, size := range []int{1, 2, 0} {
		times := map[task.ID]int{}
		for _, id := range b.all("", size) {
			times[id]++
		}
		for _, id := range started {
			if times[id] != 1 {
				b.Failf("task %s is listed %d times over pages of MaxResults %d", id, times[id], size)
			}
		}
	}
}

func checkListLastPage(b *bench) {
	b.runSome(1)
	b.all("", 0)
	b.all(task.Completed, 1)
}

func checkListPageSize(b *bench) {
	b.runSome(1)
	b.runSome(1)
	b.all("", 1) // compares every page with its size
}

func checkListStatus(b *bench) {
	_, t, _ := b.runSome(1)
	for _, status := range []task.Status{task.InProgress, task.Completed, task.Failed, task.Cancelled, task.Cancelling} {
		if slices.Contains(b.all(status, 0), t.ID()) != (status == task.Completed) {
			b.Failf("a task that is Completed: listed under %s is %v", status, !(status == task.Completed))
		}
	}
}
