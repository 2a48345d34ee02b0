package fleet

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTheFirstNumberOfANameStays(t *testing.T) {
	var f firsts
	names := []string{"", "a", "A", "device:1", strings.Repeat("x", 1_000_000), "\x00", "\xff"}
	for i, name := range names {
		first, known := f.add(name, int64(i))
		assert.False(t, known)
		assert.Equal(t, int64(i), first)
	}
	for i, name := range names {
		first, known := f.add(name, 100)
		assert.True(t, known)
		assert.Equal(t, int64(i), first)
	}
	first, known := f.find("A")
	assert.True(t, known)
	assert.EqualValues(t, 2, first)
	_, known = f.find("b")
	assert.False(t, known)
}

func TestAMillionNamesFitInTheMemoryThatIsPromised(t *testing.T) {
	live := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	var f firsts
	before := live()
	for i := range int64(600_000) {
		_, known := f.add(fmt.Sprintf("a-rather-long-name-of-a-device-that-is-not-kept-%d", i), i)
		require.False(t, known)
		if i&(i-1) == 0 || i%50_000 == 0 {
			require.Less(t, live()-before, i*bytesPerEntry+64<<10, "%d names", i)
		}
	}
	runtime.KeepAlive(&f)
}

func TestNamesAreAddedByManyGoroutines(t *testing.T) {
	var f firsts
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := 0
	for range 4 {
		wg.Go(func() {
			for i := range int64(2000) {
				if _, known := f.add(fmt.Sprint(i), i); !known {
					mu.Lock()
					fresh++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	assert.Equal(t, 2000, fresh)
}
