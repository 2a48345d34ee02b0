package fakebackend_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// gate is the account as a gateway sees it.
func gate(fake *fakebackend.Backend) wire.Devices { return wire.Of(fake) }

// hello is a device that names the endpoint and shows certificates.
func hello(fake *fakebackend.Backend, clientID string, chain ...[]byte) wire.Hello {
	return wire.Hello{
		Chain: chain, ServerName: gate(fake).Endpoint(), ClientID: clientID, Source: netip.MustParseAddr("192.0.2.7"), Protocol: wire.ProtocolMQTT,
	}
}

// selfMade is a certificate that no CA has signed, and that is good for a year around a time.
func selfMade(name string, at time.Time) []byte {
	return certtest.SelfSigned(key, func(c *x509.Certificate) {
		c.Subject, c.NotBefore, c.NotAfter = pkix.Name{CommonName: name}, at.AddDate(0, -6, 0), at.AddDate(0, 6, 0)
	}).Raw
}

func idOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func derOf(t testing.TB, text string) []byte {
	t.Helper()
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block)
	return block.Bytes
}

// register registers a certificate without a CA, attaches policies to it, and returns its ARN.
func register(t testing.TB, fake *fakebackend.Backend, der []byte, status iottypes.CertificateStatus, policies ...string) string {
	t.Helper()
	out, err := api(fake).RegisterCertificateWithoutCA(t.Context(), &iot.RegisterCertificateWithoutCAInput{CertificatePem: new(pemOf(der)), Status: status})
	require.NoError(t, err)
	for _, name := range policies {
		_, err := api(fake).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: &name, Target: out.CertificateArn})
		require.NoError(t, err)
	}
	return *out.CertificateArn
}

const ownThings = `{"Version": "2012-10-17", "Statement": [
	{"Sid": "Connect", "Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
	{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": "arn:aws:iot:*:*:topic/dt/${iot:ClientId}/*"},
	{"Sid": "NoSecrets", "Effect": "Deny", "Action": "iot:*", "Resource": "arn:aws:iot:*:*:topic/dt/*/secret"}]}`

const anyClient = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": ["iot:Connect", "iot:Publish"], "Resource": "*"}}`

func policyNamed(t testing.TB, fake *fakebackend.Backend, name, document string) {
	t.Helper()
	_, err := api(fake).CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document})
	require.NoError(t, err)
}

func thingNamed(t testing.TB, fake *fakebackend.Backend, name, certificateARN string) {
	t.Helper()
	_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: &name})
	require.NoError(t, err)
	_, err = api(fake).AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: &name, Principal: &certificateARN})
	require.NoError(t, err)
}

// reasonOf is why a device was refused; "" if it was not.
func reasonOf(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	refused, ok := errors.AsType[*wire.Refused](err)
	require.True(t, ok, "%v", err)
	assert.NotEmpty(t, refused.Text)
	return refused.Reason
}

// eventsSoFar are the events that are kept.
func eventsSoFar(t testing.TB, fake *fakebackend.Backend) []fakebackend.Event {
	return slices.Collect(fake.Events(ended(t)))
}

func TestADeviceConnectsOnlyWithACertificateThatIsActiveAndWithinItsDates(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	policyNamed(t, fake, "any", anyClient)
	good, late, early := selfMade("good", monday), selfMade("late", monday.AddDate(-1, 0, 0)), selfMade("early", monday.AddDate(1, 0, 0))
	for _, der := range [][]byte{good, late, early} {
		register(t, fake, der, "ACTIVE", "any")
	}
	for _, c := range []struct {
		why    string
		hello  wire.Hello
		reason string
	}{
		{"all is well", hello(fake, "good", good), ""},
		{"none", hello(fake, "good"), wire.NoCertificate},
		{"no certificate", hello(fake, "good", []byte("x")), wire.BadCertificate},
		{"of nobody", hello(fake, "good", selfMade("other", monday)), wire.UnknownCertificate},
		{"over", hello(fake, "late", late), wire.Expired},
		{"to come", hello(fake, "early", early), wire.NotYetValid},
		{"without a server name", wire.Hello{Chain: [][]byte{good}, ClientID: "good"}, wire.WrongServerName},
		{"with another's", wire.Hello{Chain: [][]byte{good}, ClientID: "good", ServerName: "example.org"}, wire.WrongServerName},
	} {
		device, err := gate(fake).Admit(ctx, c.hello)
		assert.Equal(t, c.reason, reasonOf(t, err), c.why)
		assert.Equal(t, c.reason == "", device != nil, c.why)
	}
	for status, reason := range map[iottypes.CertificateStatus]string{"INACTIVE": wire.Inactive, "REVOKED": wire.Revoked, "ACTIVE": ""} {
		_, err := api(fake).UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: new(idOf(good)), NewStatus: status})
		require.NoError(t, err)
		_, err = gate(fake).Admit(ctx, hello(fake, "good", good))
		assert.Equal(t, reason, reasonOf(t, err))
	}
	for _, e := range eventsSoFar(t, fake) {
		assert.Equal(t, []any{fakebackend.EventRefused, monday}, []any{e.Kind, e.Time}, "%+v", e)
	}
}

