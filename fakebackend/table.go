package fakebackend

import (
	"iter"
	"slices"
	"sort"
)

// mark is the part that every record in a [table] has: its number in the order of creation, and whether it has been
// taken out again.
type mark struct {
	n uint64 // number << 1 | gone
}

func (m *mark) number() uint64 { return m.n >> 1 }
func (m *mark) gone() bool     { return m.n&1 != 0 }
func (m *mark) marked() *mark  { return m }

// table keeps records by key and in the order in which they were made. Going through it stays stable while records come
// and go, also those that the loop itself removes, since a page ends at a record's number and not at an index. A record
// costs its map entry and one word.
type table[K comparable, V interface {
	comparable
	marked() *mark
}] struct {
	byKey map[K]V
	rows  []V
	dead  int // rows that are gone
	last  uint64
}

func (t *table[K, V]) len() int { return len(t.byKey) }

func (t *table[K, V]) get(key K) (V, bool) {
	v, ok := t.byKey[key]
	return v, ok
}

// add puts a new record in and numbers it.
func (t *table[K, V]) add(key K, v V) {
	t.last++
	t.insert(key, v, t.last)
}

// insert puts in a record whose number is known, which must be above all others.
func (t *table[K, V]) insert(key K, v V, number uint64) {
	if t.byKey == nil {
		t.byKey = make(map[K]V)
	}
	t.last = max(t.last, number)
	v.marked().n = number << 1
	t.byKey[key] = v
	t.rows = append(t.rows, v)
}

// remove takes a record out. Nothing happens when there is none.
func (t *table[K, V]) remove(key K) {
	v, ok := t.byKey[key]
	if !ok {
		return
	}
	delete(t.byKey, key)
	v.marked().n |= 1
	if t.dead++; t.dead > 32 && t.dead > len(t.rows)/2 {
		// Into a slice of its own: whoever removes a record may be going through the old one.
		live := make([]V, 0, len(t.byKey))
		for _, v := range t.rows {
			if !v.marked().gone() {
				live = append(live, v)
			}
		}
		t.rows, t.dead = live, 0
	}
}

// after yields the records with a number above n, oldest first.
func (t *table[K, V]) after(n uint64) iter.Seq[V] {
	return func(yield func(V) bool) {
		from := sort.Search(len(t.rows), func(i int) bool { return t.rows[i].marked().number() > n })
		for _, v := range t.rows[from:] {
			if !v.marked().gone() && !yield(v) {
				return
			}
		}
	}
}

// before yields the records with a number below n, newest first; n = 0 means all.
func (t *table[K, V]) before(n uint64) iter.Seq[V] {
	return func(yield func(V) bool) {
		to := len(t.rows)
		if n > 0 {
			to = sort.Search(len(t.rows), func(i int) bool { return t.rows[i].marked().number() >= n })
		}
		for _, v := range slices.Backward(t.rows[:to]) {
			if !v.marked().gone() && !yield(v) {
				return
			}
		}
	}
}

// all yields every record, oldest first.
func (t *table[K, V]) all() iter.Seq[V] { return t.after(0) }
