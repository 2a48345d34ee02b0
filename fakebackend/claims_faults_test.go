package fakebackend_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// claimer is a device program as it should be: it stores what it has got before it goes on, after any failure begins
// where it was, and tries the certificate that it has before it asks for another.
type claimer struct {
	*claims
	serial string
	issued *wire.Issued // as it is stored
	done   bool
}

// try does one more attempt.
func (d *claimer) try(t testing.TB) {
	connect := func(der []byte, clientID string) (wire.Device, error) {
		return d.account.Admit(t.Context(), wire.Hello{Chain: [][]byte{der}, ClientID: clientID, Protocol: wire.ProtocolMQTT})
	}
	device, err := connect(d.claim, d.serial)
	if err != nil {
		return
	}
	if d.issued == nil {
		if d.issued, err = d.account.CreateCertificateFromCSR(t.Context(), device, csrOf(key, d.serial)); err != nil {
			d.issued = nil
			return
		}
	}
	_, err = d.provision(t.Context(), device, d.issued.Token.Reveal(), d.serial)
	d.done = err == nil
	if refusal, ok := errors.AsType[*wire.ClaimError](err); !ok || refusal.Code != "InvalidCertificateOwnershipToken" {
		return
	}
	_, err = connect(derOf(t, d.issued.CertificatePEM), "claimed-"+d.serial)
	refused, ok := errors.AsType[*wire.Refused](err)
	switch {
	case err == nil:
		d.done = true // it was provisioned, and the answer was lost
	case ok && refused.Reason == wire.UnknownCertificate:
		d.issued = nil // it has been deleted
	}
}

// Whatever is cut, refused or fails, in whatever order, and whether the token has expired meanwhile or not: a device
// ends with one certificate that is ACTIVE, and nothing is left of those that it did not get.
func TestFaultsInAnyOrderLeaveADeviceWithOneCertificate(t *testing.T) {
	seeds := 500
	if testing.Short() {
		seeds = 60
	}
	operations := []string{"Connect", "ClaimCreateCertificateFromCsr", "ClaimRegisterThing"}
	effects := []fakebackend.Effect{fakebackend.DropBefore, fakebackend.DropAfter, fakebackend.Fail, fakebackend.Throttle}
	for seed := range uint64(seeds) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := newClaims(t, fakebackend.Options{UndoFailedLines: seed%2 == 1, TokensOnce: seed%4 < 2})
		for range random.IntN(12) {
			f := fakebackend.Fault{Nth: 1 + random.IntN(3), Times: 1 + random.IntN(2)}
			if random.IntN(3) == 0 {
				f.Step, f.Do = fakebackend.Steps()[random.IntN(len(fakebackend.Steps()))], fakebackend.Fail
			} else {
				f.Operation, f.Do = operations[random.IntN(len(operations))], effects[random.IntN(len(effects))]
			}
			addFault(t, c.fake, f)
		}
		devices := []*claimer{{claims: c, serial: "1"}, {claims: c, serial: "2"}}
		for tries := 0; !devices[0].done || !devices[1].done; tries++ {
			require.Less(t, tries, 300, "seed %d: %+v", seed, c.fake.Faults())
			if d := devices[random.IntN(2)]; !d.done {
				d.try(t)
			}
			if random.IntN(8) == 0 {
				c.fake.Advance(time.Hour)
			}
		}
		c.fake.Advance(time.Hour)
		for _, d := range devices {
			require.Equal(t, []string{d.issued.CertificateID}, c.active(t, "claimed-"+d.serial), "seed %d: %+v", seed, c.fake.Faults())
		}
		list, err := api(c.fake).ListCertificates(t.Context(), nil)
		require.NoError(t, err)
		require.Len(t, list.Certificates, 3, "seed %d: the claim's, and one for each device: %+v", seed, c.fake.Faults())
	}
}
