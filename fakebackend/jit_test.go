package fakebackend_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
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

// authority is a CA of the user's own.
type authority struct {
	*certtest.CA
	at time.Time
}

func newAuthority(at time.Time) *authority {
	return &authority{certtest.NewCA(certtest.Key(), func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = at.AddDate(-1, 0, 0), at.AddDate(9, 0, 0)
	}), at}
}

// sign makes a certificate for the shared key.
func (ca *authority) sign(subject pkix.Name) []byte {
	return ca.Sign(key.Public(), func(c *x509.Certificate) {
		c.Subject, c.NotBefore, c.NotAfter = subject, ca.at.AddDate(0, -6, 0), ca.at.AddDate(0, 6, 0)
	}).Raw
}

func (ca *authority) device(name string) []byte {
	return ca.sign(pkix.Name{CommonName: name, Country: []string{"DE"}})
}

// in registers the CA with automatic registration, in SNI_ONLY mode unless told otherwise.
func (ca *authority) in(t testing.TB, fake *fakebackend.Backend, config *iottypes.RegistrationConfig) *iot.RegisterCACertificateOutput {
	t.Helper()
	out, err := api(fake).RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: new(pemOf(ca.Raw)), CertificateMode: iottypes.CertificateModeSniOnly, SetAsActive: true, AllowAutoRegistration: true,
		RegistrationConfig: config,
	})
	require.NoError(t, err)
	return out
}

// jitp is a template of just-in-time provisioning like the one in AWS's documentation, with a policy that is there.
const jitp = `{
	"Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Country": {"Type": "String"},
		"AWS::IoT::Certificate::Id": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"},
			"AttributePayload": {"country": {"Ref": "AWS::IoT::Certificate::Country"}}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"},
			"OverrideSettings": {"Status": "DO_NOTHING"}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "own"}}}}`

func statusOf(t testing.TB, fake *fakebackend.Backend, der []byte) string {
	t.Helper()
	out, err := api(fake).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: new(idOf(der))})
	if errors.Is(err, task.ErrNotFound) {
		return ""
	}
	if _, ok := errors.AsType[*iottypes.ResourceNotFoundException](err); ok {
		return ""
	}
	require.NoError(t, err)
	return string(out.CertificateDescription.Status)
}

// meet connects a device and returns the refusal; nil if it was let in.
func meet(t testing.TB, fake *fakebackend.Backend, h wire.Hello) *wire.Refused {
	t.Helper()
	_, err := gate(fake).Admit(t.Context(), h)
	if err == nil {
		return nil
	}
	refused, ok := errors.AsType[*wire.Refused](err)
	require.True(t, ok, "%v", err)
	return refused
}

func TestTheFirstConnectionRegistersACertificateOfACAThatRegisters(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	policyNamed(t, fake, "any", anyClient)
	ca := newAuthority(monday)
	caID := *ca.in(t, fake, nil).CertificateId
	der := ca.device("pump-1")
	told := 0
	defer gate(fake).Watch(func() { told++ })()

	refused := meet(t, fake, hello(fake, "pump-1", der))
	assert.Equal(t, wire.JustRegistered, refused.Reason)
	assert.Equal(t, 1, told, "it changes the account")
	assert.Equal(t, []wire.Message{{Topic: "$aws/events/certificates/registered/" + caID, Payload: fmt.Appendf(nil,
		`{"certificateId":"%s","caCertificateId":"%s","timestamp":%d,"certificateStatus":"PENDING_ACTIVATION","awsAccountId":"123456789012","certificateRegistrationTimestamp":null}`,
		idOf(der), caID, monday.UnixMilli())}}, refused.Messages)
	described, err := api(fake).DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: new(idOf(der))})
	require.NoError(t, err)
	d := described.CertificateDescription
	assert.Equal(t, []any{iottypes.CertificateStatusPendingActivation, caID, iottypes.CertificateModeSniOnly, pemOf(der)},
		[]any{d.Status, *d.CaCertificateId, d.CertificateMode, *d.CertificatePem})

	fake.Advance(time.Minute)
	refused = meet(t, fake, hello(fake, "pump-1", der))
	assert.Equal(t, wire.PendingActivation, refused.Reason, "the state stays")
	var again map[string]any
	require.NoError(t, json.Unmarshal(refused.Messages[0].Payload, &again))
	assert.Equal(t, []any{fmt.Sprint(monday.UnixMilli()), float64(monday.Add(time.Minute).UnixMilli())},
		[]any{again["certificateRegistrationTimestamp"], again["timestamp"]}, "the message comes again, with the time of the registration")
	assert.Equal(t, 1, fake.Counts().Certificates)

	_, err = api(fake).UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: new(idOf(der)), NewStatus: "ACTIVE"})
	require.NoError(t, err)
	refused = meet(t, fake, hello(fake, "pump-1", der))
	assert.Equal(t, wire.NoConnect, refused.Reason)
	assert.Empty(t, refused.Messages)
	_, err = api(fake).AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("any"), Target: d.CertificateArn})
	require.NoError(t, err)
	assert.Nil(t, meet(t, fake, hello(fake, "pump-1", der)))
}

