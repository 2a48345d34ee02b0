package fakebackend

import (
	"encoding/base64"
	"encoding/binary"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// paged is the input of an operation that lists in pages.
type paged interface {
	asked() (token string, size *int32) // size is nil when the caller did not choose one
	goOn(token string)
	tokenNames() (in, out string) // the members that hold a token
}

// nextToken is the member that holds where to begin.
type nextToken struct {
	NextToken string `query:"nextToken"`
}

func (n *nextToken) asked() (string, *int32)      { return n.NextToken, nil }
func (n *nextToken) goOn(token string)            { n.NextToken = token }
func (n *nextToken) tokenNames() (in, out string) { return "nextToken", "nextToken" }

// byToken are the members of operations that call a page's size maxResults.
type byToken struct {
	nextToken
	MaxResults *int32 `query:"maxResults" is:"MaxResults"`
}

func (p *byToken) asked() (string, *int32) { return p.NextToken, p.MaxResults }

// byMarker are the members of operations that call it pageSize.
type byMarker struct {
	Marker   string `query:"marker" is:"Marker"`
	PageSize *int32 `query:"pageSize" is:"PageSize"`
}

func (p *byMarker) asked() (string, *int32)      { return p.Marker, p.PageSize }
func (p *byMarker) goOn(token string)            { p.Marker = token }
func (p *byMarker) tokenNames() (in, out string) { return "marker", "nextMarker" }

// page is the page that a list operation is asked for. Whoever fills it sets next when more follows.
type page struct {
	now    time.Time
	from   uint64 // the number that it begins after, or the index that it begins at; 0 is the start
	size   int
	next   string
	beside map[string]any // members that the answer has beside the list
}

func pageFor(b *account, now time.Time, in paged) (*page, *task.Error) {
	tok, size := in.asked()
	p := &page{now: now, size: b.opts.PageSize}
	if size != nil {
		p.size = int(*size)
	}
	var err *task.Error
	member, _ := in.tokenNames()
	p.from, err = numberOf(tok, member)
	return p, err
}

// token is the nextToken of a page that ended at number n: opaque to callers, and in the alphabet that AWS demands of
// markers.
func token(n uint64) string {
	return base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint64([]byte{'p', '1'}, n))
}

// numberOf reads a token back; "" is the start.
func numberOf(tok, member string) (uint64, *task.Error) {
	if tok == "" {
		return 0, nil
	}
	raw, err := base64.StdEncoding.DecodeString(tok)
	if err != nil || len(raw) != 10 || raw[0] != 'p' || raw[1] != '1' {
		return 0, refuse(codeInvalidRequest, "Invalid %s", member)
	}
	return binary.BigEndian.Uint64(raw[2:]), nil
}

// rowsOf fills a page with a table's records, which begin where the page does. A page that is full and the last has no
// token, as in AWS.
func rowsOf[V interface{ marked() *mark }, T any](p *page, rows iter.Seq[V], show func(V) T) []T {
	out := make([]T, 0, p.size)
	var last V
	for v := range rows {
		if len(out) == p.size {
			p.next = token(last.marked().number())
			break
		}
		out, last = append(out, show(v)), v
	}
	return out
}

// itemsOf fills a page from a slice that does not change between calls.
func itemsOf[V, T any](p *page, all []V, show func(V) T) []T {
	rest := all[min(p.from, uint64(len(all))):]
	if len(rest) > p.size {
		rest = rest[:p.size]
		p.next = token(p.from + uint64(p.size))
	}
	out := make([]T, 0, len(rest))
	for _, v := range rest {
		out = append(out, show(v))
	}
	return out
}

// inOrder returns the records of a table from where a page begins: oldest first when asked so, newest first if not.
func inOrder[K comparable, V interface {
	comparable
	marked() *mark
}](t *table[K, V], p *page, ascending bool) iter.Seq[V] {
	if ascending {
		return t.after(p.from)
	}
	return t.before(p.from)
}

// filter leaves out the records for which keep reports false.
func filter[V any](rows iter.Seq[V], keep func(V) bool) iter.Seq[V] {
	return func(yield func(V) bool) {
		for v := range rows {
			if keep(v) && !yield(v) {
				return
			}
		}
	}
}
