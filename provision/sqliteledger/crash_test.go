package sqliteledger

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// perStep is how many devices a step adds.
const perStep = 5

// step is the i-th of a sequence of changes, from 0. Each touches every table, and most touch rows of earlier ones.
func step(i int) provision.Change {
	at := time.Unix(1_800_000_000+int64(i), int64(i))
	c := provision.Change{
		InputStays: i%2 == 0,
		Run:        &provision.RunRecord{ID: "run", Created: time.Unix(1_800_000_000, 0), Total: int64(i+1) * perStep},
		Part:       &provision.PartRecord{Number: i + 1, Attempt: 1, State: provision.PartStarted, Lines: perStep, Started: at},
		Orphans: []*provision.Orphan{
			{CertificateID: fmt.Sprintf("orphan-%d", i), Seq: int64(i + 1), Found: at},
			{CertificateID: "orphan-0", Seq: int64(i + 1), Why: fmt.Sprint(i)},
		},
	}
	for k := range int64(perStep) {
		d := new(provision.DeviceRecord)
		d.Seq, d.Verdict, d.Updated = int64(i)*perStep+k+1, provision.Waiting, at
		d.Name, d.Row = fmt.Sprintf("device-%d", d.Seq), map[string]string{"SerialNumber": strings.Repeat(fmt.Sprint(d.Seq), 300)}
		c.Add = append(c.Add, d)
		if i == 0 {
			continue
		}
		old := new(provision.DeviceRecord)
		old.Seq, old.Verdict, old.Updated, old.Attempts = (d.Seq*7)%int64(i*perStep)+1, provision.Provisioned, at, i
		old.Name, old.CertificateID = fmt.Sprintf("device-%d", old.Seq), fmt.Sprintf("certificate-%d-%d", old.Seq, i)
		old.CertificatePEM = strings.Repeat(old.CertificateID, 40)
		c.Devices = append(c.Devices, old)
	}
	return c
}

// holding is all that a ledger holds.
type holding struct {
	Run     *provision.RunRecord
	Devices []*provision.DeviceRecord
	Parts   []*provision.PartRecord
	Orphans []*provision.Orphan
	Counts  *provision.Counts
	Found   map[string]int64
}

func (h *holding) text(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(h)
	require.NoError(t, err)
	return string(text)
}

// fingerprint is all that a ledger holds, as text.
func fingerprint(t *testing.T, l *Ledger) string {
	t.Helper()
	var (
		all holding
		err error
	)
	if all.Run, err = l.Run(t.Context()); !errors.Is(err, provision.ErrNoRun) {
		require.NoError(t, err)
	}
	var names []string
	for d, err := range l.Devices(t.Context(), provision.DeviceFilter{}) {
		require.NoError(t, err)
		all.Devices, names = append(all.Devices, d), append(names, d.Name)
	}
	all.Parts, err = l.Parts(t.Context())
	require.NoError(t, err)
	all.Orphans, err = l.Orphans(t.Context())
	require.NoError(t, err)
	all.Counts, err = l.Counts(t.Context())
	require.NoError(t, err)
	all.Found, err = l.FindNames(t.Context(), names)
	require.NoError(t, err)
	return all.text(t)
}

// image is what a disk holds of a ledger.
type image struct{ db, wal, shm []byte }

func takeImage(t *testing.T, path string) image {
	t.Helper()
	read := func(suffix string) []byte {
		b, err := os.ReadFile(path + suffix)
		require.NoError(t, err)
		return b
	}
	return image{read(""), read("-wal"), read("-shm")}
}

// after is the state of a ledger that is opened on an image.
func (im image) after(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "fleet.db")
	for suffix, b := range map[string][]byte{"": im.db, "-wal": im.wal, "-shm": im.shm} {
		if b != nil {
			require.NoError(t, os.WriteFile(path+suffix, b, 0o600))
		}
	}
	l, err := Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.Close()) }()
	return fingerprint(t, l)
}

// recorded is a ledger's life: its image and its state after each step. The image before the first one is of an empty
// ledger.
type recorded struct {
	images []image
	states []string
}

func record(t *testing.T, steps int, checkpoint func(i int) bool) recorded {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fleet.db")
	l := mustOpen(t, path)
	var r recorded
	for i := 0; ; i++ {
		r.images, r.states = append(r.images, takeImage(t, path)), append(r.states, fingerprint(t, l))
		if i == steps {
			return r
		}
		require.NoError(t, l.Apply(t.Context(), step(i)))
		if checkpoint(i) {
			_, err := l.db.Conn().ExecContext(t.Context(), "PRAGMA wal_checkpoint(PASSIVE)")
			require.NoError(t, err)
		}
	}
}

