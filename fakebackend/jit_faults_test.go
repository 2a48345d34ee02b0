package fakebackend_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// cuts are all the ways in which a first connection can go wrong.
func cuts() (list []fakebackend.Fault) {
	for _, operation := range []string{"Connect", "JustInTimeRegistration", "JustInTimeProvisioning"} {
		for _, do := range []fakebackend.Effect{fakebackend.Fail, fakebackend.DropBefore, fakebackend.DropAfter} {
			list = append(list, fakebackend.Fault{Operation: operation, Do: do})
		}
	}
	for _, step := range fakebackend.Steps() {
		list = append(list, fakebackend.Fault{Step: step, Do: fakebackend.Fail})
	}
	return list
}

// lambda does what AWS's example of a Lambda function does with a message: it makes the thing, attaches what belongs to it
// and activates the certificate. Each step may be done already.
func lambda(t *testing.T, fake *fakebackend.Backend, thing string, m wire.Message) {
	t.Helper()
	var event struct{ CertificateID string }
	require.NoError(t, json.Unmarshal(m.Payload, &event))
	arn := "arn:aws:iot:us-east-1:123456789012:cert/" + event.CertificateID
	_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &thing})
	require.NoError(t, err)
	_, err = api(fake).AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: &thing, Principal: &arn})
	require.NoError(t, err)
	_, err = api(fake).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("own"), Target: &arn})
	require.NoError(t, err)
	_, err = api(fake).UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &event.CertificateID, NewStatus: "ACTIVE"})
	require.NoError(t, err)
}

// connectAtLast connects a device until it is let in, with a fault before each of the first tries. It plays the Lambda
// function for the messages that it causes.
func connectAtLast(t *testing.T, fake *fakebackend.Backend, provisions bool, name string, der []byte, faults []fakebackend.Fault) {
	t.Helper()
	for try := range len(faults) + 3 {
		if try < len(faults) {
			_, err := fake.AddFault(faults[try])
			require.NoError(t, err)
		}
		_, err := gate(fake).Admit(t.Context(), hello(fake, name, der))
		fake.ClearFaults()
		if err == nil {
			return
		}
		refused, ok := errors.AsType[*wire.Refused](err)
		require.True(t, ok, "%v", err)
		for _, m := range refused.Messages {
			if !provisions {
				lambda(t, fake, name, m)
			}
		}
	}
	t.Fatalf("%s was never let in after %v", name, faults)
}

// oneEach checks that every thing has one certificate, which is active, and that there is no other.
func oneEach(t *testing.T, fake *fakebackend.Backend, n int) {
	t.Helper()
	assert.Equal(t, []int{n, n}, []int{fake.Counts().Things, fake.Counts().Certificates})
	for d := range fake.Things() {
		if assert.Len(t, d.Certificates, 1, d.ThingName) {
			assert.Equal(t, "ACTIVE", d.Certificates[0].Status)
		}
	}
}

func TestEveryCutOfAFirstConnectionEndsWithOneActiveCertificate(t *testing.T) {
	for _, provisions := range []bool{true, false} {
		fake, ca := jitFake(t, fakebackend.Options{}, monday)
		if !provisions {
			register := &iot.UpdateCACertificateInput{CertificateId: new(idOf(ca.Raw)), RemoveAutoRegistration: true}
			_, err := api(fake).UpdateCACertificate(t.Context(), register)
			require.NoError(t, err)
			register.RemoveAutoRegistration, register.NewAutoRegistrationStatus = false, iottypes.AutoRegistrationStatusEnable
			_, err = api(fake).UpdateCACertificate(t.Context(), register)
			require.NoError(t, err)
		}
		n := 0
		for _, fault := range cuts() {
			n++
			name := fmt.Sprint("pump-", n)
			connectAtLast(t, fake, provisions, name, ca.device(name), []fakebackend.Fault{fault})
		}
		r := rand.New(rand.NewPCG(12, 4))
		for range 40 { // several in a row
			n++
			faults := make([]fakebackend.Fault, 1+r.IntN(4))
			for i := range faults {
				faults[i] = cuts()[r.IntN(len(cuts()))]
			}
			name := fmt.Sprint("pump-", n)
			connectAtLast(t, fake, provisions, name, ca.device(name), faults)
		}
		oneEach(t, fake, n)
	}
}

func TestAThousandFirstConnectionsInParallel(t *testing.T) {
	fake, ca := jitFake(t, fakebackend.Options{}, monday)
	const n = 1000
	ders := make([][]byte, n)
	for i := range ders {
		ders[i] = ca.device(fmt.Sprint("pump-", i))
	}
	var group sync.WaitGroup
	for i, der := range ders {
		group.Go(func() {
			name := fmt.Sprint("pump-", i)
			_, err := gate(fake).Admit(t.Context(), hello(fake, name, der))
			assert.Equal(t, wire.JustProvisioned, reasonOf(t, err))
			device, err := gate(fake).Admit(t.Context(), hello(fake, name, der))
			if assert.NoError(t, err) {
				assert.Equal(t, []string{name, idOf(der)}, []string{device.ThingName(), device.CertificateID()})
				assert.True(t, device.Allows("iot:Publish", "dt/"+name+"/state"))
			}
		})
	}
	group.Wait()
	oneEach(t, fake, n)
}

// FuzzAdmit shows the account devices of any kind: none panics, is let in, or leaves more than a certificate of the CA.
func FuzzAdmit(f *testing.F) {
	fake, ca := jitFake(f, fakebackend.Options{}, monday)
	genuine := ca.device("pump-1")
	f.Add(genuine, ca.Raw, "pump-1", "localhost", []byte{127, 0, 0, 1}, "mqtt", true, "will")
	f.Add([]byte("x"), []byte{}, "", "", []byte{}, "https", false, "")
	f.Add(selfMade("pump-1", monday), []byte{0x30}, "\xff", "a.b", make([]byte, 16), "", false, "a/#")
	f.Fuzz(func(t *testing.T, der, issuer []byte, clientID, serverName string, source []byte, protocol string, persistent bool, will string) {
		ip, _ := netip.AddrFromSlice(source)
		h := wire.Hello{Chain: [][]byte{der, issuer}, ServerName: serverName, ClientID: clientID, Source: ip, Protocol: protocol, Persistent: persistent, WillTopic: will}
		if len(issuer) == 0 {
			h.Chain = h.Chain[:1]
		}
		device, err := gate(fake).Admit(t.Context(), h)
		if err == nil {
			require.True(t, bytes.Equal(der, genuine), "only the certificate of the CA can be let in")
			device.Allows("iot:Publish", will)
			return
		}
		require.NotEmpty(t, reasonOf(t, err))
		require.LessOrEqual(t, fake.Counts().Certificates, 1)
	})
}

// BenchmarkFirstConnection measures the first two connections of a device that is provisioned just in time.
func BenchmarkFirstConnection(b *testing.B) {
	fake, ca := jitFake(b, fakebackend.Options{}, time.Now())
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		b.StopTimer()
		name := fmt.Sprint("pump-", i)
		h := hello(fake, name, ca.device(name))
		b.StartTimer()
		_, err := gate(fake).Admit(b.Context(), h)
		if reasonOf(b, err) != wire.JustProvisioned {
			b.Fatal(err)
		}
		if _, err := gate(fake).Admit(b.Context(), h); err != nil {
			b.Fatal(err)
		}
	}
}
