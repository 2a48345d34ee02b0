package s3

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
)

// State is everything a store held at one moment. Taking and restoring one is cheap: objects do not change, so both
// sides share them. As JSON it can be written to a file; bodies are then in base64.
type State struct {
	buckets map[string]*bucket
	made    uint64
}

// Snapshot keeps all buckets, objects and uploads as they are now.
func (s *Store) Snapshot() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return State{cloneBuckets(s.buckets), s.made}
}

// Restore puts everything back to a snapshot, which can be restored again. The zero State empties the store.
func (s *Store) Restore(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets, s.made = cloneBuckets(state.buckets), state.made
}

func cloneBuckets(in map[string]*bucket) map[string]*bucket {
	out := make(map[string]*bucket, len(in))
	for name, b := range in {
		copied := &bucket{Bucket: b.Bucket, objects: maps.Clone(b.objects), uploads: map[string]*upload{}}
		if b.publicAccess != nil {
			copied.publicAccess = new(*b.publicAccess)
		}
		for id, u := range b.uploads {
			copied.uploads[id] = &upload{u.Upload, u.info.clone(), maps.Clone(u.parts), u.done, u.of}
		}
		out[name] = copied
	}
	return out
}

// The forms below are a State in JSON.

type stateJSON struct {
	Buckets []bucketJSON
	Made    uint64
}

type bucketJSON struct {
	Bucket
	PublicAccess *PublicAccessBlock `json:",omitempty"`
	Objects      []objectJSON       `json:",omitempty"`
	Uploads      []uploadJSON       `json:",omitempty"`
}

type objectJSON struct {
	Object
	Body []byte
}

type uploadJSON struct {
	Upload
	Info  Info
	Parts []partJSON `json:",omitempty"`
	Done  *Object    `json:",omitempty"`
	Of    string     `json:",omitempty"`
}

type partJSON struct {
	Part
	Body []byte
}

// Emptied returns a state without buckets whose ids go on after those of st.
func (st State) Emptied() State { return State{made: st.made} }

// MarshalJSON writes the state with all bodies.
func (st State) MarshalJSON() ([]byte, error) {
	out := stateJSON{Buckets: []bucketJSON{}, Made: st.made}
	for _, name := range sorted(st.buckets) {
		b := st.buckets[name]
		j := bucketJSON{Bucket: b.Bucket, PublicAccess: b.publicAccess}
		for _, key := range sorted(b.objects) {
			j.Objects = append(j.Objects, objectJSON{*b.objects[key], b.objects[key].body})
		}
		for _, id := range sorted(b.uploads) {
			u := uploadJSON{Upload: b.uploads[id].Upload, Info: b.uploads[id].info, Done: b.uploads[id].done, Of: b.uploads[id].of}
			for _, n := range sorted(b.uploads[id].parts) {
				u.Parts = append(u.Parts, partJSON{*b.uploads[id].parts[n], b.uploads[id].parts[n].body})
			}
			j.Uploads = append(j.Uploads, u)
		}
		out.Buckets = append(out.Buckets, j)
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes. A body that does not have its digest any more is an error.
func (st *State) UnmarshalJSON(data []byte) error {
	var in stateJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("fake S3: read a snapshot: %w", err)
	}
	buckets := map[string]*bucket{}
	for _, j := range in.Buckets {
		if err := checkBucketName(j.Name); err != nil {
			return fmt.Errorf("fake S3: read a snapshot: %w", err)
		}
		b := &bucket{Bucket: j.Bucket, objects: map[string]*Object{}, uploads: map[string]*upload{}, publicAccess: j.PublicAccess}
		for _, o := range j.Objects {
			held := o.Object.clone()
			held.body = o.Body
			if sha256.Sum256(held.body) != held.SHA256 || int64(len(held.body)) != held.Size || held.Bucket != j.Name {
				return fmt.Errorf("fake S3: read a snapshot: object s3://%s/%s is not as it was written", j.Name, o.Key)
			}
			b.objects[held.Key] = held
		}
		for _, u := range j.Uploads {
			if u.ID == "" {
				return errors.New("fake S3: read a snapshot: an upload has no id")
			}
			held := &upload{Upload: u.Upload, info: u.Info, parts: map[int]*Part{}, done: u.Done, of: u.Of}
			for _, p := range u.Parts {
				part := p.Part.clone()
				part.body = p.Body
				held.parts[part.Number] = part
			}
			b.uploads[held.ID] = held
		}
		buckets[j.Name] = b
	}
	*st = State{buckets, in.Made}
	return nil
}