func TestACrashBetweenChangesLosesNothing(t *testing.T) {
	r := record(t, 12, func(i int) bool { return i%4 == 2 })
	for i, im := range r.images {
		require.Equal(t, r.states[i], im.after(t), "after %d changes", i)
		im.shm = nil // as after a power cut
		require.Equal(t, r.states[i], im.after(t), "after %d changes, without the index of the log", i)
	}
}

func TestATornLogGivesTheStateAfterSomeChangeAndNeverAMixture(t *testing.T) {
	r := record(t, 12, func(i int) bool { return i == 3 })
	last := r.images[len(r.images)-1]
	last.shm = nil
	rng := rand.New(rand.NewPCG(1, 2))

	// The log cut at any byte: the longer it is, the more changes are there.
	cuts := []int{0, 1, 31, 32, 33, len(last.wal) - 1, len(last.wal)}
	for range 40 {
		cuts = append(cuts, rng.IntN(len(last.wal)))
	}
	slices.Sort(cuts)
	reached, seen := 0, map[int]bool{}
	for _, cut := range cuts {
		im := last
		im.wal = last.wal[:cut]
		got := slices.Index(r.states, im.after(t))
		require.GreaterOrEqual(t, got, reached, "the log cut at byte %d of %d: the state is that of no change, or of an earlier one", cut, len(last.wal))
		reached, seen[got] = got, true
	}
	assert.Equal(t, 12, reached, "the whole log gives the last state")
	assert.Greater(t, len(seen), 4, "the cuts meet several changes")

	// Bytes in the log that the disk never wrote, or wrote wrongly: what comes before them is there.
	for range 25 {
		im := last
		im.wal = slices.Clone(last.wal)
		at := rng.IntN(len(im.wal))
		for k := at; k < min(at+512, len(im.wal)); k++ {
			im.wal[k] ^= 0xa5
		}
		require.Contains(t, r.states, im.after(t), "512 bytes of the log damaged from byte %d", at)
	}
}

func TestATornCheckpointIsMadeGoodByTheLog(t *testing.T) {
	r := record(t, 8, func(int) bool { return false })
	before := r.images[8]
	done := record(t, 8, func(i int) bool { return i == 7 }).images[8] // the same changes, carried over into the file
	page := int(binary.BigEndian.Uint16(done.db[16:]))
	require.Positive(t, page)
	require.Greater(t, len(done.db), len(before.db))
	rng := rand.New(rand.NewPCG(3, 4))
	for range 15 {
		// Some pages have arrived in the file, one of them in part.
		db := slices.Clone(before.db)
		db = append(db, make([]byte, len(done.db)-len(db))...)
		for at := 0; at < len(db); at += page {
			switch rng.IntN(3) {
			case 0:
				copy(db[at:at+page], done.db[at:at+page])
			case 1:
				copy(db[at:at+rng.IntN(page)], done.db[at:])
			}
		}
		require.Equal(t, r.states[8], image{db: db, wal: before.wal}.after(t))
	}
}

// crashEnv tells the test program to be a writer that is going to be killed.
const crashEnv = "SQLITELEDGER_TEST_WRITE_UNTIL_KILLED"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		fmt.Fprintln(os.Stderr, writeForEver(path))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// writeForEver goes on where the ledger is, and prints the number of each step that is done.
func writeForEver(path string) error {
	ctx := context.Background()
	l, err := Open(ctx, path, nil)
	if err != nil {
		return err
	}
	parts, err := l.Parts(ctx)
	if err != nil {
		return err
	}
	for i := len(parts); ; i++ {
		if err := l.Apply(ctx, step(i)); err != nil {
			return err
		}
		fmt.Println(i + 1)
	}
}

func TestAKilledWriterLosesNothingItWasTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	told := 0
	for round := range 4 {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), crashEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 2 + round*4 {
			require.True(t, lines.Scan())
		}
		_, err = Open(t.Context(), path, nil)
		e, ok := errors.AsType[*InUseError](err)
		require.True(t, ok, "%v", err)
		assert.Equal(t, cmd.Process.Pid, e.Holder.PID)

		require.NoError(t, cmd.Process.Kill())
		text := lines.Text()
		for lines.Scan() { // what it managed to say before it died
			text = lines.Text()
		}
		require.Error(t, cmd.Wait())
		n, err := strconv.Atoi(text)
		require.NoError(t, err)
		require.Greater(t, n, told)
		told = n

		l := mustOpen(t, path) // at once: a dead process holds no lock
		parts, err := l.Parts(t.Context())
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(parts), told)
		require.LessOrEqual(t, len(parts), told+1, "at most the change under way came through unsaid")
		want := mustOpen(t, filepath.Join(t.TempDir(), "want.db"))
		for i := range parts {
			require.NoError(t, want.Apply(t.Context(), step(i)))
		}
		require.Equal(t, fingerprint(t, want), fingerprint(t, l))
		require.NoError(t, l.Close())
	}
}
