package fakebackend

import (
	"encoding/base64"
	"encoding/binary"
	"iter"

	"github.com/seed1ff6f450/iotfleet/task"
)

// maxPage is the greatest maxResults or pageSize of AWS IoT's list operations.
const maxPage = 250

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

// pageOf takes one page of a table's records. The token of the next page is empty when this one is the last, also when
// it is full: AWS gives none then.
func pageOf[V interface{ marked() *mark }](rows iter.Seq[V], size int) (page []V, next string) {
	for v := range rows {
		if len(page) == size {
			return page, token(page[size-1].marked().number())
		}
		page = append(page, v)
	}
	return page, ""
}

// size is the page size a caller asked for, or the fake's own.
func (b *IoT) size(asked *int32) int {
	if asked == nil {
		return b.opts.PageSize
	}
	return int(*asked)
}

// slicePage takes one page of a slice that does not change between calls; the token is the index to go on at.
func slicePage[T any](all []T, tok, member string, size int) (page []T, next string, err *task.Error) {
	from, err := numberOf(tok, member)
	if err != nil {
		return nil, "", err
	}
	if from > uint64(len(all)) {
		return nil, "", nil
	}
	page = all[from:]
	if len(page) > size {
		return page[:size], token(from + uint64(size)), nil
	}
	return page, "", nil
}

// filter leaves out the records that keep says no to.
func filter[V any](rows iter.Seq[V], keep func(V) bool) iter.Seq[V] {
	return func(yield func(V) bool) {
		for v := range rows {
			if keep(v) && !yield(v) {
				return
			}
		}
	}
}
