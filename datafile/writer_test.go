package datafile_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/finding"
)

const csrText = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"

// problemOf demands that err is a finding that breaks the rule.
func problemOf(t *testing.T, err error, rule finding.Rule) *finding.Finding {
	t.Helper()
	require.ErrorIs(t, err, rule)
	p, ok := errors.AsType[*finding.Finding](err)
	require.True(t, ok, "%T", err)
	require.Equal(t, finding.Error, p.Severity)
	return p
}

func TestWriterMakesOneLinePerRowInColumnOrder(t *testing.T) {
	var out bytes.Buffer
	w := datafile.NewWriter(&out, "ThingName", "SerialNumber", "CSR")
	require.NoError(t, w.Write("device-one", "001", csrText))
	require.NoError(t, w.WriteRow(map[string]string{"CSR": csrText, "SerialNumber": "002", "ThingName": "device-two"}))
	require.NoError(t, w.Close())

	line := `","CSR":"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"}` + "\n"
	want := `{"ThingName":"device-one","SerialNumber":"001` + line + `{"ThingName":"device-two","SerialNumber":"002` + line
	assert.Equal(t, want, out.String())
	assert.Equal(t, int64(2), w.Lines())
	assert.Equal(t, int64(len(want)), w.Bytes())
	assert.Equal(t, sha256.Sum256([]byte(want)), w.SHA256())
}

func TestWriterEscapesWhatJSONDemandsAndNothingElse(t *testing.T) {
	var value strings.Builder
	for r := range rune(0x3000) {
		value.WriteRune(r)
	}
	value.WriteString("\U0001F600\uFFFD\uFFFF<>&\u2028\u2029")
	// At every offset within a word of eight bytes.
	for pad := range 9 {
		v := strings.Repeat("a", pad) + value.String()
		var out bytes.Buffer
		w := datafile.NewWriter(&out, "a\"\n\\é")
		require.NoError(t, w.Write(v))
		require.NoError(t, w.Close())
		var back map[string]string
		require.NoError(t, json.Unmarshal(out.Bytes(), &back))
		assert.Equal(t, map[string]string{"a\"\n\\é": v}, back)
		assert.Contains(t, out.String(), "<>&\u2028\u2029", "written as they are")
		assert.Equal(t, 1, strings.Count(out.String(), "\n"))
	}
}

