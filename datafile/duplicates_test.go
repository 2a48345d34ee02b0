package datafile_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
)

func TestDuplicatesNamesTheRowThatCameFirst(t *testing.T) {
	var d datafile.Duplicates
	names := []string{"", "a", "A", "device:1", strings.Repeat("x", 1_000_000), "\x00", "\xff"}
	for i, name := range names {
		first, dup := d.AddThing(name, int64(i))
		assert.False(t, dup)
		assert.Equal(t, int64(i), first)
	}
	for i, name := range names {
		for range 2 {
			first, dup := d.AddThing(name, 100)
			assert.True(t, dup)
			assert.Equal(t, int64(i), first)
		}
	}
	// A key is not a name, whatever its bytes are.
	digest := sha256.Sum256(nil)
	_, dup := d.AddThing(string(digest[:]), 7)
	assert.False(t, dup)
	first, dup := d.AddKey(digest, 8)
	assert.False(t, dup)
	assert.Equal(t, int64(8), first)
	first, dup = d.AddKey(digest, 9)
	assert.True(t, dup)
	assert.Equal(t, int64(8), first)
	things, keys := d.Len()
	assert.Equal(t, []int{len(names) + 1, 1}, []int{things, keys})
}

func TestDuplicatesKeepsEveryEntryWhileItGrows(t *testing.T) {
	var d datafile.Duplicates
	const n = 60_000
	for i := range int64(n) {
		first, dup := d.AddThing(fmt.Sprintf("device-%d", i), i)
		require.False(t, dup, "device-%d is taken for the one of row %d", i, first)
	}
	for i := range int64(n) {
		first, dup := d.AddThing(fmt.Sprintf("device-%d", i), -1)
		require.True(t, dup)
		require.Equal(t, i, first)
	}
	things, keys := d.Len()
	assert.Equal(t, []int{n, 0}, []int{things, keys})
}

func TestDuplicatesCostsNoMoreThanItSays(t *testing.T) {
	const n = 300_000
	var d datafile.Duplicates
	grown := heapGrowth(func(look func()) {
		for i := range int64(n) {
			name := fmt.Sprintf("a-rather-long-name-of-a-device-that-is-not-kept-%d", i)
			if _, dup := d.AddThing(name, i); dup {
				t.Fatal("duplicate")
			}
			if _, dup := d.AddKey(sha256.Sum256([]byte(name)), i); dup {
				t.Fatal("duplicate")
			}
			most := 2*i*datafile.BytesPerEntry + 48<<10
			if m := d.Memory(); m > most {
				t.Fatalf("%d bytes for %d devices", m, i)
			}
		}
		look()
	})
	assert.Less(t, grown, int64(2*n*datafile.BytesPerEntry+48<<10))
	assert.InDelta(t, d.Memory(), grown, 0.05*float64(grown), "Memory says what the heap says")
}

func TestDuplicatesCanBeUsedByManyGoroutines(t *testing.T) {
	var d datafile.Duplicates
	var wg sync.WaitGroup
	var mu sync.Mutex
	fresh := 0
	for range 4 {
		wg.Go(func() {
			for i := range int64(2000) {
				if _, dup := d.AddThing(fmt.Sprint(i), i); !dup {
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