func TestALambdaFunctionCanBePlayedFromTheEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, err := fakebackend.New(fakebackend.Options{})
		require.NoError(t, err)
		policyNamed(t, fake, "any", anyClient)
		ca := newAuthority(time.Now())
		ca.in(t, fake, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var lambda sync.WaitGroup
		lambda.Go(func() {
			for e := range fake.Events(ctx) {
				if e.Kind != fakebackend.EventRegistered {
					continue
				}
				arn := "arn:aws:iot:us-east-1:123456789012:cert/" + e.CertificateID
				_, err := api(fake).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("any"), Target: &arn})
				assert.NoError(t, err)
				_, err = api(fake).UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: &e.CertificateID, NewStatus: "ACTIVE"})
				assert.NoError(t, err)
			}
		})
		der := ca.device("pump-1")
		assert.Equal(t, wire.JustRegistered, meet(t, fake, hello(fake, "pump-1", der)).Reason)
		synctest.Wait()
		assert.Nil(t, meet(t, fake, hello(fake, "pump-1", der)))
		cancel()
		lambda.Wait()
	})
}

func TestNothingIsRegisteredUnlessTheCADoesSoAndTheAccountIsKnown(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	ca := newAuthority(monday)
	caID := *ca.in(t, fake, nil).CertificateId
	der := ca.device("pump-1")
	noName := hello(fake, "pump-1", der, ca.Raw)
	noName.ServerName = ""
	https := hello(fake, "", der)
	https.Protocol = wire.ProtocolHTTPS
	set := func(status iottypes.CACertificateStatus, auto iottypes.AutoRegistrationStatus) {
		_, err := api(fake).UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: &caID, NewStatus: status, NewAutoRegistrationStatus: auto})
		require.NoError(t, err)
	}
	expired := newAuthority(monday)
	expired.CA, expired.at = ca.CA, monday.AddDate(-2, 0, 0)

	unnamed := meet(t, fake, noName)
	assert.Equal(t, wire.WrongServerName, unnamed.Reason, "a CA in SNI_ONLY mode")
	assert.Contains(t, unnamed.Text, "the device named no server, as one that connects to an IP address, in the TLS handshake")
	assert.Equal(t, wire.UnknownCertificate, meet(t, fake, https).Reason)
	assert.Equal(t, wire.UnknownCertificate, meet(t, fake, hello(fake, "pump-1", newAuthority(monday).device("pump-1"))).Reason, "a CA of the same name")
	assert.Equal(t, wire.Expired, meet(t, fake, hello(fake, "pump-1", expired.device("pump-1"))).Reason)
	set("INACTIVE", "ENABLE")
	assert.Contains(t, meet(t, fake, hello(fake, "pump-1", der)).Text, "is INACTIVE")
	set("ACTIVE", "DISABLE")
	assert.Contains(t, meet(t, fake, hello(fake, "pump-1", der)).Text, "automatic registration is off")
	assert.Zero(t, fake.Counts().Certificates)
	set("ACTIVE", "ENABLE")
	assert.Equal(t, wire.JustRegistered, meet(t, fake, hello(fake, "pump-1", der)).Reason)

	ca.at = ca.NotAfter.AddDate(0, 1, 0) // an expired CA that nobody has made INACTIVE
	fake.SetTime(ca.at)
	assert.Equal(t, wire.JustRegistered, meet(t, fake, hello(fake, "pump-2", ca.device("pump-2"))).Reason)
}

