package provision

import (
	"fmt"
	"maps"
	"slices"
)

// Meta chooses the columns of the devices' rows that the run keeps beside the device ([Device.Meta]) and does not send.
type Meta struct {
	// Columns are the names to keep. None of them may be a parameter of the template.
	Columns []string
	// Unknown keeps every column that is no parameter of the template. Without it such a column is an error.
	Unknown bool
}

// choose sets what is kept beside a device and what must be unique.
func (s *shape) choose(keep Meta, unique []string) error {
	for _, name := range keep.Columns {
		if s.known[name] {
			return fmt.Errorf("Options.Meta names %q, which is a parameter of the template and is sent; leave it out", name)
		}
	}
	if keep.Unknown || len(keep.Columns) > 0 {
		s.keep = &keep
	}
	s.unique = unique
	return nil
}

// keeps reports whether a column that may be in a row is kept beside the device.
func (s *shape) keeps(name string) bool {
	if s.keep == nil || s.known[name] {
		return false
	}
	return s.keep.Unknown || slices.Contains(s.keep.Columns, name)
}

// split moves what is kept beside a device out of its row. The caller's maps are left as they are.
func (s *shape) split(d Device) Device {
	if s.keep == nil {
		return d
	}
	var row, meta map[string]string
	for name, v := range d.Row {
		if !s.keeps(name) {
			continue
		}
		if row == nil {
			row, meta = maps.Clone(d.Row), maps.Clone(d.Meta)
			if meta == nil {
				meta = map[string]string{}
			}
		}
		delete(row, name)
		meta[name] = v
	}
	if row != nil {
		d.Row, d.Meta = row, meta
	}
	return d
}

// together is a row with what is kept beside its device, as a credential step sees it.
func together(row, meta map[string]string) map[string]string {
	if len(meta) == 0 {
		return row
	}
	all := make(map[string]string, len(row)+len(meta))
	maps.Copy(all, meta)
	maps.Copy(all, row)
	return all
}
