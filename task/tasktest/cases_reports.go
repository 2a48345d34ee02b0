package tasktest

import (
	"bytes"
	"errors"
	"fmt"
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

func checkResults(b *bench) error {
	devices, t, d, err := b.runSome(7)
	if err != nil {
		return err
	}
	if d.Succeeded != len(devices) {
		return fmt.Errorf("%d of %d good lines were registered and %d refused: %s", d.Succeeded, len(devices), d.Failed, d.Message)
	}
	return b.registered(t, devices)
}

func checkErrorLines(b *bench) error {
	devices, err := b.newDevices(7)
	if err != nil {
		return err
	}
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
	t, d, err := b.run(devices)
	if err != nil {
		return err
	}
	if d.Succeeded != len(good) || d.Failed != len(bad) {
		return fmt.Errorf("of %d good and %d bad lines %d were registered and %d refused", len(good), len(bad), d.Succeeded, d.Failed)
	}
	lines := 0
	for e, err := range t.Errors(b.ctx) {
		switch {
		case err != nil:
			return err
		case e.Malformed != nil:
			return e.Malformed
		case e.Message == "":
			return fmt.Errorf("the ERRORS line %s has no message", e.Raw)
		case e.Line != 0 && !bad[e.Line]:
			return fmt.Errorf("the ERRORS line %s is about line %d, which is good or was named before", e.Raw, e.Line)
		}
		delete(bad, e.Line)
		lines++
	}
	if lines != d.Failed {
		return fmt.Errorf("ERRORS has %d lines for %d refused ones", lines, d.Failed)
	}
	return b.registered(t, good)
}

// files reads all files of a report, one by one.
func (b *bench) files(t *task.Task, kind task.ReportType) ([][]byte, error) {
	links, err := b.links(t, kind)
	if err != nil {
		return nil, err
	}
	var files [][]byte
	for _, link := range links {
		file, err := b.read(link, 0)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

func checkReportsAgain(b *bench) error {
	_, t, _, err := b.runSome(7)
	if err != nil {
		return err
	}
	first, err := b.files(t, task.ResultsReport)
	if err != nil {
		return err
	}
	if len(bytes.Join(first, nil)) == 0 {
		return errors.New("the RESULTS report of a task that registered lines is empty")
	}
	for range 3 {
		again, err := b.files(t, task.ResultsReport)
		if err != nil {
			return err
		}
		if len(again) != len(first) {
			return fmt.Errorf("the RESULTS report had %d files and has %d now", len(first), len(again))
		}
		for i := range first {
			if !bytes.Equal(first[i], again[i]) {
				return fmt.Errorf("file %d of the RESULTS report is another one than before", i+1)
			}
		}
	}
	return nil
}

func checkReportsExpired(b *bench) error {
	devices, t, _, err := b.runSome(7)
	if err != nil {
		return err
	}
	old, err := b.links(t, task.ResultsReport)
	if err != nil {
		return err
	}
	lift, err := b.inject(ExpireLinks)
	if err != nil {
		return err
	}
	defer lift()
	if len(old) > 0 {
		if _, err := b.read(old[0], 0); !errors.Is(err, task.ErrLinkExpired) {
			return fmt.Errorf("backend.Open of an expired link gave %s, which is not ErrLinkExpired", said(err))
		}
	}
	return b.registered(t, devices)
}

func checkReportsUnknown(b *bench) error {
	for _, kind := range []task.ReportType{task.ResultsReport, task.ErrorsReport} {
		err := expectNotFound("ListReports", func(id task.ID) error { _, err := b.backend.ListReports(b.ctx, id, kind, ""); return err })
		if err != nil {
			return err
		}
	}
	return nil
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

func checkStopUnknown(b *bench) error {
	return expectNotFound("StopTask", func(id task.ID) error { return b.backend.StopTask(b.ctx, id) })
}

// stopRunning starts a long task, waits until enough lines are registered, stops it and waits for its end.
func (b *bench) stopRunning(enough int) ([]device, *task.Task, *task.Description, error) {
	devices, t, err := b.beginLong()
	if err != nil {
		return nil, nil, nil, err
	}
	var d *task.Description
	for {
		if d, err = t.Describe(b.ctx); err != nil {
			return nil, nil, nil, err
		}
		if d.Status.Done() {
			return nil, nil, nil, &SkipError{"the task ended before it could be stopped; more LinesInProgress are needed"}
		}
		if d.Succeeded >= enough {
			break
		}
		if err := b.pause(100 * time.Millisecond); err != nil {
			return nil, nil, nil, err
		}
	}
	percent := d.Percent
	if err := t.Stop(b.ctx); err != nil {
		return nil, nil, nil, err
	}
	d, err = t.Wait(b.ctx, b.waiting(nil))
	if d != nil && d.Status.Done() {
		err = nil
	}
	if err == nil && d.Status == task.Completed && percent > 50 {
		err = &SkipError{"the task may have completed before the stop reached it; more LinesInProgress are needed"}
	}
	return devices, t, d, err
}

func checkStopCancelled(b *bench) error {
	_, _, d, err := b.stopRunning(0)
	if err == nil && d.Status != task.Cancelled {
		err = fmt.Errorf("a stopped task ended as %s: %s", d.Status, d.Message)
	}
	return err
}

func checkStopKeepsLines(b *bench) error {
	devices, t, d, err := b.stopRunning(2)
	if err != nil {
		return err
	}
	if d.Succeeded < 2 {
		return fmt.Errorf("2 lines were registered before the stop and %d are now", d.Succeeded)
	}
	byKey := map[string]device{}
	for _, dev := range devices {
		byKey[string(dev.key)] = dev
	}
	var found []device
	for r, err := range t.Results(b.ctx) {
		if err != nil {
			return err
		}
		key, err := certificateKey(r.CertificatePEM)
		if err != nil {
			return err
		}
		found = append(found, byKey[string(key)])
	}
	if len(found) != d.Succeeded {
		return fmt.Errorf("%d lines were registered and RESULTS has %d", d.Succeeded, len(found))
	}
	reader, ok := task.As[task.DeviceReader](b.backend)
	if !ok {
		return nil
	}
	for _, dev := range found {
		if _, err := reader.ReadDevice(b.ctx, dev.name); err != nil {
			return fmt.Errorf("a device registered before the stop: %w", err)
		}
	}
	return nil
}

func checkStopEnded(b *bench) error {
	_, t, before, err := b.runSome(2)
	if err != nil {
		return err
	}
	_ = t.Stop(b.ctx) // either answer is allowed
	after, err := t.Describe(b.ctx)
	if err != nil {
		return err
	}
	return same(before, after)
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
