package datafile

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// MaxLine is the greatest length of a line in bytes, its newline not counted: 256 KiB, AWS's limit for a data file.
const MaxLine = rule.DataFileLine

// writerBuffer is how much a Writer collects before it hands it on.
const writerBuffer = 64 << 10

// Writer writes a data file: one line of JSON for each row, the parameters in the order of the columns, every value a
// string. A value may hold anything that is UTF-8; newlines, as in a PEM, are escaped, so a row is always one line.
// Characters that JSON takes as they are, <, > and & among them, are written as they are.
//
// A row that breaks a rule is refused with a [*finding.Finding] and leaves no trace in the file; the next row can be
// written. An error of the underlying writer is kept: every later call returns it.
//
// A Writer is not safe for concurrent use.
type Writer struct {
	// NoSHA256, set before the first row, spares the digest. SHA256 then returns zeros.
	NoSHA256 bool

	w        io.Writer
	columns  []string
	optional []bool
	prefix   []string // what goes before each value: `,"ThingName":`
	buf      []byte   // whole lines on their way to w
	hashed   int      // how much of buf is in the digest
	digest   hash.Hash
	rows     int64 // rows offered
	lines    int64
	bytes    int64
	closed   bool
	err      error // I/O or set-up error; final
}

// NewWriter returns a Writer of rows with these columns, which are the names of the template's parameters. The names
// must be distinct, not empty, UTF-8 and at most 2,048 characters each; if they are not, the first Write and Close
// return [ErrColumns].
func NewWriter(w io.Writer, columns ...string) *Writer {
	out := &Writer{w: w, columns: slices.Clone(columns), optional: make([]bool, len(columns)), digest: sha256.New()}
	if len(columns) == 0 {
		out.err = columnsError("", "a data file needs at least one column")
	}
	seen := make(map[string]bool, len(columns))
	for i, name := range out.columns {
		switch {
		case name == "":
			out.err = columnsError("", fmt.Sprintf("column %d has no name", i+1))
		case !utf8.ValidString(name):
			out.err = columnsError(name, "the name is not UTF-8")
		case utf8.RuneCountInString(name) > rule.ParameterName:
			out.err = columnsError(name, fmt.Sprintf("the name is longer than %d characters", rule.ParameterName))
		case seen[name]:
			out.err = columnsError(name, "there are two columns of this name")
		}
		seen[name] = true
		prefix, _ := jsonline.AppendString([]byte{','}, name)
		out.prefix = append(out.prefix, string(prefix)+":")
	}
	return out
}

func columnsError(name, detail string) error {
	return &finding.Finding{Severity: finding.Error, Parameter: name, Rule: ErrColumns, Message: detail}
}

// Optional lets [Writer.WriteRow] leave these columns out of a line when the row has no value for them, so that AWS
// uses the template's Default. Naming something that is not a column is an error of the next Write and of Close.
func (w *Writer) Optional(columns ...string) {
	for _, name := range columns {
		i := slices.Index(w.columns, name)
		if i < 0 {
			if w.err == nil {
				w.err = columnsError(name, "Optional names something that is not a column"+spelling.DidYouMean(name, w.columns))
			}
			return
		}
		w.optional[i] = true
	}
}

// Write appends a row, its values in the order of the columns. The number of values must be that of the columns
// ([ErrValueCount]), each must be UTF-8 ([ErrInvalidUTF8]) and not a private key ([ErrPrivateKey]), and the line must
// not exceed [MaxLine] ([ErrLineTooLong]). A row refused for such a reason is not written and does not count as a line;
// the Writer stays usable.
//
// Write allocates nothing.
func (w *Writer) Write(values ...string) error {
	if err := w.begin(); err != nil {
		return err
	}
	if len(values) != len(w.columns) {
		return w.problem("", ErrValueCount, fmt.Sprintf("the row has %d values for %d columns", len(values), len(w.columns)))
	}
	start := len(w.buf)
	for i, v := range values {
		if err := w.value(start, i, v); err != nil {
			w.buf = w.buf[:start]
			if errors.Is(err, ErrLineTooLong) {
				return w.tooLong(func(i int) string { return values[i] })
			}
			return err
		}
	}
	return w.end(start)
}

