package provision_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// jitWorld has a CA that registers devices when they first connect, and a run that issues its certificates.
func jitWorld(t *testing.T, w *world) *csr.CA {
	t.Helper()
	ca := myCA(t)
	_, err := w.fake.EnsureCA(t.Context(), &task.CAInput{CertificatePEM: ca.PEM(), Prove: ca.VerificationCertificate, AutoRegister: true})
	require.NoError(t, err)
	w.durable(t)
	w.opts.Template, w.opts.RoleARN, w.opts.FirstConnection = issuing(t, false), "", true
	w.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w.keys}
	return ca
}

// connects does what a device's first connection and the rule on it leave in the account. With a status of
// PENDING_ACTIVATION the rule has not run yet.
func (w *world) connects(t *testing.T, thing, certificatePEM string, status types.CertificateStatus) {
	t.Helper()
	client := awsIoT(w.fake)
	registered, err := client.RegisterCertificate(t.Context(), &iot.RegisterCertificateInput{CertificatePem: new(certificatePEM), Status: types.CertificateStatusInactive})
	require.NoError(t, err)
	_, err = client.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new(thing)})
	require.NoError(t, err)
	_, err = client.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new(thing), Principal: registered.CertificateArn})
	require.NoError(t, err)
	if status == types.CertificateStatusActive {
		w.activate(t, *registered.CertificateId)
	}
}

func (w *world) activate(t *testing.T, id string) {
	t.Helper()
	_, err := awsIoT(w.fake).UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: new(id), NewStatus: types.CertificateStatusActive})
	require.NoError(t, err)
}

func TestDevicesAreLeftToTheirFirstConnection(t *testing.T) {
	for _, ledger := range []string{"memory", "sqlite"} {
		t.Run(ledger, func(t *testing.T) {
			w := folderWorld(t, fakebackend.Options{})
			ca := jitWorld(t, w)
			if ledger == "sqlite" {
				l, err := sqliteledger.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"), nil)
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, l.Close()) })
				w.opts.Ledger = l
			}
			run := w.run(t)
			summary, err := run.Run(t.Context(), rows(3))
			require.ErrorIs(t, err, provision.ErrIncomplete, "issued is no success")
			assert.EqualError(t, err, "0 of 3 devices provisioned, 3 issued: each registers at its first connection")
			assert.EqualValues(t, 3, summary.Issued)
			assert.Zero(t, summary.Pending)
			certs, err := awsIoT(w.fake).ListCertificates(t.Context(), &iot.ListCertificatesInput{})
			require.NoError(t, err)
			assert.Empty(t, certs.Certificates, "nothing is made in the account")
			issued := results(t, run)
			for _, r := range issued {
				require.Equal(t, provision.Issued, r.Verdict)
				rec, err := w.keys.Get(t.Context(), r.Name)
				require.NoError(t, err)
				assert.Equal(t, rec.CertificatePEM, r.CertificatePEM)
				assert.Equal(t, r.CertificatePEM+ca.PEM(), w.handedOver(t, r.Name), "the device sends the CA behind its own")
				assert.Empty(t, r.TaskID)
			}
			if openssl, err := exec.LookPath("openssl"); err == nil {
				root := filepath.Join(t.TempDir(), "ca.pem")
				require.NoError(t, os.WriteFile(root, []byte(ca.PEM()), 0o600))
				out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root,
					filepath.Join(w.folder.Path("device-3"), "certificate.pem")).CombinedOutput()
				require.NoError(t, err, "%s", out)
			}

			// One is registered, one has connected and waits for the rule, one has not connected.
			w.connects(t, "device-1", issued[0].CertificatePEM, types.CertificateStatusActive)
			w.connects(t, "device-2", issued[1].CertificatePEM, types.CertificateStatusInactive)
			summary, err = w.run(t).Reconcile(t.Context())
			require.ErrorIs(t, err, provision.ErrIncomplete)
			assert.Equal(t, []int64{1, 2}, []int64{summary.Provisioned, summary.Issued})
			now := results(t, run)
			assert.Equal(t, []provision.Verdict{provision.Provisioned, provision.Issued, provision.Issued}, []provision.Verdict{now[0].Verdict, now[1].Verdict, now[2].Verdict})
			assert.Contains(t, now[1].Message, "it has connected, and its certificate is INACTIVE")
			assert.Empty(t, now[2].Message)

			w.activate(t, issued[1].CertificateID)
			w.connects(t, "device-3", issued[2].CertificatePEM, types.CertificateStatusActive)
			_, err = w.run(t).Run(t.Context(), rows(3))
			require.NoError(t, err, "all have connected")
			for i, r := range results(t, run) {
				assert.Equal(t, provision.Provisioned, r.Verdict)
				assert.Equal(t, issued[i].CertificatePEM, r.CertificatePEM)
				assert.NotEmpty(t, r.ThingARN)
			}
		})
	}
}

