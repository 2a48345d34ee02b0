package fakeaws

import (
	"context"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// iotRoute is one operation on the wire.
type iotRoute struct {
	name     string
	method   string
	segments []string // of the path; a label is in braces
	members  []member // that are in the path, the query or a header
	input    reflect.Type
	output   reflect.Type
	call     func(ctx context.Context, b *fakebackend.IoT, in any) (any, error)
}

// member is an input member outside the body.
type member struct {
	name  string // in the API model and in the input's JSON
	wire  string // on the wire
	place place
}

type place string

const (
	inPath   place = "path"
	inQuery  place = "query"
	inHeader place = "header"
	inBody   place = "body"
)

func query(name string, wire ...string) member {
	if len(wire) == 0 {
		return member{name, name, inQuery}
	}
	return member{name, wire[0], inQuery}
}

func header(name, wire string) member { return member{name, http.CanonicalHeaderKey(wire), inHeader} }

func label(name, wire string) member { return member{name, wire, inPath} }

// op makes a route. Labels of the path whose names are those of the members need not be listed.
func op[I, O any](name, pattern string, call func(*fakebackend.IoT, context.Context, *I) (*O, error), members ...member) *iotRoute {
	method, path, _ := strings.Cut(pattern, " ")
	r := &iotRoute{name: name, method: method, segments: strings.Split(path[1:], "/"), members: members, input: reflect.TypeFor[I](), output: reflect.TypeFor[O]()}
	for _, s := range r.segments {
		wire, ok := labelOf(s)
		if !ok {
			continue
		}
		listed := false
		for _, m := range members {
			listed = listed || m.place == inPath && m.wire == wire
		}
		if !listed {
			r.members = append(r.members, member{wire, wire, inPath})
		}
	}
	r.call = func(ctx context.Context, b *fakebackend.IoT, in any) (any, error) {
		out, err := call(b, ctx, in.(*I))
		if err != nil {
			return nil, err
		}
		return out, nil
	}
	return r
}

func labelOf(segment string) (string, bool) {
	if len(segment) > 2 && segment[0] == '{' {
		return segment[1 : len(segment)-1], true
	}
	return "", false
}

// iotIndex finds routes by method and number of segments.
var iotIndex = func() map[string]map[int][]*iotRoute {
	index := map[string]map[int][]*iotRoute{}
	for _, r := range iotRoutes {
		if index[r.method] == nil {
			index[r.method] = map[int][]*iotRoute{}
		}
		index[r.method][len(r.segments)] = append(index[r.method][len(r.segments)], r)
	}
	return index
}()

// findIoT finds the operation of a request by its method and its path as it was sent: an ARN in a path is one segment,
// with its slashes encoded. It also gives the labels. No two operations of the API model match the same request.
func findIoT(method, escapedPath string) (*iotRoute, map[string]string) {
	segments := strings.Split(strings.TrimPrefix(escapedPath, "/"), "/")
	for _, r := range iotIndex[method][len(segments)] {
		if labels, ok := r.match(segments); ok {
			return r, labels
		}
	}
	return nil, nil
}

func (r *iotRoute) match(segments []string) (map[string]string, bool) {
	var labels map[string]string
	for i, want := range r.segments {
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
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, true
}

// isIoTPath reports whether some operation, of whatever method, has a path that begins like this one: for requests that
// do not say in any other way which service they are for.
func isIoTPath(escapedPath string) bool {
	first, _, _ := strings.Cut(strings.TrimPrefix(escapedPath, "/"), "/")
	for _, r := range iotRoutes {
		if r.segments[0] == first {
			return true
		}
	}
	return false
}
