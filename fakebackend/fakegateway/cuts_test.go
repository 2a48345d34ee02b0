package fakegateway_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/task"
)

var (
	cutSeeds = flag.Int("seeds", 400, "how many seeds TestEveryDeviceConnectsHoweverItIsCutOff runs")
	cutSeed  = flag.Int64("seed", -1, "the only seed it runs, to replay a failure")
)

// TestEveryDeviceConnectsHoweverItIsCutOff takes devices through claim, JITP and JITR while connections are cut between
// and within all steps, by a schedule drawn from a seed, and holds what comes of it against what AWS documents. A failing
// seed is replayed alone, and tells what it did, with
//
//	go test ./fakebackend/fakegateway -run HoweverItIsCutOff -seed 17 -v
func TestEveryDeviceConnectsHoweverItIsCutOff(t *testing.T) {
	first, last := int64(0), int64(*cutSeeds)
	if testing.Short() {
		last = min(last, 60)
	}
	if *cutSeed >= 0 {
		first, last = *cutSeed, *cutSeed+1
	}
	total, failures := hits{}, 0
	for seed := first; seed < last && failures < 3; seed++ {
		var w *world
		synctest.Test(t, func(t *testing.T) {
			w = newWorld(t, uint64(seed))
			w.run()
		})
		total.add(w.hits)
		if *cutSeed >= 0 {
			t.Logf("what happened:\n%s", strings.Join(w.log, "\n"))
		}
		if len(w.violations) > 0 {
			failures++
			t.Errorf("seed %d: %s", seed, strings.Join(w.violations, "\n"))
		}
	}
	t.Logf("%d seeds; what has gone wrong, and how often:\n%s", last-first, total)
	if last-first < 400 {
		return
	}
	for _, kind := range []string{pulled, silent, broken, restarted, moved, setBack, disabled, crashed} {
		assert.Positive(t, total[kind], "%s never happened", kind)
	}
	for _, op := range deviceOperations {
		if op != "ClaimCreateKeysAndCertificate" { // whose RSA keys take long, so few devices ask for it
			for _, e := range deviceEffects {
				assert.Positive(t, total[op+" "+string(e)], "%s never met %s", op, e)
			}
		}
	}
}

// world is an account with devices of all ways to come by a certificate, and what is expected of them.
type world struct {
	*lab
	*plan
	trusted   *tls.Config
	claimCert *device
	begin     time.Time

	mu         sync.Mutex
	calm       bool // nothing goes wrong any more
	log        []string
	violations []string
	hits       hits
	counted    map[int]int // hits of the account's faults, by id
	events     []fakebackend.Event
	expected   expected
	calls      map[string]int // of the Lambda function, by certificate
}

// expected is what the account must hold by what has happened. It goes back with the account.
type expected struct {
	provisioned map[string]map[string]bool // the certificates that each thing has got, by name
	issued      map[string]bool            // certificates by claim
	disabled    map[string]bool            // certificates that the operator has made INACTIVE
	activated   map[string]bool            // certificates that the Lambda function may have activated
}

// newWorld makes the account of a seed.
func newWorld(t *testing.T, seed uint64) *world {
	w := &world{plan: drawPlan(rand.New(rand.NewPCG(seed, 12))), hits: hits{}, counted: map[int]int{}, calls: map[string]int{}, begin: time.Now(),
		expected: expected{map[string]map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}}
	fake, err := fakebackend.New(fakebackend.Options{TokensOnce: w.tokensOnce})
	require.NoError(t, err)
	config := fakeaws.Config(fake)
	w.lab = &lab{t: t, fake: fake, aws: iot.NewFromConfig(config)}
	w.open()
	w.policy("own", own)
	w.policy("claim", claimPolicy)
	role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet"})
	require.NoError(t, err)
	_, err = w.aws.CreateProvisioningTemplate(t.Context(), &iot.CreateProvisioningTemplateInput{
		TemplateName: new("fleet"), TemplateBody: new(fleetTemplate), ProvisioningRoleArn: &role, Enabled: new(true)})
	require.NoError(t, err)
	w.claimCert = w.device("claim")
	w.trusted = w.trust(nil)
	w.trusted.CurvePreferences = []tls.CurveID{tls.X25519}
	authorities := map[way]*authority{}
	for _, u := range w.units {
		u.w = w
		if u.way == byClaim {
			continue
		}
		if authorities[u.way] == nil {
			authorities[u.way] = w.authority(map[way]string{byJITP: jitpTemplate}[u.way])
		}
		u.own = authorities[u.way].device(u.name)
	}
	return w
}

// open starts a gateway.
func (w *world) open() {
	g := fakegateway.NewUnstartedServer(w.fake, fakegateway.Options{Registered: w.activated})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gateway = g
}

// dial connects a device to the gateway that there is now.
func (w *world) dial() (net.Conn, error) {
	w.mu.Lock()
	g := w.gateway
	w.mu.Unlock()
	return g.Dial(w.t.Context())
}

// activated plays the Lambda function of just-in-time registration.
func (w *world) activated(_ context.Context, r fakegateway.Registration) {
	for i, u := range w.units {
		if u.way == byClaim || u.own.id != r.CertificateID {
			continue
		}
		w.mu.Lock()
		w.calls[r.CertificateID]++
		stop := 0
		if m := w.strikes(func(m *mishap) bool { return m.kind == crashed && m.unit == i }); m != nil {
			stop = m.left
		}
		w.expected.activated[r.CertificateID] = w.expected.activated[r.CertificateID] || stop == 0
		w.mu.Unlock()
		if u.way == byJITR {
			if err := w.activate(u.name, r.CertificateID, stop); err != nil { // such as while the account is set back
				w.logf("the Lambda function for %s: %v", u.name, err)
			}
		}
	}
}

