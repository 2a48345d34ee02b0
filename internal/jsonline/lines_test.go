package jsonline_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

func TestALineOverTheLimitCostsNoOtherLine(t *testing.T) {
	const limit = 200_000 // more than one buffer
	for _, c := range []struct {
		line string
		size int
		long bool
	}{
		{strings.Repeat("x", limit), limit, false},
		{strings.Repeat("x", limit) + "\r", limit, false},
		{strings.Repeat("x", limit+1), limit + 1, true},
		{strings.Repeat("x", limit+1) + "\r", limit + 1, true},
		{strings.Repeat("x", 7*limit), 7 * limit, true},
	} {
		for _, begin := range []string{"first\n", "", "\ufeff"} {
			for _, end := range []string{"\nlast", "\n", ""} {
				in := jsonline.NewLines(strings.NewReader(begin+c.line+end), limit)
				if strings.HasSuffix(begin, "\n") {
					first, err := in.Next()
					require.NoError(t, err)
					assert.Equal(t, "first", string(first.Text))
				}
				line, err := in.Next()
				require.NoError(t, err)
				assert.Equal(t, int64(len(begin)), line.Offset)
				assert.Equal(t, begin == "\ufeff", line.ByteOrderMark)
				assert.Equal(t, c.size, line.Size)
				assert.Equal(t, c.long, line.TooLong())
				assert.Equal(t, c.line[:limit], string(line.Text))
				if end == "\nlast" {
					last, err := in.Next()
					require.NoError(t, err)
					assert.Equal(t, "last", string(last.Text))
					assert.Equal(t, line.Number+1, last.Number)
					assert.Equal(t, int64(len(begin+c.line)+1), last.Offset)
				}
				for range 2 {
					_, err = in.Next()
					assert.Equal(t, io.EOF, err)
				}
				assert.Equal(t, int64(len(begin+c.line+end)), in.End())
			}
		}
	}
}

func TestALineThatBreaksOffIsNoLine(t *testing.T) {
	for _, broken := range []error{errors.New("connection reset"), fmt.Errorf("proxy: %w", io.EOF)} {
		for _, begun := range []string{"", "tw", strings.Repeat("y", 200_000)} {
			in := jsonline.NewLines(io.MultiReader(strings.NewReader("one\n"+begun), iotest.ErrReader(broken)), 100)
			_, err := in.Next()
			require.NoError(t, err)
			for range 2 {
				line, err := in.Next()
				assert.Zero(t, line)
				assert.Equal(t, broken, err)
			}
			assert.Equal(t, int64(1), in.Number())
			assert.Equal(t, int64(len("one\n"+begun)), in.End())
		}
	}
}

// FuzzLines checks the lines of any input against bytes.Lines, however the input comes.
func FuzzLines(f *testing.F) {
	f.Add([]byte("\ufeffa\r\n\n \t\r\nlonger than the limit\r\n\rx\r\r\n\ufeff"), false)
	f.Add([]byte("\ufeff"), true)
	f.Fuzz(func(t *testing.T, data []byte, slow bool) {
		const limit = 5
		var src io.Reader = bytes.NewReader(data)
		if slow {
			src = iotest.DataErrReader(iotest.OneByteReader(src))
		}
		in := jsonline.NewLines(src, limit)
		number, offset := int64(0), 0
		for raw := range bytes.Lines(data) {
			number++
			line, err := in.Next()
			require.NoError(t, err)
			want := bytes.TrimSuffix(raw, []byte("\n"))
			if number == 1 {
				want = bytes.TrimPrefix(want, []byte("\ufeff"))
			}
			cut := bytes.TrimSuffix(want, []byte("\r"))
			require.Equal(t, len(cut) < len(want), line.CarriageReturn)
			require.Equal(t, len(cut), line.Size)
			require.Equal(t, string(cut[:min(len(cut), limit)]), string(line.Text))
			require.Equal(t, string(line.Text), string(data[line.Offset:][:len(line.Text)]))
			require.Equal(t, len(cut) > limit, line.TooLong())
			require.Equal(t, len(cut) <= limit && len(bytes.Trim(cut, " \t\r")) == 0, line.Blank())
			require.Equal(t, number, line.Number)
			offset += len(raw)
			require.Equal(t, int64(offset), in.End())
		}
		_, err := in.Next()
		require.Equal(t, io.EOF, err)
	})
}
