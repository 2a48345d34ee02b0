package fakebackend

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Snapshot is everything an account holds at one time: the registry, tasks with their reports and progress, objects,
// roles, faults, the clock and the seed from which the CA's private key follows. It does not change.
//
// A snapshot is a secret as far as a fake has one: who holds it can sign certificates as this fake. It shows in no
// print, log or JSON; MarshalBinary, and so encoding/gob, writes its content on purpose.
type Snapshot struct {
	data *snapshotData
}

const redactedSnapshot = "[snapshot of a fake account]"

// String returns a placeholder.
func (s *Snapshot) String() string { return redactedSnapshot }

// GoString returns a placeholder.
func (s *Snapshot) GoString() string { return redactedSnapshot }

// LogValue returns a placeholder.
func (s *Snapshot) LogValue() slog.Value { return slog.StringValue(redactedSnapshot) }

// MarshalJSON refuses: a snapshot in JSON by accident would be a secret in the open.
func (s *Snapshot) MarshalJSON() ([]byte, error) {
	return nil, errors.New("fakebackend: a snapshot holds the CA's secret and is not written as JSON; use MarshalBinary")
}

// MarshalBinary writes the snapshot with its secret. Keep the result as you would a key file (mode 0600).
func (s *Snapshot) MarshalBinary() ([]byte, error) {
	if s.data == nil {
		return nil, errors.New("fakebackend: the snapshot is empty; make one with Backend.Snapshot")
	}
	return json.Marshal(s.data)
}

// UnmarshalBinary reads what MarshalBinary wrote.
func (s *Snapshot) UnmarshalBinary(raw []byte) error {
	data := new(snapshotData)
	err := json.Unmarshal(raw, data)
	if err != nil && (data.Version == 0 || data.Version == snapshotVersion) {
		return fmt.Errorf("fakebackend: read a snapshot: %w", err)
	}
	if data.Version != snapshotVersion {
		return fmt.Errorf("fakebackend: the snapshot has version %d; this release reads version %d", data.Version, snapshotVersion)
	}
	s.data = data
	return nil
}

const snapshotVersion = 1

// snapshotData is the state with numbers in place of pointers. Records that are gone from the registry but still stand
// in a task's reports are in it too.
type snapshotData struct {
	Version         int
	Region, Account string
	Now             time.Time
	Frozen          bool
	Seed            []byte
	Issued          uint64
	LastFault       int
	Faults          []FaultStatus
	Roles           iam.State
	Objects         s3.State

	Types        []typeData
	Groups       []groupData
	Billing      []billingData
	Policies     []policyData
	CAs          []caData
	Templates    []templateData
	Claims       []claimData
	Ownerships   []ownershipData
	Certificates []certificateData
	Things       []thingData
	Tasks        []taskData
	Last         [11]uint64 // last number of each table, in the order of tables
	Tags         map[string][]tag
	Starts       uint64
	Codes        uint64
}

type (
	typeData struct {
		N                   uint64
		Name                string
		Properties          thingTypeProperties
		Created, Deprecated time.Time
	}
	groupData struct {
		N                 uint64
		Name, Description string
		Attributes        [][2]string
		Parent            string
		Version           int64
		Created           time.Time
		Policies          []int
	}
	billingData struct {
		N                 uint64
		Name, Description string
		Version           int64
		Created           time.Time
	}
	policyData struct {
		N                 uint64
		Gone              bool
		Name              string
		Created, Modified time.Time
		Versions          []versionData
		Standard, Next    int
	}
	versionData struct {
		ID       int
		Document string
		Created  time.Time
	}
	caData struct {
		N                 uint64
		Gone              bool
		DER               []byte
		Active, Auto      bool
		Mode              string
		Config            *registrationConfig
		Created, Modified time.Time
		CustomerVersion   int32
	}
	templateData struct {
		N                             uint64
		Name, Description, Type, Role string
		Enabled                       bool
		Hook                          *provisioningHook
		Created, Modified             time.Time
		Versions                      []templateVersionData
		Standard, Next                int32
	}
	claimData struct {
		N                uint64
		DER              []byte
		Template         string
		Created, Expires time.Time
	}
	ownershipData struct {
		N           uint64
		Certificate int
		Claim       string
		Expires     time.Time
		Provisioned bool
	}
	templateVersionData struct {
		ID      int32
		Body    string
		Created time.Time
	}
	certificateData struct {
		N                 uint64
		Gone              bool
		DER               []byte
		Created, Modified int64
		Status            certStatus
		Exclusive         bool
		SNIOnly           bool
		CustomerVersion   int32
		CA                string
		Policies, Things  []int
	}
	thingData struct {
		N             uint64
		Gone          bool
		Name          string
		Version       int64
		Type, Billing string
		Attributes    [][2]string
		Groups        []string
		Certificates  []int
	}
	taskData struct {
		N                                 uint64
		ID, Template, Bucket, Key, Role   string
		Status                            task.Status
		Message                           string
		Created, Modified, Ended, Stopped time.Time
		Shift                             time.Duration
		Met                               map[int]bool
		Total, Next                       int64
		Rests                             []restData
		Done                              [][4]int64 // line, thing + 1, certificate + 1, rest
		Failed                            []failedData
		Failure                           string
		Data                              []byte            // the data file of a task in progress
		Session                           *iam.SessionState // what its role allowed when it started
	}
	restData struct {
		Thing, Certificate string
		PolicyNames        []string
		Policies           []int
		MoreNames          []string
		MoreThings         []int
	}
	failedData struct {
		Line          int64
		Code, Message string
	}
)

