package provision_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// preflights counts how often the account is looked at, and answers in place of it.
type preflights struct {
	task.Backend
	asked  []*task.PreflightInput
	answer func(ctx context.Context) (finding.List, error) // nil: the account's own
}

func (p *preflights) Unwrap() task.Backend { return p.Backend }

func (p *preflights) Preflight(ctx context.Context, in *task.PreflightInput) (finding.List, error) {
	p.asked = append(p.asked, in)
	if p.answer != nil {
		return p.answer(ctx)
	}
	own, _ := task.As[task.Preflighter](p.Backend)
	return own.Preflight(ctx, in)
}

func (w *world) makeType(t *testing.T, name string) {
	t.Helper()
	_, err := awsIoT(w.fake).CreateThingType(t.Context(), &iot.CreateThingTypeInput{ThingTypeName: &name})
	require.NoError(t, err)
}

func allOf(kinds ...string) iter.Seq2[provision.Device, error] {
	var devices []provision.Device
	for i, kind := range kinds {
		devices = append(devices, ofType(fmt.Sprintf("device-%d", i), kind))
	}
	return provision.Devices(devices...)
}

func TestARunWhoseEveryDeviceWouldFailSendsNothing(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	devices := allOf("gone", "lost", "gone")
	for range 2 {
		_, err := w.run(t).Run(t.Context(), devices)
		require.ErrorIs(t, err, provision.ErrPreflight)
		for _, what := range []string{"gone", "lost", "create it first", "SkipPreflight"} {
			assert.ErrorContains(t, err, what, "one error with all of it, and what to do")
		}
		f, ok := errors.AsType[*finding.Finding](err)
		require.True(t, ok)
		assert.EqualValues(t, "thing-type", f.Rule)
		told, ok := w.events[len(w.events)-1].(provision.EventPreflight)
		require.True(t, ok)
		assert.True(t, told.Stops, "whoever shows findings need not show those of the error")
	}
	assert.Empty(t, slices.Collect(taskIDs(t, w.fake)))
	assert.Zero(t, countCertificates(t, w.fake), "the lines would have left one each")

	w.makeType(t, "gone")
	w.makeType(t, "lost")
	run := w.run(t)
	_, err := run.Run(t.Context(), devices)
	require.NoError(t, err, "the account is asked again as long as something is wrong")
	w.requireWorking(t, results(t, run))
}

func TestTheAccountIsLookedAtOnceForATemplateAndARole(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	looks := &preflights{Backend: w.fake}
	w.opts.Backend = looks
	devices := allOf("known", "gone")
	_, err := w.run(t).Run(t.Context(), devices)
	require.ErrorIs(t, err, provision.ErrIncomplete, "one of them can be registered, so the run goes on")
	require.NotErrorIs(t, err, provision.ErrPreflight)
	require.Len(t, looks.asked, 1)
	assert.Equal(t, []string{"gone", "known"}, looks.asked[0].ThingTypes, "with the names of the rows")
	assert.Equal(t, w.opts.RoleARN, looks.asked[0].RoleARN)

	w.makeType(t, "gone")
	_, err = w.run(t).Retry(t.Context())
	require.NoError(t, err)
	assert.Len(t, looks.asked, 1, "and not again with the same template and role")

	role, err := w.fake.EnsureRole(t.Context(), &task.RoleInput{Name: "another"})
	require.NoError(t, err)
	w.opts.RoleARN = role
	w.complete(t, devices)
	assert.Len(t, looks.asked, 1, "nothing is to be sent")
}

func TestWhatIsWrongWithTheAccountItselfStopsARun(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.opts.RoleARN = "arn:aws:iam::123456789012:role/nobody"
	_, err := w.run(t).Run(t.Context(), allOf("known", "gone"))
	require.ErrorIs(t, err, provision.ErrPreflight)
	assert.ErrorContains(t, err, "nobody")
	assert.ErrorContains(t, err, "gone", "what would not stop the run by itself is to be mended, too")

	w.opts.SkipPreflight = true
	_, err = w.run(t).Run(t.Context(), allOf("known", "gone"))
	require.Error(t, err)
	require.NotErrorIs(t, err, provision.ErrPreflight)
}

func TestWhatCanNotBeLookedAtStopsNothing(t *testing.T) {
	for name, answer := range map[string]func(context.Context) (finding.List, error){
		"may not be read": func(context.Context) (finding.List, error) {
			return finding.List{{Rule: "role", Severity: finding.Unknown, Message: "could not check: missing permission iam:GetRole"}}, nil
		},
		"doubtful": func(context.Context) (finding.List, error) {
			return finding.List{{Rule: "bucket-public", Severity: finding.Warning, Message: "the bucket does not block public access"}}, nil
		},
		"the check failed": func(context.Context) (finding.List, error) { return nil, task.ErrUnavailable },
		"no answer": func(ctx context.Context) (finding.List, error) {
			<-ctx.Done()
			return nil, context.Cause(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				w.opts.Backend = &preflights{Backend: w.fake, answer: answer}
				began := time.Now()
				w.requireWorking(t, results(t, w.complete(t, rows(3))))
				assert.Less(t, time.Since(began), 5*time.Minute)
				told := 0
				for _, e := range w.events {
					if e, ok := e.(provision.EventPreflight); ok {
						told++
						assert.False(t, e.Stops)
						assert.True(t, len(e.Findings) > 0 || e.Err != nil)
					}
				}
				assert.Equal(t, 1, told)
			})
		})
	}
}

func TestSubmitLooksAtTheAccountToo(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	w.durable(t)
	run := w.run(t)
	_, err := run.Prepare(t.Context(), allOf("gone"))
	require.NoError(t, err)
	require.ErrorIs(t, run.Submit(t.Context()), provision.ErrPreflight)
	assert.Empty(t, slices.Collect(taskIDs(t, w.fake)))
	w.makeType(t, "gone")
	require.NoError(t, run.Submit(t.Context()))
	_, err = run.Collect(t.Context())
	require.NoError(t, err)
}

func TestTheNamesThatAreAskedForAreBounded(t *testing.T) {
	w := typedWorld(t, fakebackend.Options{})
	looks := &preflights{Backend: w.fake}
	w.opts.Backend = looks
	kinds := make([]string, 60)
	for i := range kinds {
		kinds[i] = fmt.Sprintf("gone-%02d", i)
	}
	_, err := w.run(t).Run(t.Context(), allOf(kinds...))
	require.ErrorIs(t, err, provision.ErrIncomplete, "not every device was looked at, so the run is not stopped")
	require.NotErrorIs(t, err, provision.ErrPreflight)
	assert.Len(t, looks.asked[0].ThingTypes, 50)
}
