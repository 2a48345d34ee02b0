package datafile

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
)

// lineSource cuts an input into lines and knows where they are. It holds one line of at most MaxLine bytes; what
// exceeds that is skipped, so memory does not depend on the input.
type lineSource struct {
	in     *bufio.Reader
	long   []byte // a line that does not fit into in's buffer
	number int64  // of the line that next returned last
	offset int64  // of its first byte; after the byte order mark in line 1
	after  int64  // of the byte after it
	err    error  // terminal
}

func newLineSource(r io.Reader) *lineSource {
	return &lineSource{in: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next line without its "\n" or "\r\n". The line is valid until the next call. tooLong says that the
// line exceeds MaxLine and that line holds only its beginning. The error is io.EOF at the end; any other is terminal,
// and the incomplete line before it is not returned: there is no telling what it would have been.
func (s *lineSource) next() (line []byte, tooLong bool, err error) {
	if s.err != nil {
		return nil, false, s.err
	}
	s.number++
	s.offset = s.after
	line, err = s.in.ReadSlice('\n')
	s.after += int64(len(line))
	if err == bufio.ErrBufferFull {
		line, err = s.readLong(line)
	}
	if err != nil && (err != io.EOF || len(line) == 0) {
		if err != io.EOF {
			err = fmt.Errorf("reading line %d, at byte %d: %w", s.number, s.after, err)
		}
		s.err = err
		return nil, false, s.err
	}
	line = bytes.TrimSuffix(line, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if s.number == 1 {
		if detail := notUTF8(line); detail != "" {
			s.err = &Problem{Line: 1, Column: 1, Rule: ErrEncoding, Detail: detail}
			return nil, false, s.err
		}
		if rest, ok := bytes.CutPrefix(line, []byte("\ufeff")); ok {
			line = rest
			s.offset = int64(len("\ufeff"))
		}
	}
	return line, len(line) > MaxLine, nil
}

// readLong goes on with a line that fills in's buffer. It keeps just enough of it to see that it is too long.
func (s *lineSource) readLong(start []byte) (line []byte, err error) {
	const keep = MaxLine + len("\ufeff\r\n") + 1
	s.long = append(s.long[:0], start...)
	for {
		start, err = s.in.ReadSlice('\n')
		s.after += int64(len(start))
		s.long = append(s.long, start[:min(len(start), keep-len(s.long))]...)
		if err != bufio.ErrBufferFull {
			return s.long, err
		}
	}
}

// notUTF8 recognises the encodings that spreadsheets save when not asked for UTF-8, by the beginning of the input.
func notUTF8(line []byte) string {
	const remedy = "; save it as UTF-8, in a spreadsheet \"CSV UTF-8\", or convert it with iconv -f UTF-16 -t UTF-8"
	switch {
	case bytes.HasPrefix(line, []byte{0xff, 0xfe}):
		return "the input is UTF-16, little-endian" + remedy
	case bytes.HasPrefix(line, []byte{0xfe, 0xff}):
		return "the input is UTF-16, big-endian" + remedy
	case len(line) >= 2 && (line[0] == 0) != (line[1] == 0):
		return "the input looks like UTF-16 without a byte order mark" + remedy
	case bytes.HasPrefix(line, []byte{0x1f, 0x8b}):
		return "the input is compressed with gzip; decompress it first"
	case bytes.HasPrefix(line, []byte("PK\x03\x04")):
		return "the input is a ZIP archive or a spreadsheet file such as .xlsx; save it as CSV first"
	}
	return ""
}