// Snapshot takes a snapshot of the account. It is the same however much time passes; see [Backend.Restore].
func (b *Backend) Snapshot() *Snapshot {
	return look(b, func(now time.Time) *Snapshot {
		w := snapshotWriter{b: b.account, d: &snapshotData{Version: snapshotVersion}}
		w.d.Now = now
		b.clock.mu.Lock()
		w.d.Frozen = b.clock.frozen
		b.clock.mu.Unlock()
		w.d.Faults, w.d.LastFault = b.Faults(), b.faults.last()
		w.write()
		return &Snapshot{w.d}
	})
}

// Restore puts the account back to a snapshot: of this fake or of another with the same region and account. The clock
// goes on from the time of the snapshot, frozen if it was. A task in progress goes on too, with what its role allowed
// when it started. Options stay as they are, and gateways attached. Events, retained messages and MQTT sessions are
// in no snapshot; a device whose certificate is ACTIVE in the snapshot stays connected. On an error nothing has changed.
func (b *Backend) Restore(s *Snapshot) error {
	if s == nil || s.data == nil {
		return errors.New("fakebackend: the snapshot is empty; make one with Backend.Snapshot")
	}
	d := s.data
	if d.Region != b.opts.Region || d.Account != b.opts.Account {
		return fmt.Errorf("fakebackend: the snapshot is of account %s in %s, and this fake is account %s in %s",
			d.Account, d.Region, b.opts.Account, b.opts.Region)
	}
	keys, err := newKeys(d.Seed, b.opts)
	if err != nil {
		return err
	}
	b.turn <- struct{}{}
	defer b.leave()
	r := snapshotReader{b: b.account, d: d}
	st, err := r.read()
	if err != nil {
		return fmt.Errorf("fakebackend: restore a snapshot: %w", err)
	}
	b.epoch.Add(1)
	b.roles.Restore(d.Roles)
	b.objects.Restore(d.Objects)
	keys.issuer.SetIssued(d.Issued)
	b.setKeys(keys)
	b.st = *st
	b.faults.restore(d.Faults, d.LastFault)
	b.clock.set(d.Frozen, d.Now)
	b.events.forget()
	b.record(Event{Kind: EventRestored})
	return nil
}

// rawFile is the data file of a task that was restored.
type rawFile []byte

func (f rawFile) Reader() *bytes.Reader { return bytes.NewReader(f) }

// dataSource is where a task's lines come from: an object as it was when the task started.
type dataSource interface{ Reader() *bytes.Reader }

// resume restores a task's program, its role and its place in the data file.
func (b *account) resume(r *registration, role *iam.SessionState) error {
	if r.failure != "" {
		return nil
	}
	if role == nil {
		return errors.New("there is no role")
	}
	var err error
	if r.session, err = iam.NewSession(*role); err != nil {
		return err
	}
	if r.program, err = b.compile(r.templateBody); err != nil {
		return err
	}
	r.input = newLineReader(r.file.Reader())
	for range r.next {
		_, _ = r.input.next() // what was wrong with a line is in the reports
	}
	return nil
}