func TestACertificateThatAWSMadeNeedsNoServerName(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "any", anyClient)
	made, err := api(fake).CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	_, err = api(fake).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("any"), Target: made.CertificateArn})
	require.NoError(t, err)
	_, err = gate(fake).Admit(t.Context(), wire.Hello{Chain: [][]byte{derOf(t, *made.CertificatePem)}, ClientID: "x"})
	require.NoError(t, err)
}

func TestARefusalNamesTheStatementThatDecided(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	policyNamed(t, fake, "own", ownThings)
	der := selfMade("pump-1", monday)
	thingNamed(t, fake, "pump-1", register(t, fake, der, "ACTIVE", "own"))

	_, err := gate(fake).Admit(ctx, hello(fake, "pump-2", der))
	assert.Equal(t, wire.NoConnect, reasonOf(t, err))
	assert.EqualError(t, err, "iot:Connect on client/pump-2: no statement of the policy own allows it")
	device, err := gate(fake).Admit(ctx, hello(fake, "pump-1", der))
	require.NoError(t, err)
	assert.Equal(t, []string{"pump-1", idOf(der)}, []string{device.ThingName(), device.CertificateID()})
	assert.True(t, device.Allows("iot:Publish", "dt/pump-1/state"))
	assert.False(t, device.Allows("iot:Publish", "dt/pump-2/state"))
	assert.False(t, device.Allows("iot:Subscribe", "dt/pump-1/#"))
	assert.False(t, device.Allows("iot:Publish", "dt/pump-1/secret"))

	list := eventsSoFar(t, fake)
	last := list[len(list)-1]
	assert.Equal(t, fakebackend.Event{
		Number: last.Number, Time: monday, Kind: fakebackend.EventRefused, Reason: "policy", ClientID: "pump-1", CertificateID: idOf(der),
		ThingName: "pump-1", Source: "192.0.2.7", Protocol: "mqtt", Action: "iot:Publish", Resource: "topic/dt/pump-1/secret",
		PolicyName: "own", Statement: 3, SID: "NoSecrets",
		Text: "iot:Publish on topic/dt/pump-1/secret: statement 3 (Sid NoSecrets) of the policy own denies it",
	}, last)
	assert.Len(t, list, 4)
}

func TestPoliciesSeeWhatTheDeviceShowsWhenItConnects(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "careful", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*", "Condition": {
		"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}, "StringEquals": {"iot:DomainName": "`+gate(fake).Endpoint()+`"},
		"ForAllValues:StringEquals": {"iot:ConnectAttributes": ["LastWill"]}, "ForAnyValue:StringEquals": {"iot:ConnectAttributes": ["LastWill"]},
		"ArnEquals": {"iot:LastWillTopic": "arn:aws:iot:us-east-1:123456789012:topic/will/pump-1"}}}]}`)
	der := selfMade("pump-1", monday)
	register(t, fake, der, "ACTIVE", "careful")
	good := hello(fake, "pump-1", der)
	good.WillTopic = "will/pump-1"
	assert.Nil(t, meet(t, fake, good))
	for what, spoil := range map[string]func(h *wire.Hello){
		"another address":   func(h *wire.Hello) { h.Source = netip.MustParseAddr("198.51.100.1") },
		"no address":        func(h *wire.Hello) { h.Source = netip.Addr{} },
		"another will":      func(h *wire.Hello) { h.WillTopic = "will/pump-2" },
		"no will":           func(h *wire.Hello) { h.WillTopic = "" },
		"a session is kept": func(h *wire.Hello) { h.Persistent = true },
	} {
		h := good
		spoil(&h)
		if refused := meet(t, fake, h); assert.NotNil(t, refused, what) {
			assert.Equal(t, wire.NoConnect, refused.Reason, what)
		}
	}
}

func TestAPublishOverHTTPSNeedsNoPermissionToConnectAndHasNoThing(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "publish", `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/all"},
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/${iot:Connection.Thing.ThingName}"}]}`)
	der := selfMade("pump-1", monday)
	thingNamed(t, fake, "pump-1", register(t, fake, der, "ACTIVE", "publish"))
	h := hello(fake, "", der)
	h.Protocol = wire.ProtocolHTTPS
	device, err := gate(fake).Admit(t.Context(), h)
	require.NoError(t, err)
	assert.True(t, device.Allows("iot:Publish", "all"))
	assert.False(t, device.Allows("iot:Publish", "pump-1"))
	assert.Equal(t, "https", eventsSoFar(t, fake)[0].Protocol)
}

