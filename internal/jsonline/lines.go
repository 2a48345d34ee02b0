// Package jsonline reads newline-delimited JSON: data files, reports and, as a text of one line, templates. [Lines]
// cuts an input into lines of bounded length; [Reader] walks over the values of one line and knows where each stands.
// What the members mean, and which of them may occur, is left to the caller.
package jsonline

import (
	"bufio"
	"bytes"
	"io"
)

// Lines cuts an input into lines. A line that is too long costs no other line, and memory depends on the limit, not on
// the input. A Lines is not safe for concurrent use.
type Lines struct {
	in     *bufio.Reader
	max    int
	long   []byte // a line that is longer than the buffer of in
	number int64
	end    int64
	err    error // final
}

// Line is one line of an input. Its Text is valid until the next line is read.
type Line struct {
	Text           []byte // without line end and byte order mark; of a line that is too long the part within the limit
	Number         int64  // from 1, blank lines included
	Offset         int64  // of the first byte of Text in the input
	Size           int    // bytes of the whole line without its end; more than len(Text) when it is too long
	ByteOrderMark  bool   // the line is the first one and begins with a mark
	CarriageReturn bool   // the line ends in "\r\n", or in "\r" at the end of the input; unknown when it is too long
}

// TooLong reports whether the line exceeds the limit.
func (l *Line) TooLong() bool { return l.Size > len(l.Text) }

// Blank reports whether there is nothing but white space on the line.
func (l *Line) Blank() bool { return !l.TooLong() && len(bytes.TrimLeft(l.Text, " \t\r\n")) == 0 }

const byteOrderMark = "\ufeff"

// NewLines returns a Lines of r. A line may have limit bytes, its line end and a byte order mark apart.
func NewLines(r io.Reader, limit int) *Lines {
	return &Lines{in: bufio.NewReaderSize(r, 64<<10), max: limit}
}

// Number returns how many lines have been read.
func (l *Lines) Number() int64 { return l.number }

// End returns how many bytes have been cut into lines, an incomplete line before an error included.
func (l *Lines) End() int64 { return l.end }

// Next returns the next line. The last line needs no line end. The error is io.EOF itself at the end of the input;
// any other is the reader's, and what came of the line before it is dropped, since the rest of it is not known.
// After an error Next returns the same again.
func (l *Lines) Next() (Line, error) {
	if l.err != nil {
		return Line{}, l.err
	}
	start := l.end
	text, err := l.in.ReadSlice('\n')
	l.end += int64(len(text))
	if err == bufio.ErrBufferFull {
		text, err = l.rest(text)
	}
	if err != nil && (err != io.EOF || len(text) == 0) {
		l.err = err
		return Line{}, err
	}
	l.number++
	line := Line{Number: l.number, Offset: start, Size: int(l.end - start)}
	if err == nil { // the line ends in a newline, which is not in text if the line is too long
		line.Size--
		text = bytes.TrimSuffix(text, []byte{'\n'})
	}
	if l.number == 1 {
		text, line.ByteOrderMark = bytes.CutPrefix(text, []byte(byteOrderMark))
		if line.ByteOrderMark {
			line.Offset += int64(len(byteOrderMark))
			line.Size -= len(byteOrderMark)
		}
	}
	if line.Size == len(text) {
		text, line.CarriageReturn = bytes.CutSuffix(text, []byte{'\r'})
		line.Size = len(text)
	}
	line.Text = text[:min(len(text), l.max)]
	return line, nil
}

// rest reads on in a line that fills the buffer. Of the line it keeps what is needed to tell that it is too long.
func (l *Lines) rest(start []byte) ([]byte, error) {
	keep := l.max + len(byteOrderMark+"\r\n") + 1
	l.long = append(l.long[:0], start[:min(len(start), keep)]...)
	for {
		part, err := l.in.ReadSlice('\n')
		l.end += int64(len(part))
		l.long = append(l.long, part[:min(len(part), keep-len(l.long))]...)
		if err != bufio.ErrBufferFull {
			return l.long, err
		}
	}
}