func TestADeviceThatSendsItsCANeedsNoServerNameInDefaultMode(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	ca := newAuthority(monday)
	code, err := api(fake).GetRegistrationCode(ctx, nil)
	require.NoError(t, err)
	_, err = api(fake).RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{
		CaCertificate: new(pemOf(ca.Raw)), VerificationCertificate: new(pemOf(ca.device(*code.RegistrationCode))), SetAsActive: true, AllowAutoRegistration: true,
	})
	require.NoError(t, err)
	der := ca.device("pump-1")
	h := hello(fake, "pump-1", der)
	h.ServerName = ""
	assert.Equal(t, wire.WrongServerName, meet(t, fake, h).Reason)
	h.Chain = append(h.Chain, ca.Raw)
	assert.Equal(t, wire.JustRegistered, meet(t, fake, h).Reason)
	h.Chain = h.Chain[:1]
	assert.Equal(t, wire.PendingActivation, meet(t, fake, h).Reason, "the account is known by the certificate")
	assert.Equal(t, wire.JustRegistered, meet(t, fake, hello(fake, "pump-2", ca.device("pump-2"))).Reason, "the name alone will do, too")
}

func TestOfARenewedCATheOneThatIsSentAlongOrElseTheFirstThatRegistersIsTaken(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	old := newAuthority(monday)
	renewed := &authority{certtest.NewCA(old.Key, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = monday, monday.AddDate(20, 0, 0) }), monday}
	oldID, renewedID := *old.in(t, fake, nil).CertificateId, *renewed.in(t, fake, nil).CertificateId
	registeredBy := func(name string, chain ...[]byte) string {
		refused := meet(t, fake, hello(fake, name, append([][]byte{old.device(name)}, chain...)...))
		require.Equal(t, wire.JustRegistered, refused.Reason)
		list := eventsSoFar(t, fake)
		return list[len(list)-1].CACertificateID
	}
	assert.Equal(t, oldID, registeredBy("pump-1"))
	assert.Equal(t, renewedID, registeredBy("pump-2", renewed.Raw))
	_, err := api(fake).UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: &oldID, NewAutoRegistrationStatus: "DISABLE"})
	require.NoError(t, err)
	assert.Equal(t, renewedID, registeredBy("pump-3"))
}

// jitFake is a fake with a CA that provisions.
func jitFake(t testing.TB, opts fakebackend.Options, at time.Time) (*fakebackend.Backend, *authority) {
	t.Helper()
	fake, role := newFake(t, opts)
	fake.SetTime(at)
	policyNamed(t, fake, "own", ownThings)
	ca := newAuthority(at)
	ca.in(t, fake, &iottypes.RegistrationConfig{TemplateBody: new(jitp), RoleArn: &role})
	return fake, ca
}

func TestTheFirstConnectionProvisionsTheDeviceAndTheNextIsLetIn(t *testing.T) {
	fake, ca := jitFake(t, fakebackend.Options{}, monday)
	der := ca.device("pump-1")
	refused := meet(t, fake, hello(fake, "pump-1", der))
	assert.Equal(t, wire.JustProvisioned, refused.Reason)
	assert.Len(t, refused.Messages, 1)
	assert.Contains(t, string(refused.Messages[0].Payload), "PENDING_ACTIVATION")
	device, ok := fake.Thing("pump-1")
	require.True(t, ok)
	assert.Equal(t, map[string]string{"country": "DE"}, device.Attributes)
	require.Len(t, device.Certificates, 1)
	assert.Equal(t, []any{idOf(der), "ACTIVE", []string{"own"}},
		[]any{device.Certificates[0].ID, device.Certificates[0].Status, device.Certificates[0].Policies})
	assert.Nil(t, meet(t, fake, hello(fake, "pump-1", der)))
	list := eventsSoFar(t, fake)
	require.Len(t, list, 1)
	assert.Equal(t, []string{fakebackend.EventProvisioned, "pump-1", idOf(der), idOf(ca.Raw)},
		[]string{list[0].Kind, list[0].ThingName, list[0].CertificateID, list[0].CACertificateID})
}