func TestWhatChangesInTheAccountChangesWhatAConnectedDeviceMayDo(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	policyNamed(t, fake, "own", ownThings)
	policyNamed(t, fake, "any", anyClient)
	der := selfMade("pump-1", monday)
	arn := register(t, fake, der, "ACTIVE", "own")
	thingNamed(t, fake, "pump-1", arn)
	device, err := gate(fake).Admit(ctx, hello(fake, "pump-1", der))
	require.NoError(t, err)
	var told atomic.Int32
	stop := gate(fake).Watch(func() {
		told.Add(1)
		device.Active() // may look
	})
	for _, step := range []struct {
		name   string
		change func() error
		may    bool
		active bool
		thing  string
	}{
		{"a policy is attached", func() error {
			_, err := api(fake).AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("any"), Target: &arn})
			return err
		}, true, true, "pump-1"},
		{"its default version changes", func() error {
			_, err := api(fake).CreatePolicyVersion(ctx, &iot.CreatePolicyVersionInput{PolicyName: new("any"), PolicyDocument: new(ownThings), SetAsDefault: true})
			return err
		}, false, true, "pump-1"},
		{"and back", func() error {
			_, err := api(fake).SetDefaultPolicyVersion(ctx, &iot.SetDefaultPolicyVersionInput{PolicyName: new("any"), PolicyVersionId: new("1")})
			return err
		}, true, true, "pump-1"},
		{"the policy is detached", func() error {
			_, err := api(fake).DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: new("any"), Target: &arn})
			return err
		}, false, true, "pump-1"},
		{"a group has the policy", func() error {
			_, err := api(fake).CreateThingGroup(ctx, &iot.CreateThingGroupInput{ThingGroupName: new("g")})
			if err == nil {
				_, err = api(fake).AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("any"), Target: new("arn:aws:iot:us-east-1:123456789012:thinggroup/g")})
			}
			if err == nil {
				_, err = api(fake).AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingGroupName: new("g"), ThingName: new("pump-1")})
			}
			return err
		}, true, true, "pump-1"},
		{"the thing is detached", func() error {
			_, err := api(fake).DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: new("pump-1"), Principal: &arn})
			return err
		}, false, true, ""},
		{"the thing is attached exclusively", func() error {
			_, err := api(fake).AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new("pump-1"), Principal: &arn, ThingPrincipalType: "EXCLUSIVE_THING"})
			return err
		}, true, true, "pump-1"},
		{"the certificate is revoked", func() error {
			_, err := api(fake).UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: new(idOf(der)), NewStatus: "REVOKED"})
			return err
		}, false, false, "pump-1"},
		{"the account is empty", func() error { fake.Reset(); return nil }, false, false, ""},
	} {
		before := told.Load()
		require.NoError(t, step.change(), step.name)
		assert.Greater(t, told.Load(), before, "%s: the watcher is told", step.name)
		assert.Equal(t, step.may, device.Allows("iot:Publish", "elsewhere"), step.name)
		assert.Equal(t, step.active, device.Active(), step.name)
		assert.Equal(t, step.thing, device.ThingName(), step.name)
	}
	before := told.Load()
	_, err = api(fake).ListThings(ctx, nil)
	require.NoError(t, err)
	_, err = fake.Preflight(ctx, &task.PreflightInput{})
	require.NoError(t, err)
	fake.Counts()
	device.Allows("iot:Publish", "x")
	_, err = gate(fake).Admit(ctx, hello(fake, "x", der))
	require.Error(t, err)
	assert.Equal(t, before, told.Load(), "reading changes nothing")
	stop()
	fake.Reset()
	assert.Equal(t, before, told.Load(), "a watcher that was stopped hears no more")
}