func TestWriterRefusesABadRowAndKeepsTheGoodOnes(t *testing.T) {
	most := strings.Repeat("x", datafile.MaxLine-len(`{"ThingName":"d","CSR":""}`))
	cases := []struct {
		name  string
		write func(w *datafile.Writer) error
		rule  finding.Rule
		field string
		says  string
	}{
		{"too few values", func(w *datafile.Writer) error { return w.Write("a") }, datafile.ErrValueCount, "", "1 values for 2 columns"},
		{"too many values", func(w *datafile.Writer) error { return w.Write("a", "b", "c") }, datafile.ErrValueCount, "", "3 values for 2"},
		{"no values", func(w *datafile.Writer) error { return w.Write() }, datafile.ErrValueCount, "", "0 values"},
		{"invalid UTF-8", func(w *datafile.Writer) error { return w.Write("a", "abc\xff") }, datafile.ErrInvalidUTF8, "CSR", "byte 4"},
		{"half a character", func(w *datafile.Writer) error { return w.Write("\xe2\x82", "b") }, datafile.ErrInvalidUTF8, "ThingName", "byte 1"},
		{"a surrogate", func(w *datafile.Writer) error { return w.Write("a", "\xed\xa0\x80") }, datafile.ErrInvalidUTF8, "CSR", ""},
		{"a byte too long", func(w *datafile.Writer) error { return w.Write("d", most+"x") }, datafile.ErrLineTooLong, "CSR", "262144"},
		{"too long once escaped", func(w *datafile.Writer) error { return w.Write("d", most[1:]+"\n") }, datafile.ErrLineTooLong, "CSR", ""},
		{"too long by another value", func(w *datafile.Writer) error { return w.Write(most, "dd") }, datafile.ErrLineTooLong, "ThingName", "262"},
		{"far too long", func(w *datafile.Writer) error { return w.Write(strings.Repeat("\n", 4<<20), "b") }, datafile.ErrLineTooLong, "ThingName", ""},
		{"a private key behind dashes", func(w *datafile.Writer) error {
			return w.Write("a", "--- -----BEGIN X----- ----\n------BEGIN PRIVATE KEY-----\nMHcC\n")
		}, datafile.ErrPrivateKey, "CSR", "signing request"},
		{"a private key", func(w *datafile.Writer) error {
			return w.Write("a", "-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n")
		}, datafile.ErrPrivateKey, "CSR", "signing request"},
		{"missing parameter", func(w *datafile.Writer) error { return w.WriteRow(map[string]string{"ThingName": "a"}) }, datafile.ErrMissing, "CSR", ""},
		{"misspelt parameter", func(w *datafile.Writer) error {
			return w.WriteRow(map[string]string{"thing_name": "a", "CSR": "b"})
		}, datafile.ErrMissing, "ThingName", `did you mean "thing_name"?`},
		{"unknown parameter", func(w *datafile.Writer) error {
			return w.WriteRow(map[string]string{"ThingName": "a", "CSR": "b", "Csr": "c"})
		}, datafile.ErrUnknown, "Csr", `did you mean "CSR"?`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			w := datafile.NewWriter(&out, "ThingName", "CSR")
			require.NoError(t, w.Write("first", "1"))
			p := problemOf(t, c.write(w), c.rule)
			assert.Equal(t, int64(2), p.Row)
			assert.Equal(t, int64(2), p.Line)
			assert.Equal(t, int64(32), p.Offset)
			assert.Equal(t, c.field, p.Parameter)
			assert.Contains(t, p.Error(), c.says)
			assert.Contains(t, p.Error(), "line 2: ")
			assert.Less(t, len(p.Error()), 300, "a long value must not fill the log")
			require.NoError(t, w.Write("second", "2"))
			p = problemOf(t, w.Write("x"), datafile.ErrValueCount)
			assert.Equal(t, int64(4), p.Row)
			assert.Equal(t, int64(3), p.Line)
			require.NoError(t, w.Close())

			want := `{"ThingName":"first","CSR":"1"}` + "\n" + `{"ThingName":"second","CSR":"2"}` + "\n"
			assert.Equal(t, want, out.String())
			assert.Equal(t, int64(2), w.Lines())
			assert.Equal(t, int64(len(want)), w.Bytes())
			assert.Equal(t, sha256.Sum256([]byte(want)), w.SHA256())
		})
	}
	t.Run("a line of exactly the limit is fine", func(t *testing.T) {
		var out bytes.Buffer
		w := datafile.NewWriter(&out, "ThingName", "CSR")
		require.NoError(t, w.Write("d", most))
		require.NoError(t, w.Write("d", most[2:]+"\n"))
		require.NoError(t, w.Close())
		for line := range bytes.Lines(out.Bytes()) {
			assert.Len(t, line, datafile.MaxLine+1)
		}
	})
}

func TestWriterLeavesOutOptionalColumns(t *testing.T) {
	var out bytes.Buffer
	w := datafile.NewWriter(&out, "A", "B", "C")
	w.Optional("A", "C")
	require.NoError(t, w.WriteRow(map[string]string{"B": "2"}))
	require.NoError(t, w.WriteRow(map[string]string{"B": "2", "C": ""}))
	problemOf(t, w.WriteRow(map[string]string{"A": "1"}), datafile.ErrMissing)
	w.Optional("B")
	require.NoError(t, w.WriteRow(nil))
	require.NoError(t, w.Close())
	assert.Equal(t, "{\"B\":\"2\"}\n{\"B\":\"2\",\"C\":\"\"}\n{}\n", out.String())
}

func TestWriterRefusesColumnsThatMakeNoSense(t *testing.T) {
	cases := map[string]*datafile.Writer{
		"at least one":    datafile.NewWriter(io.Discard),
		"column 2":        datafile.NewWriter(io.Discard, "A", ""),
		"two columns":     datafile.NewWriter(io.Discard, "A", "B", "A"),
		"not UTF-8":       datafile.NewWriter(io.Discard, "\xff"),
		"2048 characters": datafile.NewWriter(io.Discard, strings.Repeat("x", 2049)),
		`mean "Serial"`:   datafile.NewWriter(io.Discard, "Serial"),
	}
	cases[`mean "Serial"`].Optional("serial")
	for says, w := range cases {
		err := w.Write()
		assert.ErrorContains(t, problemOf(t, err, datafile.ErrColumns), says)
		assert.Equal(t, err, w.WriteRow(nil))
		assert.Equal(t, err, w.Close())
	}
}

// failingWriter takes some bytes and then fails.
type failingWriter struct {
	left  int
	err   error
	calls int
}

