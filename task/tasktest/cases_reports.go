package tasktest

import (
	"bytes"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

func reportCases() []Case {
	const lines = "The files behind the links of all pages, in order, must hold exactly one line for each line of the data file that ended that way: RESULTS those that were registered, ERRORS those that were refused."
	const again = "Every call must return links that can be opened now, so a caller whose link has expired lists again and finds the same files in the same order."
	return []Case{
		{"reports/results", quoted("ListReports", lines, "A registered line that is missing from the report is a device without its certificate."), checkResults},
		{"reports/errors", quoted("ListReports", lines, "A refused line that is missing is a device nobody knows about."), checkErrorLines},
		{"reports/again", quoted("ListReports", again, "Reading goes on at the same byte of the same file; another order would mix two devices."), checkReportsAgain},
		{"reports/expired", quoted("ListReports", again, "Links end while a long report is read."), checkReportsExpired},
		{"reports/unknown", quoted("ListReports", "It must return [ErrNotFound] for an unknown task.",
			"An empty report of a task that is not there would read as a task that registered nothing."), checkReportsUnknown},
	}
}

func checkResults(b *bench) {
	devices, t, d := b.runSome(7)
	if d.Succeeded != len(devices) {
		b.Failf("%d of %d good lines were registered and %d refused: %s", d.Succeeded, len(devices), d.Failed, d.Message)
	}
	b.registered(t, devices)
}

func checkErrorLines(b *bench) {
	devices := b.newDevices(7)
	spoil(devices)
	var good []device
	bad := map[int64]bool{} // by line number
	for i, d := range devices {
		if d.refuse {
			bad[int64(i+1)] = true
		} else {
			good = append(good, d)
		}
	}
	t, d := b.run(devices)
	if d.Succeeded != len(good) || d.Failed != len(bad) {
		b.Failf("of %d good and %d bad lines %d were registered and %d refused", len(good), len(bad), d.Succeeded, d.Failed)
	}
	lines := b.refusals(t)
	for _, e := range lines {
		if e.Line != 0 && !bad[e.Line] {
			b.Failf("the ERRORS line %s is about line %d, which is good or was named before", e.Raw, e.Line)
		}
		delete(bad, e.Line)
	}
	if len(lines) != d.Failed {
		b.Failf("ERRORS has %d lines for %d refused ones", len(lines), d.Failed)
	}
	b.registered(t, good)
}

// files reads all files of a report, one by one.
func (b *bench) files(t *task.Task, kind task.ReportType) (files [][]byte) {
	for _, link := range b.links(t, kind) {
		files = append(files, b.read(link, 0))
	}
	return files
}

func checkReportsAgain(b *bench) {
	_, t, _ := b.runSome(7)
	first := b.files(t, task.ResultsReport)
	if len(bytes.Join(first, nil)) == 0 {
		b.Failf("the RESULTS report of a task that registered lines is empty")
	}
	for range 3 {
		again := b.files(t, task.ResultsReport)
		if len(again) != len(first) {
			b.Failf("the RESULTS report had %d files and has %d now", len(first), len(again))
		}
		for i := range first {
			if !bytes.Equal(first[i], again[i]) {
				b.Failf("file %d of the RESULTS report is another one than before", i+1)
			}
		}
	}
}

func checkReportsExpired(b *bench) {
	devices, t, _ := b.runSome(7)
	old := b.links(t, task.ResultsReport)
	lift := b.inject(ExpireLinks)
	defer lift()
	if len(old) > 0 {
		_, err := b.tryRead(old[0], 0)
		b.Is(err, task.ErrLinkExpired, "backend.Open of an expired link")
	}
	b.registered(t, devices)
}

func checkReportsUnknown(b *bench) {
	for _, kind := range []task.ReportType{task.ResultsReport, task.ErrorsReport} {
		_, err := b.backend.ListReports(b.ctx, unknownTask, kind, "")
		b.Is(err, task.ErrNotFound, "ListReports of an unknown task")
	}
}

func stopCases() []Case {
	return []Case{
		{"stop/unknown", quoted("StopTask", "It must return [ErrNotFound] for an unknown task.",
			"A stop that went nowhere must not look like one that worked."), checkStopUnknown},
		{"stop/cancelled", quoted("StopTask", "A stopped task must end as Cancelled without further calls.",
			"A task that stays Cancelling keeps the account's only place."), checkStopCancelled},
		{"stop/keeps-lines", quoted("StopTask", "Lines already registered must stay registered and stay in the reports.",
			"A device that was registered before the stop has a certificate; without the report nobody has it."), checkStopKeepsLines},
		{"stop/ended", quoted("StopTask", "Stopping a task that has ended must not change it; whether it is an error is up to the service.",
			"A stop that comes too late must not turn a success into a failure."), checkStopEnded},
	}
}

func checkStopUnknown(b *bench) {
	b.Is(b.backend.StopTask(b.ctx, unknownTask), task.ErrNotFound, "StopTask of an unknown task")
}

// stop stops a task, and skips the case if that completed before: in real time nobody can be sure to come in time.
func (b *bench) stop(t *task.Task) {
	err := t.Stop(b.ctx) // of a task that has ended, it is up to the service whether that is an error
	if b.describe(t).Status == task.Completed {
		b.skip("the task completed before the stop reached it; more LinesInProgress are needed")
	}
	b.OK(err)
}

// stopRunning starts a long task, waits until enough lines are registered, stops it and waits for its end.
func (b *bench) stopRunning(enough int) ([]device, *task.Task, *task.Description) {
	devices, t := b.beginLong()
	for d := b.describe(t); d.Succeeded < enough && !d.Status.Done(); d = b.describe(t) {
		b.pause(100 * time.Millisecond)
	}
	b.stop(t)
	return devices, t, b.ended(t)
}

func checkStopCancelled(b *bench) {
	if _, _, d := b.stopRunning(0); d.Status != task.Cancelled {
		b.Failf("a stopped task ended as %s: %s", d.Status, d.Message)
	}
}

func checkStopKeepsLines(b *bench) {
	devices, t, d := b.stopRunning(2)
	if d.Succeeded < 2 {
		b.Failf("2 lines were registered before the stop and %d are now", d.Succeeded)
	}
	byKey := map[string]device{}
	for _, dev := range devices {
		byKey[string(dev.key)] = dev
	}
	var found []device
	for _, r := range b.results(t) {
		key, err := certificateKey(r.CertificatePEM)
		b.OK(err)
		found = append(found, byKey[string(key)])
	}
	if len(found) != d.Succeeded {
		b.Failf("%d lines were registered and RESULTS has %d", d.Succeeded, len(found))
	}
	if reader, ok := task.As[task.DeviceReader](b.backend); ok {
		for _, dev := range found {
			_, err := reader.ReadDevice(b.ctx, dev.name)
			b.OK(err, "a device registered before the stop")
		}
	}
}

func checkStopEnded(b *bench) {
	_, t, before := b.runSome(2)
	_ = t.Stop(b.ctx) // either answer is allowed
	b.unchanged(before, b.describe(t))
}

// badLink changes the signed part of a link.
func badLink(link task.Link) task.Link {
	url := link.URL()
	if url == "" {
		return link
	}
	last := "0"
	if strings.HasSuffix(url, last) {
		last = "1"
	}
	return task.NewLink(url[:len(url)-1] + last)
}