func TestAThingThatChangesChangesWhatItsDeviceMayDo(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	policyNamed(t, fake, "site", `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:*:*:topic/${iot:Connection.Thing.Attributes[site]}/*"}]}`)
	der := selfMade("pump-1", monday)
	arn := register(t, fake, der, "ACTIVE", "site")
	thingNamed(t, fake, "pump-1", arn)
	device, err := gate(fake).Admit(ctx, hello(fake, "pump-1", der))
	require.NoError(t, err)
	assert.False(t, device.Allows("iot:Publish", "north/x"))
	move := func(site string) {
		_, err := api(fake).UpdateThing(ctx, &iot.UpdateThingInput{ThingName: new("pump-1"), AttributePayload: &iottypes.AttributePayload{Attributes: map[string]string{"site": site}}})
		require.NoError(t, err)
	}
	move("north")
	assert.True(t, device.Allows("iot:Publish", "north/x"))
	move("south")
	assert.False(t, device.Allows("iot:Publish", "north/x"))
	assert.True(t, device.Allows("iot:Publish", "south/x"))

	// Another thing of that name, with as many versions.
	_, err = api(fake).DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: new("pump-1"), Principal: &arn})
	require.NoError(t, err)
	_, err = api(fake).DeleteThing(ctx, &iot.DeleteThingInput{ThingName: new("pump-1")})
	require.NoError(t, err)
	thingNamed(t, fake, "pump-1", arn)
	move("east")
	move("west")
	assert.False(t, device.Allows("iot:Publish", "south/x"))
	assert.True(t, device.Allows("iot:Publish", "west/x"))
}

func TestASnapshotTakesDevicesAlong(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "any", anyClient)
	der := selfMade("a", monday)
	register(t, fake, der, "ACTIVE", "any")
	root := fake.RootCA()
	snapshot := fake.Snapshot()
	device, err := gate(fake).Admit(t.Context(), hello(fake, "a", der))
	require.NoError(t, err)
	fake.Reset()
	assert.False(t, device.Active())
	require.NoError(t, fake.Restore(snapshot))
	assert.True(t, device.Active(), "a connection lives on where its certificate does")
	assert.True(t, device.Allows("iot:Publish", "x"))

	other, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	assert.NotEqual(t, root, other.RootCA())
	require.NoError(t, other.Restore(snapshot))
	assert.Equal(t, root, other.RootCA(), "the root follows from the seed")
	assert.NotEqual(t, other.CA(), other.RootCA(), "as on AWS, the root is not the issuer of device certificates")
	_, err = gate(other).Admit(t.Context(), hello(other, "a", der))
	require.NoError(t, err)
}

func TestManyAtOnceMayBeAdmittedDecidedAboutAndChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, err := fakebackend.New(fakebackend.Options{})
		require.NoError(t, err)
		policyNamed(t, fake, "any", anyClient)
		ders := make([][]byte, 8)
		for i := range ders {
			ders[i] = selfMade(fmt.Sprint("c", i), time.Now())
			register(t, fake, ders[i], "ACTIVE", "any")
		}
		var group sync.WaitGroup
		for i, der := range ders {
			group.Go(func() {
				device, err := gate(fake).Admit(t.Context(), hello(fake, fmt.Sprint("c", i), der))
				if !assert.NoError(t, err) {
					return
				}
				for range 50 {
					assert.True(t, device.Allows("iot:Publish", "x"))
				}
			})
			group.Go(func() {
				for n := range 20 {
					_, err := api(fake).CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new(fmt.Sprint(i, "-", n))})
					assert.NoError(t, err)
				}
			})
		}
		group.Wait()
	})
}

