package fakebackend

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// lineReader takes a data file apart. A line longer than AWS allows is an error of that line, and the next call goes on
// after it.
type lineReader struct {
	r *bufio.Reader
}

func newLineReader(src io.Reader) *lineReader {
	return &lineReader{bufio.NewReaderSize(src, rule.DataFileLine+1)}
}

// next returns the next line without its newline. The bytes are good until the call after. The caller knows from
// countLines how many there are.
func (l *lineReader) next() ([]byte, *task.Error) {
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		n := len(line)
		for errors.Is(err, bufio.ErrBufferFull) {
			line, err = l.r.ReadSlice('\n')
			n += len(line)
		}
		n -= len(line) - len(bytes.TrimSuffix(line, newline))
		return nil, refuse(codeInvalidRequest, "Line is too long: %d bytes. The maximum is %d", n, rule.DataFileLine)
	}
	if err != nil && err != io.EOF {
		return nil, refuse(codeInternalFailure, "Could not read the input file: %v", err)
	}
	return bytes.TrimSuffix(line, newline), nil
}

var newline = []byte{'\n'}

// countLines returns how many lines a data file has. What follows the last newline is a line unless it is empty.
func countLines(r io.Reader) (lines int64, err error) {
	buf := make([]byte, 64<<10)
	last := byte('\n')
	for {
		n, err := r.Read(buf)
		if n > 0 {
			lines += int64(bytes.Count(buf[:n], newline))
			last = buf[n-1]
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, err
		}
	}
	if last != '\n' {
		lines++
	}
	return lines, nil
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// parseLine reads one line: a JSON object whose members are the template's parameters. A number or a boolean is taken
// as its text, as AWS takes numbers.
func parseLine(raw []byte, lenient bool) (map[string]string, *task.Error) {
	if lenient {
		raw = withoutMarks(raw)
	}
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, badLine("it is empty")
	case bytes.HasPrefix(raw, byteOrderMark):
		return nil, badLine("it starts with a byte order mark")
	case raw[len(raw)-1] == '\r':
		return nil, badLine("it ends in a carriage return")
	}
	return decodeLine(raw)
}

// withoutMarks is a line less what [Options.LenientLines] passes over; nothing is left of a blank one.
func withoutMarks(raw []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(raw, byteOrderMark))
}

func badLine(format string, args ...any) *task.Error {
	return refuse(codeInvalidRequest, "Invalid line in the input file: "+format, args...)
}

// decodeLine reads any line that is not blank. Of a member that occurs twice the last one counts.
func decodeLine(raw []byte) (map[string]string, *task.Error) {
	const maxDepth = 1 // no value may be an object or an array
	r := jsonline.NewReader(raw, maxDepth)
	if kind := r.Peek(); kind != jsonline.Object && kind != 0 {
		return nil, badLine("it is %s and not a JSON object of strings", kindNames[kind])
	}
	values := make(map[string]string)
	r.Open()
	for name, ok := r.Member(); ok; name, ok = r.Member() {
		key := r.Text(name)
		switch kind := r.Peek(); kind {
		case jsonline.Object, jsonline.Array, jsonline.Null:
			return nil, badLine("the value of %s is %s and not a string", rule.Quote(key), kindNames[kind])
		}
		values[key] = r.Text(r.Value())
	}
	if r.Close(); r.Err() != nil {
		return nil, badLine("it is not a JSON object of strings: byte %d: %s", r.Err().Offset, r.Err().Message)
	}
	return values, nil
}

var kindNames = map[jsonline.Kind]string{
	jsonline.String: "a string", jsonline.Number: "a number", jsonline.True: "true", jsonline.False: "false",
	jsonline.Null: "null", jsonline.Object: "an object", jsonline.Array: "an array",
}