func TestATemplateThatFailsLeavesTheCertificatePendingAndSaysWhy(t *testing.T) {
	for _, once := range []bool{false, true} {
		fake, ca := jitFake(t, fakebackend.Options{ProvisionOnce: once}, monday)
		bare := ca.sign(pkix.Name{CommonName: "pump-1"}) // without the country that the template asks for
		refused := meet(t, fake, hello(fake, "pump-1", bare))
		assert.Equal(t, wire.ProvisioningFailed, refused.Reason)
		assert.Contains(t, refused.Text, "AWS::IoT::Certificate::Country")
		assert.Equal(t, "PENDING_ACTIVATION", statusOf(t, fake, bare))
		assert.Equal(t, fakebackend.EventFailed, eventsSoFar(t, fake)[0].Kind)
		_, ok := fake.Thing("pump-1")
		assert.False(t, ok)

		// A step that fails leaves what those before it made; the next connection brings it to its end.
		der := ca.device("pump-2")
		_, err := fake.AddFault(fakebackend.Fault{Step: fakebackend.StepAttachPolicy, Thing: "pump-2", Do: fakebackend.Throttle})
		require.NoError(t, err)
		refused = meet(t, fake, hello(fake, "pump-2", der))
		assert.Equal(t, wire.ProvisioningFailed, refused.Reason)
		_, ok = fake.Thing("pump-2")
		assert.True(t, ok)
		want := map[bool]string{false: wire.JustProvisioned, true: wire.PendingActivation}[once]
		assert.Equal(t, want, meet(t, fake, hello(fake, "pump-2", der)).Reason)
		assert.Equal(t, map[bool]string{false: "ACTIVE", true: "PENDING_ACTIVATION"}[once], statusOf(t, fake, der))
	}
}

func TestWhatATemplateUndoesIsNotTheCertificateThatTheDeviceHas(t *testing.T) {
	fake, ca := jitFake(t, fakebackend.Options{UndoFailedLines: true}, monday)
	der := ca.device("pump-1")
	_, err := fake.AddFault(fakebackend.Fault{Step: fakebackend.StepActivate, Do: fakebackend.Fail})
	require.NoError(t, err)
	assert.Equal(t, wire.ProvisioningFailed, meet(t, fake, hello(fake, "pump-1", der)).Reason)
	assert.Equal(t, "PENDING_ACTIVATION", statusOf(t, fake, der))
	assert.Zero(t, fake.Counts().Things)
}

func TestTheTemplateRunsWithThePermissionsOfItsRole(t *testing.T) {
	fake, _ := newFake(t, fakebackend.Options{})
	policyNamed(t, fake, "own", ownThings)
	ca := newAuthority(monday)
	ca.in(t, fake, &iottypes.RegistrationConfig{TemplateBody: new(jitp), RoleArn: new("arn:aws:iam::123456789012:role/nobody")})
	refused := meet(t, fake, hello(fake, "pump-1", ca.device("pump-1")))
	assert.Equal(t, wire.ProvisioningFailed, refused.Reason)
	assert.Contains(t, refused.Text, "role/nobody")
}

func TestATemplateCanBeGivenByItsName(t *testing.T) {
	fake, role := newFake(t, fakebackend.Options{})
	ctx := t.Context()
	policyNamed(t, fake, "own", ownThings)
	create := func(name string, kind iottypes.TemplateType) {
		_, err := api(fake).CreateProvisioningTemplate(ctx, &iot.CreateProvisioningTemplateInput{
			TemplateName: &name, TemplateBody: new(jitp), ProvisioningRoleArn: &role, Type: kind, Enabled: new(true),
		})
		require.NoError(t, err)
	}
	create("pumps", iottypes.TemplateTypeJitp)
	create("claims", iottypes.TemplateTypeFleetProvisioning)
	ca := newAuthority(monday)
	caID := ca.in(t, fake, &iottypes.RegistrationConfig{TemplateName: new("pumps")}).CertificateId
	der := ca.device("pump-1")
	assert.Equal(t, wire.JustProvisioned, meet(t, fake, hello(fake, "pump-1", der)).Reason)
	assert.Nil(t, meet(t, fake, hello(fake, "pump-1", der)))

	_, err := api(fake).UpdateProvisioningTemplate(ctx, &iot.UpdateProvisioningTemplateInput{TemplateName: new("pumps"), Enabled: new(false)})
	require.NoError(t, err)
	assert.Contains(t, meet(t, fake, hello(fake, "pump-2", ca.device("pump-2"))).Text, "is not enabled")
	_, err = api(fake).DeleteProvisioningTemplate(ctx, &iot.DeleteProvisioningTemplateInput{TemplateName: new("pumps")})
	require.NoError(t, err)
	assert.Contains(t, meet(t, fake, hello(fake, "pump-3", ca.device("pump-3"))).Text, "does not exist")

	for _, config := range []*iottypes.RegistrationConfig{
		{TemplateName: new("nothing")}, {TemplateName: new("claims")}, {TemplateBody: new(jitp)}, {TemplateBody: new("{}"), RoleArn: &role},
		{TemplateBody: new(jitp), RoleArn: &role, TemplateName: new("claims")}, {TemplateBody: new(walkthrough(t)), RoleArn: &role},
	} {
		_, err := api(fake).UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: caID, RegistrationConfig: config})
		require.Error(t, err)
		_, err = api(fake).RegisterCACertificate(ctx, &iot.RegisterCACertificateInput{
			CaCertificate: new(pemOf(newAuthority(monday).Raw)), CertificateMode: "SNI_ONLY", RegistrationConfig: config,
		})
		require.Error(t, err)
	}
	_, err = api(fake).UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: caID, RemoveAutoRegistration: true})
	require.NoError(t, err)
	assert.Equal(t, wire.UnknownCertificate, meet(t, fake, hello(fake, "pump-4", ca.device("pump-4"))).Reason)
}