// strikes returns the first mishap that is due and fits. The caller holds the lock.
func (w *world) strikes(fits func(*mishap) bool) *mishap {
	for _, m := range w.mishaps {
		if !w.calm && !m.hit && fits(m) {
			m.hit = true
			w.hits[m.kind]++
			return m
		}
	}
	return nil
}

func (w *world) cutAtStep(u *unit) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.strikes(func(m *mishap) bool {
		return (m.kind == pulled || m.kind == silent) && w.units[m.unit] == u && m.nth == u.steps
	})
	if m == nil {
		return ""
	}
	return m.kind
}

// cutAtByte returns how many bytes a connection lasts; -1 for all.
func (w *world) cutAtByte(u *unit) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if m := w.strikes(func(m *mishap) bool { return m.kind == broken && w.units[m.unit] == u && m.nth == u.dials }); m != nil {
		return m.left
	}
	return -1
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%10.3fs ", time.Since(w.begin).Seconds())+fmt.Sprintf(format, args...))
}

func (w *world) violated(format string, args ...any) {
	w.logf("VIOLATED: "+format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.violations = append(w.violations, fmt.Sprintf(format, args...))
}

// run takes the devices through the plan, then lets each end what it has begun, and checks what came of it.
func (w *world) run() {
	for _, u := range w.units {
		w.logf("%s by %s, MQTT 5: %v, %s, forgetful: %v, keys: %v", u.name, u.way, u.five, u.format.name, u.forgetful, u.withKeys)
	}
	for _, f := range w.faults {
		_, err := w.fake.AddFault(f)
		require.NoError(w.t, err)
		w.logf("planned: %+v", f)
	}
	for _, m := range w.mishaps {
		w.logf("planned: %v", m)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	go w.watch(ctx)

	var running sync.WaitGroup
	running.Go(w.operate)
	for _, u := range w.units {
		running.Go(func() {
			for range 6 {
				u.live()
			}
		})
	}
	running.Wait()
	w.count()
	w.fake.ClearFaults()
	w.mu.Lock()
	w.calm = true
	w.mu.Unlock()
	for _, u := range w.units {
		for _, c := range u.cables {
			c.mend()
		}
	}
	w.logf("nothing goes wrong any more")
	for _, u := range w.units {
		for try := 0; u.live(); try++ {
			if try == 12 {
				w.violated("%s does not connect, whatever it does", u.name)
				break
			}
		}
	}
	synctest.Wait()
	w.check()
	w.gateway.Close()
	synctest.Wait()
	if open := w.connections(); len(open) > 0 {
		w.violated("the gateway is closed, and no event says that these connections are: %v", open)
	}
	for _, u := range w.units {
		for _, c := range u.cables {
			c.Conn.Close()
		}
	}
}

// live is one try of a device that is not connected, and a look at the connection of one that is. It reports whether
// there is more to do.
func (u *unit) live() bool {
	time.Sleep(time.Duration(u.rng.Int64N(int64(40 * time.Second))))
	if u.rng.IntN(20) == 0 && !u.w.isCalm() {
		u.w.fake.Advance(time.Hour)
		u.w.logf("an hour later, all tokens have expired")
	}
	err := errors.New("not connected")
	if u.home != nil {
		err = u.home.ping()
	}
	if err != nil {
		u.home = nil
		if err = u.try(); err != nil {
			u.w.logf("%s: %v", u.name, err)
		}
	}
	return err != nil
}

func (w *world) isCalm() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calm
}

// operate does what the operator of gateway and account does, each at its time.
func (w *world) operate() {
	due := slices.Clone(w.mishaps)
	slices.SortStableFunc(due, func(a, b *mishap) int { return cmp.Compare(a.at, b.at) })
	for _, m := range due {
		if m.kind != restarted && m.kind != moved && m.kind != setBack && m.kind != disabled {
			continue
		}
		time.Sleep(m.at - time.Since(w.begin))
		synctest.Wait()
		w.logf("%s", m.kind)
		w.count()
		switch m.kind {
		case restarted:
			w.gateway.Close()
			w.open()
		case moved:
			raw, err := w.fake.Snapshot().MarshalBinary()
			require.NoError(w.t, err)
			s := new(fakebackend.Snapshot)
			require.NoError(w.t, s.UnmarshalBinary(raw))
			require.NoError(w.t, w.fake.Restore(s))
		case setBack:
			before, snapshot := w.expectation(nil), w.fake.Snapshot()
			time.Sleep(30 * time.Second)
			synctest.Wait()
			w.count()
			require.NoError(w.t, w.fake.Restore(snapshot))
			w.expectation(&before)
			w.logf("the account is as it was 30 s ago")
		case disabled:
			w.disable(w.units[m.unit])
		}
		synctest.Wait()
		w.intruders()
		w.mu.Lock()
		w.hits[m.kind]++
		w.mu.Unlock()
	}
}

// disable makes the certificates of a device INACTIVE for a minute. Nothing that the device does may change that.
func (w *world) disable(u *unit) {
	set := func(id string, status types.CertificateStatus) {
		w.mu.Lock()
		w.expected.disabled[id] = status == types.CertificateStatusInactive
		w.mu.Unlock()
		w.status(&device{id: id}, status)
		w.logf("%.8s is %s", id, status)
	}
	var ids []string
	if thing, ok := w.fake.Thing(u.name); ok {
		for _, c := range thing.Certificates {
			if c.Status == "ACTIVE" {
				set(c.ID, types.CertificateStatusInactive)
				ids = append(ids, c.ID)
			}
		}
	}
	synctest.Wait()
	w.intruders()
	time.Sleep(time.Minute)
	for _, id := range ids {
		set(id, types.CertificateStatusActive)
	}
}