func TestAThingWithAnotherCertificateIsNotTheIssuedDevice(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	ca := jitWorld(t, w)
	run := w.incomplete(t, rows(1))
	key := certtest.Key()
	another, err := ca.Issue(key.Public(), csr.CommonName("device-1"))
	require.NoError(t, err)
	w.connects(t, "device-1", another, types.CertificateStatusActive)
	w.incomplete(t, nil)
	r := results(t, run)[0]
	assert.Equal(t, provision.Issued, r.Verdict)
	assert.Contains(t, r.Message, "its certificate is not on it")
}

// stumbling fails to record the devices of a verdict, once.
type stumbling struct {
	provision.Ledger
	verdict provision.Verdict
	done    bool
}

var errStumbled = errors.New("power cut")

func (l *stumbling) Apply(ctx context.Context, c provision.Change) error {
	for _, d := range c.Devices {
		if d.Verdict == l.verdict && !l.done {
			l.done = true
			return errStumbled
		}
	}
	return l.Ledger.Apply(ctx, c)
}

func TestACertificateThatWasHandedOverIsTheOneThatIsRecordedAfterACrash(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	ca := jitWorld(t, w)
	w.opts.Ledger = &stumbling{Ledger: w.opts.Ledger, verdict: provision.Issued}
	_, err := w.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, errStumbled)
	before := w.handedOver(t, "device-2")
	require.NotEmpty(t, before, "it was handed over, and the ledger does not know")
	run := w.run(t)
	_, err = run.Run(t.Context(), rows(2))
	require.EqualError(t, err, "0 of 2 devices provisioned, 2 issued: each registers at its first connection")
	assert.Equal(t, before, results(t, run)[1].CertificatePEM+ca.PEM())
	assert.Equal(t, before, w.handedOver(t, "device-2"))
}

func TestARunGoesOnInTheWayThatItWasBegun(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	ca := jitWorld(t, w)
	_, err := w.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	w.opts.Credential = &provision.IssueCertificate{CA: myCA(t), Store: w.keys}
	_, err = w.run(t).Run(t.Context(), nil)
	require.ErrorIs(t, err, csr.ErrCA, "another CA would be delivered with the certificates")
	w.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w.keys}
	role, err := w.fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration", RegisterWithoutCA: true})
	require.NoError(t, err)
	w.opts.FirstConnection, w.opts.RoleARN = false, role
	_, err = w.run(t).Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrElsewhere)
	require.ErrorContains(t, err, "-cert-mode jit")

	w2 := w.again(t, provision.UncheckedExisting)
	w2.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w2.keys}
	_, err = w2.run(t).Prepare(t.Context(), rows(2))
	require.NoError(t, err)
	w2.opts.FirstConnection = true
	_, err = w2.run(t).Run(t.Context(), nil)
	require.ErrorIs(t, err, provision.ErrElsewhere)
	require.ErrorContains(t, err, "registration tasks")
}

func TestADeviceThatConnectsBeforeItsRunHasRecordedThatIsItsOwn(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	jitWorld(t, w)
	w.opts.Ledger = &stumbling{Ledger: w.opts.Ledger, verdict: provision.Issued}
	_, err := w.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, errStumbled)
	// Whoever registers it gives the thing no attributes, which the run's template has.
	rec, err := w.keys.Get(t.Context(), "device-1")
	require.NoError(t, err)
	w.connects(t, "device-1", rec.CertificatePEM, types.CertificateStatusActive)
	run := w.run(t)
	_, err = run.Run(t.Context(), rows(2))
	require.EqualError(t, err, "1 of 2 devices provisioned, 1 issued: each registers at its first connection")
	assert.Equal(t, rec.CertificatePEM, results(t, run)[0].CertificatePEM)
	assert.Equal(t, provision.Provisioned, results(t, run)[0].Verdict)
}

