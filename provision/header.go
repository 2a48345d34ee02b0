package provision

import (
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// headerRows is how many records of a list without a header are looked at to know its columns.
const headerRows = 100

// HeaderError reports a list whose columns are not those that the run needs: nothing of it was kept or sent. Of a list
// without a header, Missing are the names that none of its first 100 records has, Unknown those that each of them has. It
// wraps datafile.ErrHeader.
type HeaderError struct {
	Source  string            // where the first record is: "devices.csv:2"
	Missing []string          // parameters without a default, and names of Options.Meta and Unique, that no column has
	Unknown []string          // columns that are neither parameters nor kept
	Made    []string          // columns with values for parameters that the credential step makes itself
	Known   []string          // what a column may be
	Meant   map[string]string // for columns in Unknown, the names in Known that are near
}

// Problem returns what is wrong, without what to do.
func (e *HeaderError) Problem() string {
	var list []string
	for _, name := range e.Missing {
		list = append(list, "no column is called "+rule.Quote(name))
	}
	for _, name := range e.Unknown {
		text := rule.Quote(name) + " is no parameter of the template"
		if meant := e.Meant[name]; meant != "" {
			text += fmt.Sprintf(" (did you mean %s?)", rule.Quote(meant))
		}
		list = append(list, text)
	}
	for _, name := range e.Made {
		list = append(list, rule.Quote(name)+" is what this run makes itself (leave it out, or have the list's requests sent: GivenCSR, -credential csr)")
	}
	const most = 10
	if n := len(list) - most; n > 0 {
		list = append(list[:most], fmt.Sprintf("and %d more", n))
	}
	place := ""
	if e.Source != "" {
		place = e.Source + ": "
	}
	return fmt.Sprintf("%sthe list does not have the columns that are needed: %s; a column can be %s", place, strings.Join(list, "; "), strings.Join(e.Known, ", "))
}

// Error returns what is wrong, and the options that can help.
func (e *HeaderError) Error() string {
	return e.Problem() + "; rename columns (Rename of CSVOptions or JSONOptions), leave them out (Columns), or keep them beside the device (Options.Meta)"
}

// Unwrap returns datafile.ErrHeader.
func (e *HeaderError) Unwrap() error { return datafile.ErrHeader }

// checkHeader looks at the columns of the first devices, and returns them all again. Devices that are from no list have
// none.
func (s *shape) checkHeader(devices iter.Seq2[Device, error]) (iter.Seq2[Device, error], error) {
	next, stop := iter.Pull2(devices)
	type item struct {
		d   Device
		err error
	}
	var first []item
	for len(first) < headerRows {
		d, err, ok := next()
		if !ok {
			break
		}
		first = append(first, item{d, err})
		if err != nil || d.Columns == nil && d.Err == nil {
			break
		}
	}
	var listed []Device
	for _, i := range first {
		if i.d.Columns != nil {
			listed = append(listed, i.d)
		}
	}
	if err := s.header(listed); err != nil {
		stop()
		return nil, err
	}
	return func(yield func(Device, error) bool) {
		defer stop()
		for _, i := range first {
			if !yield(i.d, i.err) {
				return
			}
		}
		for d, err, ok := next(); ok; d, err, ok = next() {
			if !yield(d, err) {
				return
			}
		}
	}, nil
}

func (s *shape) header(devices []Device) error {
	if len(devices) == 0 {
		return nil
	}
	known, needed := s.columns(), s.ofRecord(s.program.Required())
	e := &HeaderError{Source: devices[0].Source, Meant: map[string]string{}}
	if s.keep != nil {
		known, needed = append(known, s.keep.Columns...), append(needed, s.keep.Columns...)
	}
	needed = append(needed, s.unique...)
	e.Known = known
	has := func(d Device, name string) bool {
		_, meta := d.Meta[name]
		return meta || slices.Contains(d.Columns, name)
	}
	for i, name := range needed {
		if !slices.ContainsFunc(devices, func(d Device) bool { return has(d, name) }) && !slices.Contains(needed[:i], name) {
			e.Missing = append(e.Missing, name)
		}
	}
	for _, name := range devices[0].Columns {
		if s.makes(name) && slices.ContainsFunc(devices, func(d Device) bool { return strings.TrimSpace(d.Row[name]) != "" }) {
			e.Made = append(e.Made, name)
		}
		if s.keeps(name) || s.known[name] || slices.Contains(known, name) || devices[0].Meta[name] != "" {
			continue
		}
		if slices.ContainsFunc(devices, func(d Device) bool { return !slices.Contains(d.Columns, name) }) {
			continue
		}
		e.Unknown = append(e.Unknown, name)
		e.Meant[name] = spelling.Nearest(name, known)
	}
	if e.Missing == nil && e.Unknown == nil && e.Made == nil {
		return nil
	}
	return e
}
