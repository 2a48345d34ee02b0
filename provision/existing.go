package provision

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Existing is what to do with a device whose thing has an ACTIVE certificate already that this run did not cause: one of
// another run, of a ledger that was lost, of the board that was in its place. Sent all the same, the device would have two,
// and the older one would go on working.
//
// Before a part is made, a run asks the account for the name of each of its devices. A thing without an ACTIVE certificate
// is no hindrance: the device is sent, and the template's OverrideSettings decide what becomes of the thing. A device whose
// certificate turns out to carry the key that this very run made for it is Provisioned and not sent again.
//
// A run that was interrupted between the look and its task looks again, and so does one that has waited for a task of
// somebody else. Where such a task may have begun and ended unseen, in five seconds or more without one of this run's own,
// the names that were new are asked for once more. What others register in the moments before a task starts, on things that
// existed, or with RegisterThing while one of this run's own tasks keeps the next part waiting, is found by the look at the
// end of the run: see [Summary].Meanwhile.
type Existing string

// What to do with a device whose thing has an ACTIVE certificate.
const (
	// RefuseExisting does not send it: it is Failed with CauseExists.
	RefuseExisting Existing = ""
	// AddToExisting sends it: its thing has several certificates afterwards, and [Result].Existing names the others.
	AddToExisting Existing = "add"
	// ReplaceExisting sends it. When it is Provisioned, and its certificate is durable in the output (without one, in the
	// ledger), the others are detached from its thing, deactivated and deleted; one that another thing has is only
	// detached. It needs a backend with [task.Remover]. A call that is interrupted before leaves them, and the next one
	// with ReplaceExisting goes on.
	ReplaceExisting Existing = "replace"
	// TakeOverExisting sends nothing and makes the device Provisioned, with the certificate that it has, if that carries the
	// key that the credential step has for the device: how a run goes on whose ledger was lost and whose keys were not. Keys
	// of another run are taken in that case. Otherwise the device is Failed with CauseExists, or with CauseKey if it has a
	// key of another run and no certificate. It needs a backend with [task.ThingFinder] and [task.DeviceReader], as
	// ReplaceExisting does.
	TakeOverExisting Existing = "take-over"
	// UncheckedExisting does not look at the account, where that is denied or takes too long: whoever has a certificate gets
	// a second one, and what others register meanwhile is not looked for at the end. [Summary].NotLooked counts these devices.
	UncheckedExisting Existing = "unchecked"
)

func (e Existing) valid() bool {
	return slices.Contains([]Existing{RefuseExisting, AddToExisting, ReplaceExisting, TakeOverExisting, UncheckedExisting}, e)
}

// LookRates are how fast a run may ask the account about its devices, in requests a second. The defaults are AWS's quotas
// of an account and region; on a fake, 0 is no limit.
type LookRates struct {
	// Things is for whether a thing exists, one request for each device. 0 means 350.
	Things int
	// Certificates is for what a thing that exists has: three requests of different kinds, and two more for each of its
	// certificates. 0 means 10.
	Certificates int
}

// resolve puts the defaults in.
func (r LookRates) resolve(fake bool) LookRates {
	if fake {
		return r
	}
	return LookRates{cmp.Or(r.Things, 350), cmp.Or(r.Certificates, 10)}
}

// throttle lets requests through at a steady rate.
type throttle struct {
	every time.Duration // 0 for no limit
	mu    sync.Mutex
	next  time.Time
}

func newThrottle(perSecond int) *throttle {
	t := &throttle{}
	if perSecond > 0 {
		t.every = time.Second / time.Duration(perSecond)
	}
	return t
}

// take waits for the next turn, and makes it as long as that of n requests.
func (t *throttle) take(ctx context.Context, n int) error {
	if t.every == 0 {
		return context.Cause(ctx)
	}
	t.mu.Lock()
	now := time.Now()
	if t.next.Before(now) {
		t.next = now
	}
	turn := t.next.Sub(now)
	t.next = t.next.Add(time.Duration(n) * t.every)
	t.mu.Unlock()
	return wait.Sleep(ctx, turn)
}

// existingOf makes the list of a result.
func (l *looker) existingOf(certs []*task.Certificate) []ExistingCertificate {
	var list []ExistingCertificate
	issue, own := As[*IssueCertificate](l.credentials.step)
	for _, c := range certs {
		e := ExistingCertificate{ID: c.ID, ARN: c.ARN, Created: c.Created, Replace: l.existing == ReplaceExisting}
		if own {
			if serial := issue.serialNumber(c.PEM); serial != nil {
				e.SerialNumber = serial.Text(16)
			}
		}
		list = append(list, e)
	}
	return list
}

// failExisting is the verdict of a device that is not sent because of the certificates it has.
func (d *DeviceRecord) failExisting(certs []ExistingCertificate, why string) {
	d.Existing = certs
	d.fail(CauseExists, fmt.Sprintf("its thing has an ACTIVE certificate that %s: %s; it was not sent. Choose with Options.Existing "+
		"(-existing): replace it, add a second one, or take it over if its key is in this run's key store", why, d.existingText()))
}

// existingText lists the device's existing certificates with their dates, the first three by name.
func (d *DeviceRecord) existingText() string {
	const most = 3
	var list []string
	for i, c := range d.Existing {
		if i == most {
			list = append(list, fmt.Sprintf("%d more", len(d.Existing)-most))
			break
		}
		list = append(list, fmt.Sprintf("%s of %s", rule.Visible(c.ID), c.Created.UTC().Format(time.RFC3339)))
	}
	return strings.Join(list, ", ")
}
