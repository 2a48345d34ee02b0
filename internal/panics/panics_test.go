package panics_test

import (
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/panics"
)

var errFault = errors.New("a fault")

func raised(g *panics.Guard) (p *panics.Error) {
	defer func() { p, _ = recover().(*panics.Error) }()
	g.Raise()
	return nil
}

func TestTheFirstPanicIsRaisedAgainWithItsStack(t *testing.T) {
	canceled := 0
	g := panics.NewGuard(func() { canceled++ })
	require.NoError(t, g.Do(func() error { return nil }))
	assert.Equal(t, errFault, g.Do(func() error { return errFault }), "an error is no panic")
	assert.Nil(t, raised(g))
	require.Zero(t, canceled)
	err := g.Do(func() error { panic(errFault) })
	require.ErrorIs(t, err, errFault)
	_ = g.Do(func() error { panic("another") })
	p := raised(g)
	require.NotNil(t, p)
	assert.Equal(t, errFault, p.Value)
	assert.Contains(t, p.Error(), "panics_test.go")
	assert.Equal(t, 2, canceled)
}

func TestAGoroutineThatIsEndedIsNoticed(t *testing.T) {
	g := panics.NewGuard(func() {})
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Do(func() error { runtime.Goexit(); return nil }) })
	wg.Wait()
	p := raised(g)
	require.NotNil(t, p)
	assert.Contains(t, p.Error(), "Goexit")
}
