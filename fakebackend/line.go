package fakebackend

import (
	"bytes"
	"io"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// lineReader takes a data file apart. A line longer than AWS allows is an error of that line, and the next call goes on
// after it.
type lineReader struct{ lines *jsonline.Lines }

func newLineReader(src io.Reader) *lineReader {
	return &lineReader{jsonline.NewLines(src, rule.DataFileLine)}
}

// next returns the next line, whose text is valid until the call after. The caller knows from countLines how many there
// are.
func (l *lineReader) next() (jsonline.Line, *task.Error) {
	line, err := l.lines.Next()
	if err != nil {
		return line, refuse(codeInternalFailure, "Could not read the input file: %v", err)
	}
	if line.TooLong() {
		return line, refuse(codeInvalidRequest, "Line is too long: %d bytes. The maximum is %d", line.Size, rule.DataFileLine)
	}
	return line, nil
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

// parseLine reads one line: a JSON object whose members are the template's parameters. A number or a boolean is taken
// as its text, as AWS takes numbers. A lenient reader passes over a byte order mark and a carriage return.
func parseLine(line jsonline.Line, lenient bool) (map[string]string, *task.Error) {
	switch {
	case line.Blank():
		return nil, badLine("it is empty")
	case line.ByteOrderMark && !lenient:
		return nil, badLine("it starts with a byte order mark")
	case line.CarriageReturn && !lenient:
		return nil, badLine("it ends in a carriage return")
	}
	return decodeLine(line.Text)
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
		return nil, badLine("it is not a JSON object of strings: byte %d: %v", r.Err().Offset, r.Err())
	}
	return values, nil
}

var kindNames = map[jsonline.Kind]string{
	jsonline.String: "a string", jsonline.Number: "a number", jsonline.True: "true", jsonline.False: "false",
	jsonline.Null: "null", jsonline.Object: "an object", jsonline.Array: "an array",
}