func TestManyConnectionsAtOnceRegisterEachCertificateOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fake, ca := jitFake(t, fakebackend.Options{}, time.Now())
		var group sync.WaitGroup
		ders := make([][]byte, 50)
		for i := range ders {
			ders[i] = ca.device(fmt.Sprint("pump-", i))
		}
		provisioned := make([]int, len(ders))
		var mu sync.Mutex
		for i, der := range ders {
			for range 4 {
				group.Go(func() {
					_, err := gate(fake).Admit(t.Context(), hello(fake, fmt.Sprint("pump-", i), der))
					if err != nil && assert.Equal(t, wire.JustProvisioned, reasonOf(t, err)) {
						mu.Lock()
						defer mu.Unlock()
						provisioned[i]++
					}
				})
			}
		}
		group.Wait()
		for i, n := range provisioned {
			assert.Equal(t, 1, n, "device %d", i)
		}
		assert.Equal(t, []int{50, 50}, []int{fake.Counts().Things, fake.Counts().Certificates})
		for d := range fake.Things() {
			assert.Len(t, d.Certificates, 1)
		}
	})
}

func TestAFaultCutsAConnectionBeforeOrAfterItsEffect(t *testing.T) {
	for _, operation := range []string{"Connect", "JustInTimeRegistration", "JustInTimeProvisioning"} {
		for _, do := range []fakebackend.Effect{fakebackend.DropBefore, fakebackend.DropAfter, fakebackend.Fail} {
			fake, ca := jitFake(t, fakebackend.Options{}, monday)
			if operation == "JustInTimeRegistration" {
				_, err := api(fake).UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: new(idOf(ca.Raw)), RemoveAutoRegistration: true})
				require.NoError(t, err)
				_, err = api(fake).UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: new(idOf(ca.Raw)), NewAutoRegistrationStatus: "ENABLE"})
				require.NoError(t, err)
			}
			id, err := fake.AddFault(fakebackend.Fault{Operation: operation, Do: do})
			require.NoError(t, err)
			der := ca.device("pump-1")
			refused := meet(t, fake, hello(fake, "pump-1", der))
			assert.Equal(t, []any{wire.Faulty, do != fakebackend.Fail}, []any{refused.Reason, refused.Cut}, "%s %s", operation, do)
			assert.Equal(t, 1, fake.FaultHits(id))
			after := do == fakebackend.DropAfter
			assert.Equal(t, after, statusOf(t, fake, der) != "", "%s %s", operation, do)
			assert.Equal(t, after, len(refused.Messages) == 1, "what was published is published")
		}
	}
}

func TestASnapshotTakesWaitingCertificatesAlong(t *testing.T) {
	fake, ca := jitFake(t, fakebackend.Options{}, monday)
	der := ca.device("pump-1")
	_, err := fake.AddFault(fakebackend.Fault{Step: fakebackend.StepActivate, Do: fakebackend.Fail})
	require.NoError(t, err)
	assert.Equal(t, wire.ProvisioningFailed, meet(t, fake, hello(fake, "pump-1", der)).Reason)
	raw, err := fake.Snapshot().MarshalBinary()
	require.NoError(t, err)
	snapshot := new(fakebackend.Snapshot)
	require.NoError(t, snapshot.UnmarshalBinary(raw))
	other, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	require.NoError(t, other.Restore(snapshot))
	assert.Equal(t, wire.JustProvisioned, meet(t, other, hello(other, "pump-1", der)).Reason)
	assert.Nil(t, meet(t, other, hello(other, "pump-1", der)))
}
