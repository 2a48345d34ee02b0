package template

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
)

// source is the text a template came from.
type source struct {
	file    []byte  // the whole file, for lines and columns
	text    []byte  // the JSON text: the file, or what a string in it held
	offsets []int32 // place in file of each byte of text; nil when they are the same
	start   int     // place in file of the string that text was in
	root    *node
	wrapped bool // the template was found inside another JSON document

	lines      []int // where each line of file begins; nil until they are counted
	characters []int // how many characters come before each multiple of countEvery bytes of file
}

func newSource(file []byte) *source { return &source{file: file, text: file} }

// at translates a place in the text into one in the file.
func (s *source) at(i int) int {
	switch {
	case s.offsets == nil:
		return i
	case i < len(s.offsets):
		return int(s.offsets[i])
	case len(s.offsets) > 0:
		return int(s.offsets[len(s.offsets)-1]) + 1
	}
	return s.start
}

// lineColumn counts lines and characters from 1. Its time does not grow with the length of the line.
func (s *source) lineColumn(offset int) (line, column int) {
	if s.lines == nil {
		s.count()
	}
	offset = min(offset, len(s.file))
	line, found := slices.BinarySearch(s.lines, offset)
	if found {
		line++
	}
	start := s.lines[line-1]
	if line == 1 && bytes.HasPrefix(s.file[:offset], []byte(byteOrderMark)) {
		start = len(byteOrderMark)
	}
	return line, 1 + s.charactersBefore(offset) - s.charactersBefore(start)
}

// countEvery is how many bytes of the file lie between two places whose characters have been counted.
const countEvery = 1024

// count notes where lines begin and how many characters come before every few bytes.
func (s *source) count() {
	s.lines, s.characters = []int{0}, make([]int, 0, len(s.file)/countEvery+1)
	n := 0
	for i, c := range s.file {
		if i%countEvery == 0 {
			s.characters = append(s.characters, n)
		}
		if utf8.RuneStart(c) {
			n++
		}
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	if len(s.file)%countEvery == 0 {
		s.characters = append(s.characters, n)
	}
}

// charactersBefore counts the characters of the file before a place; the file is valid UTF-8 up to there.
func (s *source) charactersBefore(offset int) int {
	n := s.characters[offset/countEvery]
	for _, c := range s.file[offset-offset%countEvery : offset] {
		if utf8.RuneStart(c) {
			n++
		}
	}
	return n
}

const byteOrderMark = "\ufeff"

// place adds to a finding where its pointer is in the file. A template that was built in Go has no file.
func (s *source) place(f *finding.Finding) {
	if offset := s.offset(f.Pointer); offset >= 0 {
		line, column := s.lineColumn(offset)
		f.Offset, f.Line, f.Column = int64(offset), int64(line), column
	}
}

// offset finds the place of a JSON pointer; -1 when there is none.
func (s *source) offset(p string) int {
	if s == nil || s.root == nil {
		return -1
	}
	n, at := s.root, s.root.offset
	for part := range strings.SplitSeq(strings.TrimPrefix(p, "/"), "/") {
		if p == "" {
			break
		}
		key := strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		switch n.kind {
		case kindArray:
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(n.elems) {
				return -1
			}
			n, at = n.elems[i], n.elems[i].offset
		case kindObject:
			i := n.find(key)
			if i < 0 {
				return -1
			}
			n, at = n.members[i].value, n.members[i].offset
		default:
			return -1
		}
	}
	return at
}
