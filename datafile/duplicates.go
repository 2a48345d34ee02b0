package datafile

import (
	"crypto/rand"
	"crypto/sha256"
	"hash"
	"math/bits"
	"sync"
)

// BytesPerEntry is the most memory that [Duplicates] uses for one name or one key, its fixed cost of at most 48 KiB
// apart.
const BytesPerEntry = 48

// Duplicates finds things that occur a second time: a thing name or a public key. Its zero value is ready for use.
//
// It keeps no names: for each entry it holds 128 bits of a SHA-256 keyed with a random number, and the row. That costs
// at most [BytesPerEntry] bytes per name and as much per key, however long they are: 48 MB for the names of a million
// devices, at most 96 MB for names and keys. Two different names would be taken for one only if those 128 bits were the
// same: for a fleet of a million the chance is below 1 in 10^26, for a thousand million below 1 in 10^20, and the
// random number keeps anyone from choosing names for it.
//
// A Duplicates is safe for concurrent use. Which of two rows added at the same time counts as the first is open, so add
// from one goroutine where that matters.
type Duplicates struct {
	mu      sync.Mutex
	key     [32]byte
	hash    hash.Hash
	scratch []byte
	names   entrySet
	keys    entrySet
}

// AddThing records the thing name of a row. It returns true and the row that had the name first if it was there already;
// that row stays the first.
//
// AWS tells thing names apart by case: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateThing.html
func (d *Duplicates) AddThing(name string, row int64) (first int64, duplicate bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.add(&d.names, name, nil, row)
}

// AddKey records the public key of a row by the SHA-256 of its SubjectPublicKeyInfo. It returns true and the row that had
// the key first if it was there already. Two devices with one key can each impersonate the other.
func (d *Duplicates) AddKey(digest [sha256.Size]byte, row int64) (first int64, duplicate bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.add(&d.keys, "", digest[:], row)
}

// Len returns the number of different names and of different keys.
func (d *Duplicates) Len() (things, keys int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names.len(), d.keys.len()
}

// Memory returns the bytes that the entries occupy now.
func (d *Duplicates) Memory() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names.memory() + d.keys.memory()
}

func (d *Duplicates) add(set *entrySet, name string, digest []byte, row int64) (int64, bool) {
	if d.hash == nil {
		rand.Read(d.key[:]) // never fails
		d.hash = sha256.New()
	}
	d.scratch = append(append(append(d.scratch[:0], d.key[:]...), name...), digest...)
	d.hash.Reset()
	d.hash.Write(d.scratch)
	sum := d.hash.Sum(d.scratch[:0])
	e := entry{hi: bigEndian(sum), lo: bigEndian(sum[8:]), row: row}
	if e.hi == 0 { // 0 marks a free slot
		e.hi = 1
	}
	d.scratch = sum[:0]
	return set.add(e)
}

func bigEndian(b []byte) (n uint64) {
	for _, c := range b[:8] {
		n = n<<8 | uint64(c)
	}
	return n
}

// entrySet is a hash table in parts, chosen by the hash. A part grows by half when it is four fifths full, so a slot of
// 24 bytes costs between 30 and 45 bytes per entry; and one part grows at a time, so growing never needs the memory of
// the whole twice.
type entrySet struct {
	parts [entryParts]entryPart
}

const (
	entryParts    = 64
	firstEntries  = 8
	bytesPerEntry = 24 // unsafe.Sizeof(entry{}), checked by a test
)

type entry struct {
	hi, lo uint64
	row    int64
}

type entryPart struct {
	slots []entry
	used  int
}

func (s *entrySet) add(e entry) (first int64, duplicate bool) {
	p := &s.parts[e.hi%entryParts]
	if p.used*5 >= len(p.slots)*4 {
		p.grow()
	}
	return p.put(e)
}

// put returns the row of an equal entry, or stores e in the first free slot from its place on.
func (p *entryPart) put(e entry) (first int64, duplicate bool) {
	place, _ := bits.Mul64(e.lo, uint64(len(p.slots)))
	for i := int(place); ; {
		slot := &p.slots[i]
		if slot.hi == 0 {
			*slot = e
			p.used++
			return e.row, false
		}
		if slot.hi == e.hi && slot.lo == e.lo {
			return slot.row, true
		}
		if i++; i == len(p.slots) {
			i = 0
		}
	}
}

func (p *entryPart) grow() {
	old := p.slots
	p.slots, p.used = make([]entry, max(firstEntries, len(old)+len(old)/2)), 0
	for _, e := range old {
		if e.hi != 0 {
			p.put(e)
		}
	}
}

func (s *entrySet) len() (n int) {
	for i := range s.parts {
		n += s.parts[i].used
	}
	return n
}

func (s *entrySet) memory() (n int64) {
	for i := range s.parts {
		n += int64(len(s.parts[i].slots)) * bytesPerEntry
	}
	return n
}
