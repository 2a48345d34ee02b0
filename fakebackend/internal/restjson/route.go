package restjson

import (
	"net/url"
	"strings"
)

// Router finds the operation of a request.
type Router struct {
	byLength map[string]map[int][]*Operation // by method and number of segments
	first    map[string]bool                 // the first segments of all paths
}

// NewRouter makes a router. No two operations of an API model match the same request.
func NewRouter(operations []*Operation) *Router {
	r := &Router{byLength: map[string]map[int][]*Operation{}, first: map[string]bool{}}
	for _, o := range operations {
		if r.byLength[o.Method] == nil {
			r.byLength[o.Method] = map[int][]*Operation{}
		}
		r.byLength[o.Method][len(o.segments)] = append(r.byLength[o.Method][len(o.segments)], o)
		r.first[o.segments[0]] = true
	}
	return r
}

// Find returns the operation that a method and a path name, with the labels of the path; nil if there is none. The path
// is taken as it was sent: an ARN in it is one segment, with its slashes encoded.
func (r *Router) Find(method, escapedPath string) (*Operation, map[string]string) {
	segments := strings.Split(strings.TrimPrefix(escapedPath, "/"), "/")
	for _, o := range r.byLength[method][len(segments)] {
		if labels, ok := o.match(segments); ok {
			return o, labels
		}
	}
	return nil, nil
}

// Begins reports whether some operation, of whatever method, has a path that begins like this one.
func (r *Router) Begins(escapedPath string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(escapedPath, "/"), "/")
	return r.first[first]
}

func (o *Operation) match(segments []string) (map[string]string, bool) {
	labels := map[string]string{}
	for i, want := range o.segments {
		name, ok := labelOf(want)
		if !ok {
			if want != segments[i] {
				return nil, false
			}
			continue
		}
		value, err := url.PathUnescape(segments[i])
		if err != nil {
			return nil, false
		}
		labels[name] = value
	}
	return labels, true
}
