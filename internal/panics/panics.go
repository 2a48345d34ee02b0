// Package panics carries a panic from a goroutine to the caller that waits for it. What a user's callback panics with in
// a goroutine of ours would otherwise end the whole program, and nobody could recover from it.
package panics

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// Error is a panic of another goroutine.
type Error struct {
	Value any    // what was panicked with; nil when the goroutine was ended by runtime.Goexit
	Stack []byte // of that goroutine
}

// Error returns the panic's value and its stack.
func (e *Error) Error() string {
	if e.Value == nil {
		return "a callback called runtime.Goexit in a goroutine that was not its own"
	}
	return fmt.Sprintf("a callback panicked: %v\n\n%s", e.Value, e.Stack)
}

// Unwrap returns the panic's value if it is an error.
func (e *Error) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Guard keeps the first panic of several goroutines.
type Guard struct {
	cancel func()
	mu     sync.Mutex
	first  *Error
}

// NewGuard makes a Guard that calls cancel after a panic, so that the other goroutines end, too.
func NewGuard(cancel func()) *Guard { return &Guard{cancel: cancel} }

// Do calls f in the goroutine that it is called in. A panic of f is kept, and returned as an [*Error].
func (g *Guard) Do(f func() error) (err error) {
	normal := false
	defer func() {
		if normal {
			return
		}
		p := &Error{recover(), debug.Stack()}
		g.mu.Lock()
		if g.first == nil {
			g.first = p
		}
		g.mu.Unlock()
		g.cancel()
		err = p
	}()
	err = f()
	normal = true
	return err
}

// Raise panics with the first panic that was kept, if there is one. It is called when every goroutine has ended.
func (g *Guard) Raise() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.first != nil {
		panic(g.first)
	}
}
