package privatekey

import (
	"maps"
	"slices"
	"strings"
)

// Removed stands where Cut found a private key.
const Removed = "[private key removed]"

// Cut returns a text that can be kept: itself if it holds no private key, as In reports it. Otherwise what stands before
// the first PEM block of a key, and Removed in place of all behind it; or Removed alone.
func Cut(s string) string {
	if !In(s) {
		return s
	}
	if end := indexPEM(s); end >= 0 {
		if begin := strings.LastIndex(s[:end], "-----BEGIN "); begin >= 0 {
			if kept := s[:begin] + Removed; !In(kept) {
				return kept
			}
		}
	}
	return Removed
}

// Held reports whether a text holds a private key, or held one that Cut took out.
func Held(s string) bool { return strings.Contains(s, Removed) || In(s) }

// CutRow returns a row that can be kept, names of columns included, and the columns in which a key is or was. It returns
// the row itself if there is none.
func CutRow(row map[string]string) (clean map[string]string, columns []string) {
	for name, value := range row {
		if Held(name) || Held(value) {
			columns = append(columns, Cut(name))
		}
	}
	if columns == nil {
		return row, nil
	}
	clean = make(map[string]string, len(row))
	for _, name := range slices.Sorted(maps.Keys(row)) {
		clean[Cut(name)] = Cut(row[name])
	}
	slices.Sort(columns)
	return clean, columns
}
