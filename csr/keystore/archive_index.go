package keystore

// A slot of the index holds a place in the file, and of the name's hash the bits below those that chose the shard.
const (
	shardBits  = 10
	tagBits    = 20
	offsetBits = 64 - tagBits // 16 TiB
)

// maxOffset is where the last record can begin.
const maxOffset = 1<<offsetBits - 1

// places says where the record of a device may be: it has an offset for each record, to be found by 30 bits of the hash of
// the device's name. The name in the file decides. Of a thousand names that have no record, one shares these bits with one
// of a million records, and costs a reading of the file.
//
// It is cut into shards, which grow one at a time and by an eighth, so nothing large is ever copied and little is empty.
type places struct {
	shards [1 << shardBits]shard
}

// shard is a hash table with open addressing, at most four fifths full.
type shard struct {
	slots []uint64 // tag and offset; 0 if it is free, for no record is at offset 0
	used  int
}

// shard returns where a hash belongs, and its tag in place.
func (p *places) shard(hash uint64) (s *shard, tag uint64) {
	return &p.shards[hash>>(64-shardBits)], hash << shardBits &^ maxOffset
}

// add enters a record, whether or not the hash has one.
func (p *places) add(hash uint64, offset int64) {
	s, tag := p.shard(hash)
	if 5*s.used >= 4*len(s.slots) {
		s.grow()
	}
	s.put(tag | uint64(offset))
	s.used++
}

// find appends the offsets of the records that the hash may be of.
func (p *places) find(hash uint64, offsets []int64) []int64 {
	s, tag := p.shard(hash)
	for i := s.home(tag); i < len(s.slots) && s.slots[i] != 0; i = s.next(i) {
		if s.slots[i]&^maxOffset == tag {
			offsets = append(offsets, int64(s.slots[i]&maxOffset))
		}
	}
	return offsets
}

// has reports whether this very record was entered.
func (p *places) has(hash uint64, offset int64) bool {
	s, tag := p.shard(hash)
	for i := s.home(tag); i < len(s.slots) && s.slots[i] != 0; i = s.next(i) {
		if s.slots[i] == tag|uint64(offset) {
			return true
		}
	}
	return false
}

// home is where the search for a slot begins. The tag alone decides, so a shard grows without hashing a name again.
func (s *shard) home(slot uint64) int {
	return int(slot >> offsetBits * uint64(len(s.slots)) >> tagBits)
}

func (s *shard) next(i int) int {
	if i++; i == len(s.slots) {
		return 0
	}
	return i
}

// put takes the first free slot from the home on. There is one.
func (s *shard) put(slot uint64) {
	i := s.home(slot)
	for s.slots[i] != 0 {
		i = s.next(i)
	}
	s.slots[i] = slot
}

func (s *shard) grow() {
	const first = 8
	old := s.slots
	s.slots = make([]uint64, len(old)+max(first, len(old)/8))
	for _, slot := range old {
		if slot != 0 {
			s.put(slot)
		}
	}
}
