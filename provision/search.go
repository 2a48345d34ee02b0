package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// look looks for a task on the part's own data file, whose key no other part ever has. It looks until the settle window
// is over, because a request whose answer was lost may still take effect; if there is no task by then, none was
// started. If the service could not be asked after the end of the window, it returns ErrStartUnknown rather than let
// the task be started twice.
func (ts *tasks) look(ctx context.Context, p *part) (found bool, err error) {
	state := lookState{until: time.Now().Add(ts.settleWindow)}
	s, err := ts.newSearch(ctx, p)
	if err != nil {
		return false, err
	}
	ts.observe(EventStartLost{Part: p.Number, Until: state.until})
	var pause pauser
	for {
		began := time.Now()
		id, err := s.find(ctx)
		answer := lookNone
		switch {
		case err == nil && id != "":
			answer = lookFound
		case ctx.Err() != nil:
			return false, context.Cause(ctx)
		case err != nil && task.Refused(err) && !errors.Is(err, task.ErrThrottled):
			answer = lookForbidden
		case err != nil:
			answer = lookFailed
		}
		var action lookAction
		state, action = decideLook(state, began, answer)
		switch action {
		case lookTake:
			return true, ts.started(ctx, p, id, true)
		case lookEnd:
			return false, nil
		case lookBlind:
			return false, fmt.Errorf("%w: the answer was lost, and looking for a task on s3://%s/%s failed; run again once that works: %w",
				ErrStartUnknown, p.Bucket, p.Key, err)
		}
		if err := pause.wait(ctx); err != nil {
			return false, err
		}
	}
}

// search looks for a part's task among all tasks of the account. In which order AWS lists them is not documented, so
// every task counts, but none is described twice.
type search struct {
	tasks  *tasks
	part   *part
	others map[task.ID]bool // known to be other parts' or somebody else's
}

func (ts *tasks) newSearch(ctx context.Context, p *part) (*search, error) {
	records, err := ts.ledger.Parts(ctx)
	if err != nil {
		return nil, err
	}
	s := &search{tasks: ts, part: p, others: map[task.ID]bool{}}
	for _, rec := range records {
		if rec.TaskID != "" && rec.Number != p.Number {
			s.others[rec.TaskID] = true
		}
	}
	return s, nil
}

// find returns the id of the task on the part's data file, "" if there is none.
func (s *search) find(ctx context.Context) (task.ID, error) {
	for id, err := range task.List(ctx, s.tasks.backend, "") {
		if err != nil {
			return "", err
		}
		if s.others[id] {
			continue
		}
		d, err := task.Attach(s.tasks.backend, id).Describe(ctx)
		switch {
		case errors.Is(err, task.ErrNotFound): // not to be seen yet, or forgotten between the two calls
			continue
		case err != nil:
			return "", err
		case isTaskOf(d, s.part):
			return id, nil
		}
		s.others[id] = true
	}
	return "", nil
}

// unrecorded are the tasks of this run that the ledger does not know, because it is an older copy, or an answer was lost.
type unrecorded struct {
	byFile map[string]task.ID // by data file
	other  *task.Description  // one whose part the ledger does not know, either; if one is in progress, that; or nil
	err    error              // why there may be more
}

// findUnrecorded lists the account's tasks, once in a call, and describes those that the ledger does not know. A part that
// an earlier process left uploaded has none, unless the ledger is an older copy: then its task was started after the copy
// was made, and a second one would give each device a second certificate.
func (ts *tasks) findUnrecorded(ctx context.Context, p *part) (*unrecorded, error) {
	if ts.unrecorded == nil {
		found := &unrecorded{byFile: map[string]task.ID{}}
		found.err = ts.listUnrecorded(ctx, p, found)
		ts.unrecorded = found
	}
	return ts.unrecorded, ts.unrecorded.err
}

func (ts *tasks) listUnrecorded(ctx context.Context, p *part, found *unrecorded) error {
	s, err := ts.newSearch(ctx, p)
	if err != nil {
		return err
	}
	var ours []*task.Description // of this run
	err = retry(ctx, func() error {
		for id, err := range task.List(ctx, ts.backend, "") {
			if err != nil {
				return err
			}
			if s.others[id] {
				continue
			}
			d, err := task.Attach(ts.backend, id).Describe(ctx)
			if err != nil && !errors.Is(err, task.ErrNotFound) {
				return err
			}
			s.others[id] = true
			if err == nil && strings.Contains("/"+d.InputFileKey, "/"+ts.record.ID+"/") {
				ours = append(ours, d)
			}
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("%w: an earlier process left it uploaded, and looking whether it has a task failed; run again once that works: %w",
			ErrStartUnknown, err)
	}
	records, err := ts.ledger.Parts(ctx)
	if err != nil {
		return err
	}
	for _, d := range ours {
		known := slices.ContainsFunc(records, func(rec *PartRecord) bool {
			return strings.HasSuffix(d.InputFileKey, rec.SHA256+".json") || isTaskOf(d, &part{PartRecord: rec})
		})
		if !known && (found.other == nil || !d.Status.Done()) {
			found.other = d
		}
		if file := d.InputFileBucket + "/" + d.InputFileKey; found.byFile[file] == "" {
			found.byFile[file] = d.ID
		}
	}
	return nil
}

func isTaskOf(d *task.Description, p *part) bool {
	return d.InputFileBucket == p.Bucket && d.InputFileKey == p.Key
}

// inProgress returns the account's task that is in progress; nil when there is none any more.
func (ts *tasks) inProgress(ctx context.Context) (*task.Description, error) {
	for _, status := range []task.Status{task.InProgress, task.Cancelling} {
		for id, err := range task.List(ctx, ts.backend, status) {
			if err != nil {
				return nil, err
			}
			if d, err := task.Attach(ts.backend, id).Describe(ctx); err == nil || !errors.Is(err, task.ErrNotFound) {
				return d, err
			}
		}
	}
	return nil, nil
}

func foreignError(err error, other *task.Description) error {
	if other == nil {
		return fmt.Errorf("%w; wait for it to end, or let the run wait (Options.Foreign)", err)
	}
	return fmt.Errorf("%w: it is task %s over s3://%s/%s with role %s, begun %s; wait for it to end, or let the run wait (Options.Foreign)",
		err, other.ID, other.InputFileBucket, other.InputFileKey, other.RoleARN, other.Created.UTC().Format(time.RFC3339))
}
