package fakebackend

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// aReportFile is a file of lines of different lengths, and its whole text.
func aReportFile(lines int) (reportFile, string) {
	var whole bytes.Buffer
	write := func(w *bytes.Buffer, i int) { fmt.Fprintf(w, "line %d %0*d\n", i, i%7+1, i) }
	for i := range lines {
		write(&whole, i)
	}
	return reportFile{lines, write}, whole.String()
}

func TestAReportReadsAsItsLines(t *testing.T) {
	for _, lines := range []int{0, 1, blockLines - 1, blockLines, blockLines + 1, 5*blockLines + 7} {
		file, whole := aReportFile(lines)
		if whole == "" {
			raw, err := io.ReadAll(file.reader())
			require.NoError(t, err)
			assert.Empty(t, raw)
			continue
		}
		assert.NoError(t, iotest.TestReader(file.reader(), []byte(whole)), "%d lines", lines)
	}
}

func TestAReportIsAsLongAsItsLines(t *testing.T) {
	file, whole := aReportFile(3 * blockLines)
	size := int64(len(whole))
	for at, want := range map[int64]bool{0: true, size - 1: true, size: false, math.MaxInt64: false} {
		assert.Equal(t, want, file.reader().has(at), at)
	}
	end, err := file.reader().Seek(0, io.SeekEnd)
	require.NoError(t, err)
	assert.Equal(t, size, end)
}

// A report of a million lines would be more than a gigabyte: however long it is, a reader holds one block of it, and
// writes a line once for a reader that only goes on.
func TestAReportIsNeverHeldWhole(t *testing.T) {
	const lines = 100 * blockLines
	written := 0
	r := reportFile{lines, func(w *bytes.Buffer, i int) {
		written++
		fmt.Fprintf(w, "%1000d\n", i)
	}}.reader()
	n, err := io.Copy(io.Discard, r)
	require.NoError(t, err)
	assert.EqualValues(t, 1001*lines, n)
	assert.Equal(t, lines, written)
	assert.Less(t, r.text.Cap(), 4*1001*blockLines)
	_, err = r.Seek(0, io.SeekEnd)
	require.NoError(t, err)
	assert.Equal(t, lines, written, "the end is known by now")
}
