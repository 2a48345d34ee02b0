package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// CauseNoRoute is the cause of a device that was refused because its record does not show to which site it belongs. It
// was never sent.
const CauseNoRoute provision.Cause = "no-route"

// Route decides which site a device belongs to. It is made by [ByColumn] or [ByFunc]; the zero value is not a route.
//
// A route must return the same site for the same device whenever it is asked: a run that goes on compares, and refuses
// a device that has moved.
type Route struct {
	column string
	site   func(provision.Device) (string, error)
}

// ByColumn routes by a value of the device's row, which must be a site's name to the letter: nothing is trimmed, folded
// or guessed.
//
// The column is moved to the device's Meta before the site sees it, unless the site's template has a parameter of that
// name: it is kept and not sent. It may be in Meta from the start. The caller's own maps are left as they are.
func ByColumn(name string) Route {
	return Route{column: name, site: func(d provision.Device) (string, error) {
		if site := cmp.Or(d.Row[name], d.Meta[name]); site != "" {
			return site, nil
		}
		return "", fmt.Errorf("its record has no value for %q, which names the site", name)
	}}
}

// ByFunc routes by a function. It returns the site's name; with an error, or with the name of no site, the device is
// refused and the others go on. The row goes to the site as it is: a column that is there for the route alone is named in
// the site's Options.Meta. The function is called in the order of the input
// from the goroutine that called Run, and must not change the row.
func ByFunc(site func(provision.Device) (string, error)) Route { return Route{site: site} }

func (r Route) valid() bool { return r.site != nil }

// strip returns the device as the site is to see it.
func (r Route) strip(s *site, d provision.Device) provision.Device {
	site, has := d.Row[r.column]
	if r.column == "" || !has || slices.Contains(s.program.Parameters(), r.column) {
		return d
	}
	d.Row = maps.Clone(d.Row)
	delete(d.Row, r.column)
	meta := maps.Clone(d.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	meta[r.column], d.Meta = site, meta
	return d
}

// refusal is why a device is not sent. It is an error with a cause.
type refusal struct {
	cause provision.Cause
	text  string
}

func (r *refusal) Error() string { return r.text }

// Cause sorts the failure as a site sorts its own.
func (r *refusal) Cause() provision.Cause { return r.cause }

// result is what became of a device that is not sent. The device is without keys by now; n is its number in the input,
// 0 if it is of none.
func (r *refusal) result(seq int64, d provision.Device, name string, n int64) provision.Result {
	text := privatekey.Cut(r.text)
	if n > 0 {
		text = fmt.Sprintf("record %d of the input: %s", n, text)
	}
	return provision.Result{Seq: seq, Name: name, Row: d.Row, Meta: d.Meta, Source: d.Source, Verdict: provision.Failed, Cause: r.cause, Message: text}
}

// choose returns the site of a device, or why there is none.
func (f *Fleet) choose(d provision.Device) (*site, *refusal) {
	if d.Err != nil {
		return nil, &refusal{provision.CauseInvalidRecord, d.Err.Error()}
	}
	name, err := f.opts.Route.site(d)
	if err == nil && name == "" {
		err = errors.New("the route names no site for it")
	}
	if err != nil {
		return nil, &refusal{CauseNoRoute, err.Error()}
	}
	i, ok := slices.BinarySearchFunc(f.sites, name, func(s *site, name string) int { return strings.Compare(s.name, name) })
	if !ok {
		return nil, &refusal{CauseNoRoute, fmt.Sprintf("there is no site %q; the sites are %s", name, f.siteNames())}
	}
	return f.sites[i], nil
}

// siteNames lists the sites for people.
func (f *Fleet) siteNames() string {
	const most = 10
	var names []string
	for _, s := range f.sites {
		if len(names) == most {
			return fmt.Sprintf("%s and %d more", strings.Join(names, ", "), len(f.sites)-most)
		}
		names = append(names, fmt.Sprintf("%q", s.name))
	}
	return strings.Join(names, ", ")
}
