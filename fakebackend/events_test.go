package fakebackend_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// ended is a context that has ended.
func ended(t testing.TB) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

func TestEventsComeToThoseWhoAskLaterAndToThoseWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, err := fakebackend.New(fakebackend.Options{})
		require.NoError(t, err)
		gate(fake).Record(wire.Event{Kind: "one"})
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := make(chan bool)
		go func() {
			for e := range fake.Events(ctx) {
				got = append(got, fmt.Sprint(e.Number, e.Kind, e.Time.Sub(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))))
			}
			done <- true
		}()
		synctest.Wait()
		time.Sleep(time.Second)
		gate(fake).Record(wire.Event{Kind: "two"})
		synctest.Wait()
		assert.Equal(t, []string{"1one0s", "2two1s"}, got)
		cancel()
		<-done
		assert.Len(t, eventsSoFar(t, fake), 2)
	})
}

func TestASlowReaderHoldsNobodyUpAndLearnsWhatItMissed(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	const kept, n = 4096, 10_000
	record := func(n int) {
		for range n {
			gate(fake).Record(wire.Event{Kind: "x"})
		}
	}
	record(1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []fakebackend.Event
	for e := range fake.Events(ctx) {
		got = append(got, e)
		if len(got) == 1 {
			record(n) // while the reader is busy
		}
		if e.Number == n+1 {
			break
		}
	}
	assert.Equal(t, fakebackend.EventMissed, got[1].Kind)
	assert.Equal(t, fmt.Sprintf("%d events were not read in time", n-kept), got[1].Text)
	assert.Len(t, got, 2+kept)
	for i, e := range got[2:] {
		require.Equal(t, uint64(n-kept+2+i), e.Number)
	}
	assert.Len(t, eventsSoFar(t, fake), kept)
}

func TestAResetForgetsEventsButNotTheirNumbers(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	for range 5000 { // past the end of what is kept
		gate(fake).Record(wire.Event{Kind: "x"})
	}
	fake.Reset()
	gate(fake).Record(wire.Event{Kind: "y"})
	list := eventsSoFar(t, fake)
	require.Len(t, list, 2)
	assert.Equal(t, []any{uint64(5001), fakebackend.EventReset}, []any{list[0].Number, list[0].Kind})
	assert.Equal(t, []any{uint64(5002), "y"}, []any{list[1].Number, list[1].Kind})
	require.NoError(t, fake.Restore(fake.Snapshot()))
	assert.Equal(t, fakebackend.EventRestored, eventsSoFar(t, fake)[0].Kind)
}

func TestAReaderMayStopInTheMiddle(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	for range 3 {
		gate(fake).Record(wire.Event{Kind: "x"})
	}
	for e := range fake.Events(t.Context()) {
		if e.Number == 2 {
			break
		}
	}
}

func TestATaskIsAnEventWhenItStartsAndWhenItEnds(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{Rate: 1})
	id := start(t, fake, role, walkthrough(t), row(t, "a", "1"), "{", row(t, "b", "2"))
	fake.Advance(time.Minute)
	told := 0
	defer gate(fake).Watch(func() { told++ })()
	assert.Equal(t, 2, describe(t, fake, id).Succeeded)
	assert.Equal(t, 1, told, "who looks has the task go on, which changes the account")
	list := eventsSoFar(t, fake)
	require.Len(t, list, 2)
	assert.Equal(t, []any{fakebackend.EventTaskStarted, string(id), monday}, []any{list[0].Kind, list[0].TaskID, list[0].Time})
	assert.Equal(t, []any{fakebackend.EventTaskEnded, string(id), monday.Add(3 * time.Second)}, []any{list[1].Kind, list[1].TaskID, list[1].Time})
	assert.True(t, strings.HasPrefix(list[1].Text, "Completed: 2 of 3 lines registered, 1 failed; line 2: "), list[1].Text)
	assert.False(t, slices.ContainsFunc(list, func(e fakebackend.Event) bool { return strings.Contains(e.Text, "PRIVATE") }))
}