// WriteRow appends a row given as a map from column to value. The row must have a value for every column, those named
// by [Writer.Optional] apart ([ErrMissing]), and none for anything else ([ErrUnknown]). Otherwise it is [Writer.Write].
func (w *Writer) WriteRow(row map[string]string) error {
	if err := w.begin(); err != nil {
		return err
	}
	start, used := len(w.buf), 0
	for i, name := range w.columns {
		v, ok := row[name]
		if !ok {
			if w.optional[i] {
				continue
			}
			w.buf = w.buf[:start]
			return w.missing(name, row)
		}
		used++
		if err := w.value(start, i, v); err != nil {
			w.buf = w.buf[:start]
			if errors.Is(err, ErrLineTooLong) {
				return w.tooLong(func(i int) string { return row[w.columns[i]] })
			}
			return err
		}
	}
	if used < len(row) {
		w.buf = w.buf[:start]
		for _, name := range slices.Sorted(maps.Keys(row)) {
			if !slices.Contains(w.columns, name) {
				return w.problem(name, ErrUnknown, "no column has this name"+spelling.DidYouMean(name, w.columns))
			}
		}
	}
	return w.end(start)
}

// begin counts the row and returns the error that makes writing impossible, if there is one.
func (w *Writer) begin() error {
	if w.err != nil {
		return w.err
	}
	if w.closed {
		return &finding.Finding{Severity: finding.Error, Rule: ErrClosed, Message: "a row was written after Close"}
	}
	w.rows++
	return nil
}

// value appends one member of the line that starts at start.
func (w *Writer) value(start, column int, v string) error {
	// An escaped value is never shorter than the value. Looking first keeps a huge value from being escaped in full.
	if len(v) > MaxLine {
		return ErrLineTooLong
	}
	if privatekey.In(v) {
		return w.problem(w.columns[column], ErrPrivateKey, "the value is a private key; the data file takes the signing request")
	}
	first := len(w.buf) == start
	w.buf = append(w.buf, w.prefix[column]...)
	if first {
		w.buf[start] = '{'
	}
	buf, invalid := jsonline.AppendString(w.buf, v)
	w.buf = buf
	if invalid >= 0 {
		return w.problem(w.columns[column], ErrInvalidUTF8,
			fmt.Sprintf("byte %d of the value is not UTF-8; convert the source to UTF-8", invalid+1))
	}
	if len(w.buf)-start >= MaxLine { // a closing brace is still to come
		return ErrLineTooLong
	}
	return nil
}

// end completes the line and hands the buffer on when it is full.
func (w *Writer) end(start int) error {
	if len(w.buf) == start { // every column was optional and left out
		w.buf = append(w.buf, '{')
	}
	w.buf = append(w.buf, '}', '\n')
	w.lines++
	w.bytes += int64(len(w.buf) - start)
	if len(w.buf) >= writerBuffer {
		return w.flush()
	}
	return nil
}

func (w *Writer) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.hash()
	n, err := w.w.Write(w.buf)
	if err == nil && n != len(w.buf) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("writing the data file, in the %d bytes up to line %d: %w", len(w.buf), w.lines, err)
		return w.err
	}
	w.buf, w.hashed = w.buf[:0], 0
	return nil
}

func (w *Writer) hash() {
	if !w.NoSHA256 {
		w.digest.Write(w.buf[w.hashed:])
		w.hashed = len(w.buf)
	}
}

// Lines returns the number of lines so far: rows that Write or WriteRow accepted. They are in the underlying writer
// once Close has returned nil.
func (w *Writer) Lines() int64 { return w.lines }

// Bytes returns the number of bytes in those lines, newlines included.
func (w *Writer) Bytes() int64 { return w.bytes }

// SHA256 returns the digest of those bytes. It may be asked for at any time, and is zero with NoSHA256.
func (w *Writer) SHA256() [sha256.Size]byte {
	var sum [sha256.Size]byte
	if !w.NoSHA256 {
		w.hash()
		w.digest.Sum(sum[:0])
	}
	return sum
}

// Close hands on what is still buffered and returns the first error that kept the file from being complete. It does not
// close the underlying writer. Closing again returns the same.
func (w *Writer) Close() error {
	w.closed = true
	if w.err != nil {
		return w.err
	}
	return w.flush()
}

func (w *Writer) problem(name string, r finding.Rule, detail string) error {
	return &finding.Finding{Severity: finding.Error, Row: w.rows, Line: w.lines + 1, Offset: w.bytes, Parameter: name, Rule: r, Message: detail}
}

func (w *Writer) missing(name string, row map[string]string) error {
	var others []string
	for _, other := range slices.Sorted(maps.Keys(row)) {
		if !slices.Contains(w.columns, other) {
			others = append(others, other)
		}
	}
	return w.problem(name, ErrMissing, "the row has no value for it"+spelling.DidYouMean(name, others))
}

// tooLong names the value that takes the most of a line that is too long.
func (w *Writer) tooLong(value func(column int) string) error {
	longest := 0
	for i := range w.columns {
		if len(value(i)) > len(value(longest)) {
			longest = i
		}
	}
	return w.problem(w.columns[longest], ErrLineTooLong, fmt.Sprintf(
		"with this value of %d bytes the line exceeds %d bytes, the most AWS takes in one line", len(value(longest)), MaxLine))
}
