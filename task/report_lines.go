package task

import (
	"bytes"
	"io"
	"slices"
)

// maxReportLine is the longest line of a report that is parsed, in bytes without its line end. AWS allows 65,536
// characters of certificate; the rest of a line is small.
const maxReportLine = 1 << 20

// line is one line of a report file. Its text is valid until the next one is read.
type line struct {
	text    []byte
	number  int64 // 1-based, blank lines counted
	offset  int64 // of the line's first byte in the file
	tooLong bool  // text holds only the start of the line
}

// raw copies the line for the item that is made of it.
func (l line) raw() []byte { return bytes.Clone(l.text) }

// lineReader cuts a report file into lines. It skips a byte order mark and blank lines and takes "\r\n" for an end of
// line. Its memory is bounded by maxReportLine.
type lineReader struct {
	src    io.Reader
	buf    []byte // buf[pos:] is not yet given out
	pos    int
	err    error // what src ended with; only io.EOF itself is a clean end, one that is wrapped is a broken connection
	number int64 // of the last line
	start  int64 // offset in the file of buf[pos]
	end    int64 // offset in the file behind what was read from src
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{src: r, buf: make([]byte, 0, 64<<10)}
}

var byteOrderMark = []byte("\xef\xbb\xbf")

// next returns the next line that is not blank, and io.EOF after the last one. A line that ends with the file counts;
// one that is cut off by an error of the reader does not.
func (r *lineReader) next() (line, error) {
	for {
		l, err := r.any()
		if err != nil {
			return line{}, err
		}
		if l.offset == 0 && bytes.HasPrefix(l.text, byteOrderMark) {
			l.text, l.offset = l.text[len(byteOrderMark):], int64(len(byteOrderMark))
		}
		if n := len(l.text); n > 0 && l.text[n-1] == '\r' && !l.tooLong {
			l.text = l.text[:n-1]
		}
		if l.tooLong || len(bytes.Trim(l.text, " \t\r")) > 0 {
			return l, nil
		}
	}
}

// any returns the next line, blank or not, with its "\r" if it has one.
func (r *lineReader) any() (line, error) {
	searched := 0
	for {
		rest := r.buf[r.pos:]
		if i := bytes.IndexByte(rest[searched:], '\n'); i >= 0 {
			return r.take(searched+i, 1), nil
		}
		searched = len(rest)
		if searched > maxReportLine+1 { // the line and perhaps a "\r"
			return r.skip()
		}
		if r.err != nil {
			if r.err == io.EOF && searched > 0 {
				return r.take(searched, 0), nil
			}
			return line{}, r.err
		}
		r.fill()
	}
}

// take gives out the first n bytes and drops the line end behind them.
func (r *lineReader) take(n, lineEnd int) line {
	l := r.head(n)
	l.tooLong = n > maxReportLine+1 || n == maxReportLine+1 && l.text[n-1] != '\r'
	if l.tooLong {
		l.text = l.text[:maxReportLine]
	}
	r.pos += n + lineEnd
	r.start += int64(n + lineEnd)
	return l
}

func (r *lineReader) head(n int) line {
	r.number++
	return line{text: r.buf[r.pos : r.pos+n], number: r.number, offset: r.start}
}

// skip gives out the start of a line that is too long and drops the rest of it.
func (r *lineReader) skip() (line, error) {
	l := r.head(maxReportLine)
	l.text, l.tooLong = slices.Clone(l.text), true
	for {
		rest := r.buf[r.pos:]
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			r.pos += i + 1
			r.start += int64(i + 1)
			return l, nil
		}
		r.pos += len(rest)
		r.start += int64(len(rest))
		if r.err == io.EOF {
			return l, nil
		}
		if r.err != nil {
			return line{}, r.err
		}
		r.fill()
	}
}

// fill reads once more from src, moving what is left to the front and growing the buffer when that is full.
func (r *lineReader) fill() {
	if r.pos > 0 {
		r.buf = r.buf[:copy(r.buf, r.buf[r.pos:])]
		r.pos = 0
	}
	if len(r.buf) == cap(r.buf) {
		r.buf = slices.Grow(r.buf, cap(r.buf))
	}
	for range 100 { // as bufio does: a reader may give nothing now and then
		n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
		r.buf = r.buf[:len(r.buf)+n]
		r.end += int64(n)
		r.err = err
		if n > 0 || err != nil {
			return
		}
	}
	r.err = io.ErrNoProgress
}