func TestFaultsStrikeConnections(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "any", anyClient)
	der := selfMade("a", monday)
	register(t, fake, der, "ACTIVE", "any")
	for _, c := range []struct {
		fault fakebackend.Fault
		cut   bool
	}{
		{fakebackend.Fault{Operation: "Connect", Thing: "a", Do: fakebackend.Fail, Message: "out of order"}, false},
		{fakebackend.Fault{Operation: "Connect", Thing: "a", Do: fakebackend.DropBefore}, true},
		{fakebackend.Fault{Operation: "Connect", Thing: "a", Do: fakebackend.DropAfter}, true},
	} {
		_, err := fake.AddFault(c.fault)
		require.NoError(t, err)
		_, err = gate(fake).Admit(t.Context(), hello(fake, "a", der))
		refused, ok := errors.AsType[*wire.Refused](err)
		require.True(t, ok, "%v", c.fault)
		assert.Equal(t, []any{wire.Faulty, c.cut}, []any{refused.Reason, refused.Cut})
		_, err = gate(fake).Admit(t.Context(), hello(fake, "a", der))
		require.NoError(t, err)
	}
	list := eventsSoFar(t, fake)
	assert.Equal(t, "out of order", list[0].Text)
}

func TestTheServerCertificateIsGoodForItsHostsUnderTheRoot(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	hosts := []string{"localhost", "127.0.0.1", "::1", gate(fake).Endpoint()}
	cert, err := gate(fake).ServerTLS(hosts)
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(fake.RootCA()))
	for _, host := range hosts {
		for _, at := range []time.Time{time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC), time.Now()} {
			_, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: at})
			assert.NoError(t, err, host)
		}
	}
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "example.org", CurrentTime: monday})
	require.Error(t, err)
	assert.True(t, cert.PrivateKey.(*ecdsa.PrivateKey).PublicKey.Equal(cert.Leaf.PublicKey))
	_, err = gate(fake).ServerTLS(nil)
	require.Error(t, err)
}

func TestTheEndpointIsThatOfTheGatewayWhileOneIsAttached(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	endpoint := func() string {
		host, err := fake.DataEndpoint(ctx)
		require.NoError(t, err)
		return host
	}
	assert.Equal(t, gate(fake).Endpoint(), endpoint())
	detach := gate(fake).Attach("localhost")
	second := gate(fake).Attach("gateway.test")
	assert.Equal(t, "gateway.test", endpoint())
	second()
	assert.Equal(t, "localhost", endpoint())
	fake.Reset()
	assert.Equal(t, "localhost", endpoint(), "the gateway is still there")
	policyNamed(t, fake, "any", anyClient)
	der := selfMade("a", monday)
	register(t, fake, der, "ACTIVE", "any")
	h := hello(fake, "a", der)
	for _, name := range []string{"LOCALHOST", gate(fake).Endpoint()} {
		h.ServerName = name
		_, err := gate(fake).Admit(ctx, h)
		assert.NoError(t, err, name)
	}
	detach()
	detach()
	assert.Equal(t, gate(fake).Endpoint(), endpoint())
}

func BenchmarkAllows(b *testing.B) {
	fake, _ := newFake(b, fakebackend.Options{})
	policyNamed(b, fake, "own", ownThings)
	der := selfMade("pump-1", monday)
	thingNamed(b, fake, "pump-1", register(b, fake, der, "ACTIVE", "own"))
	device, err := gate(fake).Admit(b.Context(), hello(fake, "pump-1", der))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if !device.Allows("iot:Publish", "dt/pump-1/state") {
			b.Fatal("refused")
		}
	}
}

// BenchmarkAllowsAfterAChange measures a decision after something has changed in the account that is not the device's.
func BenchmarkAllowsAfterAChange(b *testing.B) {
	fake, _ := newFake(b, fakebackend.Options{})
	policyNamed(b, fake, "own", ownThings)
	der := selfMade("pump-1", monday)
	thingNamed(b, fake, "pump-1", register(b, fake, der, "ACTIVE", "own"))
	device, err := gate(fake).Admit(b.Context(), hello(fake, "pump-1", der))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		_, err := api(fake).UpdateThing(b.Context(), &iot.UpdateThingInput{ThingName: new("another")}) // which there is not
		require.Error(b, err)
		b.StartTimer()
		device.Allows("iot:Publish", "dt/pump-1/state")
	}
}

func TestADecisionAllocatesNothing(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "own", ownThings)
	der := selfMade("pump-1", monday)
	thingNamed(t, fake, "pump-1", register(t, fake, der, "ACTIVE", "own"))
	device, err := gate(fake).Admit(t.Context(), hello(fake, "pump-1", der))
	require.NoError(t, err)
	assert.Zero(t, testing.AllocsPerRun(100, func() { device.Allows("iot:Publish", "dt/pump-1/state") }))
	assert.Zero(t, testing.AllocsPerRun(100, func() { device.Active() }))
}
