package fleet

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// feedRows is how many devices a feed holds in memory before it writes them to its file, and how many it reads back at
// once.
const feedRows = 1000

// feed is the queue of devices between the input and one site. The input never waits for a site: what a site has not
// taken goes to a temporary file. One goroutine puts, another takes.
type feed struct {
	dir string

	mu     sync.Mutex
	tail   []provision.Device // the latest devices
	chunks []chunk            // those before them, oldest first
	file   *os.File
	path   string // of the file, while it has a name
	end    int64  // where the next chunk goes
	given  int64
	closed bool
	err    error         // what the sequence ends with
	gone   bool          // the site takes no more
	news   chan struct{} // holds one item when something was put or the feed was closed
}

// chunk is feedRows devices in the file.
type chunk struct{ offset, size int64 }

// feeds are the queues of all sites.
type feeds []*feed

func (f *Fleet) newFeeds() feeds {
	list := make(feeds, len(f.sites))
	for i := range list {
		list[i] = newFeed(f.opts.SpoolDir)
	}
	return list
}

// close ends every sequence.
func (fs feeds) close(err error) {
	for _, f := range fs {
		f.close(err)
	}
}

// leave takes no more of any.
func (fs feeds) leave() {
	for _, f := range fs {
		f.leave()
	}
}

func newFeed(dir string) *feed { return &feed{dir: dir, news: make(chan struct{}, 1)} }

// put adds a device. A site that has left gets nothing more; its devices are counted all the same.
func (f *feed) put(d provision.Device) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.given++
	if f.gone || f.closed {
		return
	}
	if f.tail = append(f.tail, d); len(f.tail) == feedRows {
		if err := f.spill(); err != nil {
			f.closeLocked(fmt.Errorf("keeping devices until the site takes them: %w", err))
			return
		}
	}
	f.wake()
}

// close ends the sequence: with err, or after the last device.
func (f *feed) close(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closeLocked(err)
}

func (f *feed) closeLocked(err error) {
	if !f.closed {
		f.closed, f.err = true, err
	}
	f.wake()
}

// leave is called when the site takes no more. It removes the file.
func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone, f.tail, f.chunks = true, nil, nil
	if f.file != nil {
		_ = f.file.Close()
		if f.path != "" {
			_ = os.Remove(f.path)
		}
		f.file, f.path = nil, ""
	}
}

// count is how many devices were put.
func (f *feed) count() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.given
}

func (f *feed) wake() {
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// all yields the devices in the order in which they were put.
func (f *feed) all(ctx context.Context) iter.Seq2[provision.Device, error] {
	return func(yield func(provision.Device, error) bool) {
		for {
			devices, done, err := f.take()
			for _, d := range devices {
				if !yield(d, nil) {
					return
				}
			}
			switch {
			case err != nil:
				yield(provision.Device{}, err)
				return
			case done:
				return
			case len(devices) > 0:
				continue
			}
			select {
			case <-f.news:
			case <-ctx.Done():
				yield(provision.Device{}, context.Cause(ctx))
				return
			}
		}
	}
}

// take returns the oldest devices, or how the sequence ends. An error of the input comes at once, since nothing that
// is taken after it could be used.
func (f *feed) take() (devices []provision.Device, done bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed && f.err != nil:
		return nil, true, f.err
	case len(f.chunks) > 0:
		devices, err = f.readBack()
		return devices, false, err
	case len(f.tail) > 0:
		devices, f.tail = f.tail, nil
		return devices, false, nil
	}
	return nil, f.closed, nil
}

// waiting is a device in the file. Gob keeps every byte of a string, valid UTF-8 or not.
type waiting struct {
	Name, Source, RunID string
	Row, Meta           map[string]string
	Columns             []string
	Seq                 int64
	Wrong               bool // with Cause and Text of its Err
	Cause               provision.Cause
	Text                string
}

func waitingOf(d provision.Device) waiting {
	w := waiting{Name: d.Name, Source: d.Source, RunID: d.RunID, Row: d.Row, Meta: d.Meta, Columns: d.Columns, Seq: d.Seq}
	if d.Err != nil {
		w.Wrong, w.Cause, w.Text = true, provision.CauseInvalidRecord, d.Err.Error()
		if e, ok := errors.AsType[provision.CauseError](d.Err); ok {
			w.Cause = e.Cause()
		}
	}
	return w
}

func (w *waiting) device() provision.Device {
	d := provision.Device{Name: w.Name, Source: w.Source, RunID: w.RunID, Row: w.Row, Meta: w.Meta, Columns: w.Columns, Seq: w.Seq}
	if w.Wrong {
		d.Err = &refusal{w.Cause, w.Text}
	}
	return d
}

// spill writes the latest devices to the file.
func (f *feed) spill() error {
	if f.file == nil {
		file, err := os.CreateTemp(f.dir, "iotfleet-fleet-")
		if err != nil {
			return err
		}
		f.file, f.path = file, file.Name()
		if os.Remove(f.path) == nil { // so that nothing is left after a crash, where the system allows it
			f.path = ""
		}
	}
	rows := make([]waiting, len(f.tail))
	for i, d := range f.tail {
		rows[i] = waitingOf(d)
	}
	var data bytes.Buffer
	if err := gob.NewEncoder(&data).Encode(rows); err != nil {
		return err
	}
	if _, err := f.file.WriteAt(data.Bytes(), f.end); err != nil {
		return err
	}
	f.chunks = append(f.chunks, chunk{f.end, int64(data.Len())})
	f.end += int64(data.Len())
	f.tail = f.tail[:0]
	return nil
}

// readBack reads the oldest chunk of the file.
func (f *feed) readBack() ([]provision.Device, error) {
	c := f.chunks[0]
	if f.chunks = f.chunks[1:]; len(f.chunks) == 0 {
		f.end = 0 // all of it is read: begin again
	}
	data := make([]byte, c.size)
	if _, err := f.file.ReadAt(data, c.offset); err != nil {
		return nil, fmt.Errorf("reading back the devices that the site had not taken: %w", err)
	}
	var rows []waiting
	if err := gob.NewDecoder(bytes.NewReader(data)).Decode(&rows); err != nil {
		return nil, errors.New("the temporary file with the devices that the site had not taken is damaged")
	}
	devices := make([]provision.Device, len(rows))
	for i := range rows {
		devices[i] = rows[i].device()
	}
	return devices, nil
}
