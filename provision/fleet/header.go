package fleet

import (
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/spelling"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// headerRows is how many records of a list may be without the column that it is routed by before the list is refused.
const headerRows = 100

// header holds the first records of a list until one of them has the column that the fleet is routed by. The other columns
// are the sites' to check.
type header struct {
	fleet  *Fleet
	held   []provision.Device
	listed *provision.Device // the first that is from a list
	done   bool              // nothing has to be held any more
}

// add takes a record, and hands on what need not be held.
func (h *header) add(d provision.Device, one func(provision.Device) error) error {
	column := h.fleet.opts.Route.column
	_, row := d.Row[column]
	_, meta := d.Meta[column]
	h.held = append(h.held, d)
	if h.listed == nil && d.Columns != nil {
		h.listed = &d
	}
	if row || meta || slices.Contains(d.Columns, column) || d.Columns == nil && d.Err == nil {
		h.listed = nil
		return h.end(one)
	}
	if len(h.held) < headerRows {
		return nil
	}
	return h.end(one)
}

// end refuses the list, or hands on what is held.
func (h *header) end(one func(provision.Device) error) error {
	h.done = true
	if h.listed != nil {
		return h.missing()
	}
	for _, d := range h.held {
		if err := one(d); err != nil {
			return err
		}
	}
	h.held = nil
	return nil
}

// missing is the error of a list without the column.
func (h *header) missing() error {
	column := h.fleet.opts.Route.column
	e := &provision.HeaderError{Source: h.listed.Source, Missing: []string{column}, Meant: map[string]string{}}
	if e.Known = h.fleet.columns(); !slices.Contains(e.Known, column) {
		e.Known = append(e.Known, column)
	}
	if like := spelling.Nearest(column, h.listed.Columns); like != "" && !slices.Contains(e.Known, like) {
		e.Unknown, e.Meant[like] = []string{like}, column
	}
	return e
}