func (f *failingWriter) Write(p []byte) (int, error) {
	f.calls++
	if len(p) > f.left {
		return f.left, f.err
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriterKeepsAnErrorOfTheUnderlyingWriter(t *testing.T) {
	broken := errors.New("disk full")
	for name, want := range map[string]error{"error": broken, "short write": io.ErrShortWrite} {
		t.Run(name, func(t *testing.T) {
			under := &failingWriter{left: 100_000}
			if want == broken {
				under.err = broken
			}
			w := datafile.NewWriter(under, "A")
			var err error
			for range 1000 {
				if err = w.Write(strings.Repeat("x", 1000)); err != nil {
					break
				}
			}
			require.ErrorIs(t, err, want)
			assert.ErrorContains(t, err, "up to line")
			calls := under.calls
			assert.Equal(t, err, w.Write("x"))
			assert.Equal(t, err, w.WriteRow(map[string]string{"A": "x"}))
			assert.Equal(t, err, w.Close())
			assert.Equal(t, err, w.Close())
			assert.Equal(t, calls, under.calls, "nothing more is written behind a gap")
		})
	}
	t.Run("at Close", func(t *testing.T) {
		w := datafile.NewWriter(&failingWriter{left: 3, err: broken}, "A")
		require.NoError(t, w.Write("x"))
		assert.ErrorIs(t, w.Close(), broken)
	})
}

func TestWriterRefusesRowsAfterClose(t *testing.T) {
	var out bytes.Buffer
	w := datafile.NewWriter(&out, "A")
	require.NoError(t, w.Close())
	require.NoError(t, w.Close())
	problemOf(t, w.Write("x"), datafile.ErrClosed)
	problemOf(t, w.WriteRow(nil), datafile.ErrClosed)
	require.NoError(t, w.Close())
	assert.Empty(t, out.Bytes())
	assert.Equal(t, sha256.Sum256(nil), w.SHA256())
}

func TestWriterDigestCanBeAskedForAtAnyTimeOrSpared(t *testing.T) {
	for _, spare := range []bool{false, true} {
		var out bytes.Buffer
		w := datafile.NewWriter(&out, "A")
		w.NoSHA256 = spare
		var lines []byte
		for range 3000 {
			require.NoError(t, w.Write("0123456789012345678901234567890123456789"))
			lines = append(lines, "{\"A\":\"0123456789012345678901234567890123456789\"}\n"...)
			if len(lines)%7 == 0 && !spare {
				require.Equal(t, sha256.Sum256(lines), w.SHA256())
			}
		}
		require.NoError(t, w.Close())
		assert.Equal(t, lines, out.Bytes())
		want := sha256.Sum256(lines)
		if spare {
			want = [32]byte{}
		}
		assert.Equal(t, want, w.SHA256())
	}
}

func TestWriterDoesNotAllocatePerRow(t *testing.T) {
	row := walkthroughRow(t)
	row["ThingName"] = "gerät-日本"
	w := datafile.NewWriter(io.Discard, "ThingName", "SerialNumber", "CSR")
	for range 200 {
		require.NoError(t, w.WriteRow(row)) // past the first flush
	}
	assert.Zero(t, testing.AllocsPerRun(500, func() { _ = w.Write(row["ThingName"], row["SerialNumber"], row["CSR"]) }))
	assert.Zero(t, testing.AllocsPerRun(500, func() { _ = w.WriteRow(row) }))
}

func TestInvalidUTF8IsFoundWhereverItStands(t *testing.T) {
	for length := range 40 {
		for at := range length {
			v := []byte(strings.Repeat("a", length))
			v[at] = 0xe9
			w := datafile.NewWriter(io.Discard, "A")
			p := problemOf(t, w.Write(string(v)), datafile.ErrInvalidUTF8)
			require.Contains(t, p.Message, fmt.Sprintf("byte %d ", at+1))
			row := readAll(t, strings.NewReader(`{"A":"`+string(v)+`"}`))[0]
			require.Equal(t, at+7, problemOf(t, row.Err, datafile.ErrInvalidUTF8).Column)
		}
	}
}

func TestAShortNameThatDiffersInMostLettersIsNotSuggested(t *testing.T) {
	w := datafile.NewWriter(io.Discard, "ThingName", "CSR")
	err := w.WriteRow(map[string]string{"ThingName": "a", "CSR": "b", "CXX": "c"})
	require.ErrorIs(t, err, datafile.ErrUnknown)
	assert.NotContains(t, err.Error(), "did you mean")
	err = w.WriteRow(map[string]string{"ThingName": "a", "CSR": "b", "CSX": "c"})
	assert.ErrorContains(t, err, `did you mean "CSR"?`)
}
