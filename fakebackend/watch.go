package fakebackend

import (
	"maps"
	"slices"
	"sync"
)

// watchers are the functions to call when the account has changed. Its lock is not held while they run.
type watchers struct {
	mu    sync.Mutex
	calls map[int]func()
	last  int
}

func (w *watchers) add(f func()) (stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last++
	id := w.last
	if w.calls == nil {
		w.calls = make(map[int]func())
	}
	w.calls[id] = f
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.calls, id)
	}
}

func (w *watchers) call() {
	w.mu.Lock()
	calls := slices.Collect(maps.Values(w.calls))
	w.mu.Unlock()
	for _, f := range calls {
		f()
	}
}
