package s3

import "strings"

// ListInput selects the keys to list. The zero value of all but Bucket lists everything, 1,000 entries a page.
type ListInput struct {
	Bucket    string
	Prefix    string
	Delimiter string // keys that hold it after the prefix are rolled up into common prefixes
	After     string // begin after this key or common prefix
	Max       int    // entries a page, keys and common prefixes together; 0 for 1,000, which is also the most
}

// ListPage is one page of a listing, in the order of the keys' UTF-8 bytes.
type ListPage struct {
	Objects        []*Object
	CommonPrefixes []string
	Next           string // After of the next page; empty on the last
}

// List returns a page of a bucket's keys.
func (s *Store) List(in ListInput) (*ListPage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.bucket(in.Bucket)
	if err != nil {
		return nil, err
	}
	most := in.Max
	if most <= 0 || most > 1000 {
		most = 1000
	}
	page := &ListPage{}
	last := ""
	for _, key := range sorted(b.objects) {
		if !strings.HasPrefix(key, in.Prefix) {
			continue
		}
		entry, rolled := key, false
		if in.Delimiter != "" {
			if before, _, ok := strings.Cut(key[len(in.Prefix):], in.Delimiter); ok {
				entry, rolled = in.Prefix+before+in.Delimiter, true
			}
		}
		// A page that ended with a common prefix goes on after everything under it.
		if entry <= in.After || rolled && entry == last {
			continue
		}
		if len(page.Objects)+len(page.CommonPrefixes) == most {
			page.Next = last
			return page, nil
		}
		last = entry
		if rolled {
			page.CommonPrefixes = append(page.CommonPrefixes, entry)
		} else {
			page.Objects = append(page.Objects, b.objects[key].clone())
		}
	}
	return page, nil
}