func TestNothingIsIssuedUnderACAThatRegistersNobody(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ca := jitWorld(t, w)
		step := w.opts.Credential
		w.opts.Credential = &provision.IssueCertificate{CA: myCA(t), Store: w.keys}
		refused := func(text string) {
			t.Helper()
			report, err := w.run(t).Check(t.Context(), rows(1))
			require.NoError(t, err)
			assert.Contains(t, report.Findings.AtLeast(finding.Error).String(), text)
			_, err = w.run(t).Run(t.Context(), rows(1))
			require.ErrorIs(t, err, provision.ErrPreflight)
			require.ErrorContains(t, err, text)
			_, err = w.keys.Get(t.Context(), "device-1")
			require.Error(t, err, "no key is made")
		}
		refused("is not registered")
		w.opts.Credential = step
		id, err := task.CertificateID(ca.PEM())
		require.NoError(t, err)
		set := func(in iot.UpdateCACertificateInput) {
			in.CertificateId = new(id)
			_, err = awsIoT(w.fake).UpdateCACertificate(t.Context(), &in)
			require.NoError(t, err)
		}
		set(iot.UpdateCACertificateInput{NewAutoRegistrationStatus: types.AutoRegistrationStatusDisable})
		refused("newAutoRegistrationStatus ENABLE")
		set(iot.UpdateCACertificateInput{NewAutoRegistrationStatus: types.AutoRegistrationStatusEnable, NewStatus: types.CACertificateStatusInactive})
		refused("INACTIVE")
		set(iot.UpdateCACertificateInput{NewStatus: types.CACertificateStatusActive, RegistrationConfig: &types.RegistrationConfig{
			TemplateBody: new(firstConnectionTemplate), RoleArn: new("arn:aws:iam::123456789012:role/registration"),
		}})
		report, err := w.run(t).Check(t.Context(), rows(1))
		require.NoError(t, err)
		assert.True(t, report.OK(), "%v", report.Findings)
		assert.NotContains(t, report.Findings.String(), "policy", "the run's template gives the devices none")
	})
}

func TestARunOfFirstConnectionsRegistersNothingItself(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	jitWorld(t, w)
	run := w.run(t)
	_, prepare := run.Prepare(t.Context(), rows(1))
	_, register := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "x", "SerialNumber": "1"}})
	for name, err := range map[string]error{
		"Prepare": prepare, "Submit": run.Submit(t.Context()), "Register": register, "Adopt": run.Adopt(t.Context(), "id", strings.NewReader("")),
	} {
		assert.ErrorContains(t, err, "FirstConnection", name)
	}
	report, err := w.run(t).Check(t.Context(), rows(1))
	require.NoError(t, err)
	assert.Equal(t, []template.ThingSpec{{ThingName: "device-1"}}, report.Samples[0].Creates.Things)
	w.opts.May = []string{"connect"}
	_, err = provision.New(w.opts)
	require.ErrorContains(t, err, "Options.May")
	w.opts.May, w.opts.Credential = nil, &provision.GivenCertificate{}
	_, err = provision.New(w.opts)
	require.ErrorContains(t, err, "take IssueCertificate")
}

func TestAnIssuedDeviceIsRemovedWithWhatItsConnectionMade(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	jitWorld(t, w)
	run := w.incomplete(t, rows(2))
	w.connects(t, "device-1", results(t, run)[0].CertificatePEM, types.CertificateStatusActive)
	report, err := w.run(t).Remove(t.Context(), provision.RemoveOptions{All: true, UncheckedThings: true})
	require.NoError(t, err)
	assert.EqualValues(t, 2, report.Removed)
	certs, err := awsIoT(w.fake).ListCertificates(t.Context(), &iot.ListCertificatesInput{})
	require.NoError(t, err)
	assert.Empty(t, certs.Certificates)
	for _, r := range results(t, run) {
		assert.Equal(t, provision.Removed, r.Verdict)
		assert.Contains(t, r.Message, "registered at the next connection")
	}
}

func TestOnlyAThingThatIsThereIsKept(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	jitWorld(t, w)
	run := w.incomplete(t, rows(2))
	w.connects(t, "device-1", results(t, run)[0].CertificatePEM, types.CertificateStatusActive)
	report, err := w.run(t).Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	assert.EqualValues(t, 2, report.Removed)
	assert.EqualValues(t, 1, report.ThingsKept)
	removed := results(t, run)
	assert.Contains(t, removed[0].Message, "its thing is kept")
	assert.NotContains(t, removed[1].Message, "thing", "device-2 has never connected")
}

func TestADeviceOfAnOwnCAIsRemovedWithItsCertificate(t *testing.T) {
	w, _ := ownCAWorld(t)
	w.complete(t, rows(2))
	report, err := w.run(t).Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	assert.EqualValues(t, 2, report.Removed)
	assert.Zero(t, report.ThingsKept)
	certs, err := awsIoT(w.fake).ListCertificates(t.Context(), &iot.ListCertificatesInput{})
	require.NoError(t, err)
	assert.Empty(t, certs.Certificates)
}
