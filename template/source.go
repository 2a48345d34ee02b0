package template

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// source is the text a template came from.
type source struct {
	file    []byte  // the whole file, for lines and columns
	text    []byte  // the JSON text: the file, or what a string in it held
	offsets []int32 // place in file of each byte of text; nil when they are the same
	start   int     // place in file of the string that text was in
	root    *node
	lines   []int // where each line of file begins
	wrapped bool  // the template was found inside another JSON document
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

// lineColumn counts lines and characters from 1.
func (s *source) lineColumn(offset int) (line, column int) {
	if s.lines == nil {
		s.lines = lineStarts(s.file)
	}
	offset = min(offset, len(s.file))
	line, found := slices.BinarySearch(s.lines, offset)
	if found {
		line++
	}
	before := s.file[s.lines[line-1]:offset]
	if line == 1 {
		before = bytes.TrimPrefix(before, []byte(byteOrderMark))
	}
	return line, 1 + utf8.RuneCount(before)
}

// lineStarts returns the offset at which each line begins.
func lineStarts(file []byte) []int {
	starts := []int{0}
	for i, c := range file {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

const byteOrderMark = "\ufeff"

// offset finds the place of a JSON pointer; -1 when there is none.
func (s *source) offset(p pointer) int {
	if s == nil || s.root == nil {
		return -1
	}
	n, at := s.root, s.root.offset
	for part := range strings.SplitSeq(strings.TrimPrefix(string(p), "/"), "/") {
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
