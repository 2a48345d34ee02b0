package datafile

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

func TestEntriesAreOneOnlyIfAllOfTheirHashIs(t *testing.T) {
	assert.Equal(t, uintptr(bytesPerEntry), unsafe.Sizeof(entry{}))
	var s entrySet
	for i, e := range []entry{{hi: 1, lo: 1}, {hi: 1, lo: 2}, {hi: 1 + entryParts, lo: 1}, {hi: 2, lo: 1}} {
		e.row = int64(i)
		first, duplicate := s.add(e)
		assert.False(t, duplicate)
		assert.Equal(t, e.row, first)
	}
	first, duplicate := s.add(entry{hi: 1, lo: 2, row: 9})
	assert.True(t, duplicate)
	assert.Equal(t, int64(1), first)
	// The ends of the range find their slots.
	_, duplicate = s.add(entry{hi: ^uint64(0), lo: ^uint64(0), row: 10})
	assert.False(t, duplicate)
	first, duplicate = s.add(entry{hi: ^uint64(0), lo: ^uint64(0), row: 11})
	assert.True(t, duplicate)
	assert.Equal(t, int64(10), first)
}
