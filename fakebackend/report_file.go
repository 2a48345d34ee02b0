package fakebackend

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
)

// reportFile is a report file. Its lines are written when they are read.
type reportFile struct {
	lines int
	write func(w *bytes.Buffer, line int) // counts from 0; the same text every time
}

// reader returns a reader at the start of the file.
func (f reportFile) reader() *reportReader { return &reportReader{file: f, held: -1} }

// blockLines is how many lines a reader holds at a time: some 300 kB of a RESULTS report.
const blockLines = 256

// reportReader reads a report file and holds one block of its lines. It writes a block again when it comes back to it.
type reportReader struct {
	file reportFile
	ends []int64 // where the blocks end that were written so far
	held int     // the block in text; -1 for none
	text bytes.Buffer
	at   int64
}

// Read reads from the block that the position is in.
func (r *reportReader) Read(p []byte) (int, error) {
	if !r.has(r.at) {
		return 0, io.EOF
	}
	block, _ := slices.BinarySearch(r.ends, r.at+1)
	r.hold(block)
	n := copy(p, r.text.Bytes()[r.at-r.start(block):])
	r.at += int64(n)
	return n, nil
}

// Seek moves the position. The end is known once every line was written.
func (r *reportReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		r.has(math.MaxInt64)
		offset += r.start(len(r.ends))
	}
	if offset < 0 {
		return 0, errors.New("fakebackend: seek before the start of a report")
	}
	r.at = offset
	return offset, nil
}

// has reports whether the file has a byte at a position. It writes the blocks up to there.
func (r *reportReader) has(at int64) bool {
	for r.start(len(r.ends)) <= at {
		if len(r.ends)*blockLines >= r.file.lines {
			return false
		}
		r.hold(len(r.ends))
	}
	return true
}

// start is where a block begins.
func (r *reportReader) start(block int) int64 {
	if block == 0 {
		return 0
	}
	return r.ends[block-1]
}

// hold writes a block, unless it is the one in text.
func (r *reportReader) hold(block int) {
	if r.held == block {
		return
	}
	r.held = block
	r.text.Reset()
	for line := block * blockLines; line < min((block+1)*blockLines, r.file.lines); line++ {
		r.file.write(&r.text, line)
	}
	if block == len(r.ends) {
		r.ends = append(r.ends, r.start(block)+int64(r.text.Len()))
	}
}
