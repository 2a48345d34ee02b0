package fleet

import (
	"crypto/sha256"
	"sync"
)

// firsts remembers for each name, or for each public key, the number it was first added with. It keeps 128 bits of the
// SHA-256 of each and no text: at most bytesPerEntry bytes for each, however long it is. The zero value is empty. It is
// safe for concurrent use.
type firsts struct {
	mu      sync.Mutex
	numbers map[[16]byte]int64
}

// bytesPerEntry is a key and a number of 24 bytes in a map that is at least seven sixteenths full.
const bytesPerEntry = 64

// add returns the number that was first added with what, and whether that was an earlier call.
func (f *firsts) add(what string, number int64) (first int64, known bool) {
	key := keyOf(what)
	f.mu.Lock()
	defer f.mu.Unlock()
	if first, known = f.numbers[key]; known {
		return first, true
	}
	if f.numbers == nil {
		f.numbers = make(map[[16]byte]int64)
	}
	f.numbers[key] = number
	return number, false
}

// find returns the number that was first added with what.
func (f *firsts) find(what string) (first int64, known bool) {
	key := keyOf(what)
	f.mu.Lock()
	defer f.mu.Unlock()
	first, known = f.numbers[key]
	return first, known
}

// forget empties it.
func (f *firsts) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.numbers = nil
}

func keyOf(what string) [16]byte {
	digest := sha256.Sum256([]byte(what))
	return [16]byte(digest[:16])
}
