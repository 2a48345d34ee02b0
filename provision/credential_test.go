package provision_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/template"
)

// madeElsewhere makes a request outside of any run.
func madeElsewhere(t *testing.T, name string) *csr.Request {
	t.Helper()
	req, err := csr.Create(certtest.Key(), csr.CommonName(name))
	require.NoError(t, err)
	return req
}

// formTemplate is a template with one certificate property, taken from a parameter of the same name; "" for none.
func formTemplate(t *testing.T, property string) *template.Template {
	t.Helper()
	parameter, certificate := "", ""
	if property != "" {
		parameter = fmt.Sprintf(`,%q:{"Type":"String"}`, property)
		certificate = fmt.Sprintf(`,"certificate":{"Type":"AWS::IoT::Certificate","Properties":{%q:{"Ref":%q},"Status":"ACTIVE"}}`, property, property)
	}
	tmpl, err := template.Parse(fmt.Appendf(nil, `{"Parameters":{"ThingName":{"Type":"String"}%s},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"}}}%s}}`, parameter, certificate))
	require.NoError(t, err)
	return tmpl
}

func TestRequestsMadeElsewhereAreSentInWhateverFormTheyCome(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Credential = &provision.GivenCSR{}
	requests := map[string]*csr.Request{}
	for _, name := range []string{"pem", "crlf", "flat", "twin", "base64"} {
		requests[name] = madeElsewhere(t, name)
	}
	requests["twin"] = madeElsewhere(t, "not the name of a device")
	requests["copy"] = requests["twin"]
	text := func(name string) string { return requests[name].PEM() }
	device := func(name, csr string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": name, "SerialNumber": "1", "CSR": csr}}
	}
	run := w.run(t)
	_, err := run.Run(t.Context(), provision.Devices(
		device("pem", text("pem")),
		device("crlf", strings.ReplaceAll(text("crlf"), "\n", "\r\n")),
		device("flat", strings.ReplaceAll(text("flat"), "\n", `\n`)),
		device("twin", text("twin")),
		device("copy", text("copy")),
		device("broken", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"),
		device("none", ""),
		device("text", "to be done"),
		device("der", string(requests["pem"].DER())),
		device("base64", base64.StdEncoding.EncodeToString(requests["base64"].DER())),
	))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	all := results(t, run)
	for i, name := range []string{"pem", "crlf", "flat", "twin"} {
		require.Equal(t, provision.Provisioned, all[i].Verdict, "%s: %s", name, all[i].Message)
		digest, err := csr.CertificateKeySHA256([]byte(all[i].CertificatePEM))
		require.NoError(t, err)
		assert.Equal(t, requests[name].PublicKeySHA256(), digest)
	}
	assert.Equal(t, provision.CauseDuplicate, all[4].Cause, "two devices with one key are one device to AWS")
	assert.Contains(t, all[4].Message, "record 4")
	for _, r := range all[5:9] {
		assert.Equal(t, provision.CauseCSRRefused, r.Cause, r.Message)
		assert.Contains(t, r.Message, "CSR")
		assert.Zero(t, r.Attempts)
	}
	assert.Contains(t, all[8].Message, "base64")
	assert.Equal(t, provision.Provisioned, all[9].Verdict, all[9].Message)

	w.opts.Existing = provision.UncheckedExisting // they are registered by now
	report, err := w.run(t).Check(t.Context(), provision.Devices(device("changed", strings.Replace(text("pem"), "MI", "MJ", 1))))
	require.NoError(t, err)
	assert.False(t, report.OK(), "a dry run looks at requests, too")
	report, err = w.run(t).Check(t.Context(), provision.Devices(device("pem", text("pem")), device("twin", text("twin")), device("copy", text("copy"))))
	require.NoError(t, err)
	require.Len(t, report.Refusals, 1)
	assert.Equal(t, all[4].Cause, report.Refusals[0].Cause)
	assert.Equal(t, "record 2 has the same public key; each device needs a key of its own", report.Refusals[0].Message)
}

func TestACredentialStepThatCannotBeTheTemplatesIsRefusedBeforeAnythingIsMade(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	for property, steps := range map[string][]provision.Credential{
		"CertificateSigningRequest": {&provision.GivenCertificate{}, provision.NoCertificate{}},
		"CertificatePem":            {&provision.MakeCSR{Store: w.keys}, &provision.GivenCSR{}, provision.NoCertificate{}},
		"CertificateId":             {provision.NoCertificate{}},
		"":                          {&provision.MakeCSR{Store: w.keys}, &provision.GivenCSR{}, &provision.GivenCertificate{}},
	} {
		for _, step := range steps {
			w.opts.Template, w.opts.Credential = formTemplate(t, property), step
			_, err := provision.New(w.opts)
			require.ErrorContains(t, err, "provision: the credential step", "%q, %T", property, step)
		}
	}
	w.opts.Template, w.opts.Credential = formTemplate(t, "CertificateSigningRequest"), &provision.GivenCSR{Parameter: "CertificateSigningRequest"}
	w.run(t)
}

func TestARoleThatIsNoARNIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	for _, role := range []string{"registration", "arn:aws:iam::1234:role/r", "arn:aws:iam::123456789012:user/u", "arn:aws:iam::123456789012:role/"} {
		w.opts.RoleARN = role
		_, err := provision.New(w.opts)
		require.ErrorContains(t, err, "Options.RoleARN is", role)
	}
	w.opts.RoleARN = "arn:aws-us-gov:iam::123456789012:role/service-role/r"
	w.run(t)
}

// ownCA is a CA of the user's own, with certificates it signed.
type ownCA struct{ *certtest.CA }

func newOwnCA() *ownCA { return &ownCA{certtest.NewCA(certtest.Key())} }

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func (ca *ownCA) sign(cn string) string {
	return certtest.PEM(ca.Sign(certtest.Key().Public(), func(c *x509.Certificate) { c.Subject.CommonName = cn }))
}

// register tells the fake account about the CA.
func (ca *ownCA) register(t *testing.T, fake *fakebackend.Backend) {
	t.Helper()
	code, err := awsIoT(fake).GetRegistrationCode(t.Context(), nil)
	require.NoError(t, err)
	_, err = awsIoT(fake).RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: new(certtest.PEM(ca.Certificate)), VerificationCertificate: new(ca.sign(*code.RegistrationCode)), SetAsActive: true,
	})
	require.NoError(t, err)
}

func TestCertificatesOfTheUsersOwnCAAreRegistered(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	ca := newOwnCA()
	ca.register(t, w.fake)
	w.opts.Template, w.opts.Credential = formTemplate(t, "CertificatePem"), &provision.GivenCertificate{}
	row := func(name, cert string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": name, "CertificatePem": cert}}
	}
	w.fault(t, fakebackend.Fault{Thing: "halfway", Step: fakebackend.StepThing, Do: fakebackend.Fail})
	good, other := ca.sign("serial 1"), ca.sign("two")
	run := w.run(t)
	_, err := run.Run(t.Context(), provision.Devices(
		row("one", good), row("two", other),
		row("same", good),
		row("key", madeElsewhere(t, "x").PEM()),
		row("text", "no certificate"),
		row("stranger", newOwnCA().sign("stranger")),
		row("halfway", ca.sign("halfway")),
	))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	all := results(t, run)
	for i, want := range []string{good, other} {
		require.Equal(t, provision.Provisioned, all[i].Verdict, all[i].Message)
		assert.Equal(t, want, all[i].CertificatePEM)
	}
	assert.Equal(t, provision.CauseDuplicate, all[2].Cause)
	assert.Equal(t, provision.CauseInvalidRecord, all[3].Cause)
	assert.Contains(t, all[3].Message, "CertificatePem")
	assert.Equal(t, provision.CauseInvalidRecord, all[4].Cause)
	assert.Equal(t, provision.Failed, all[5].Verdict, "a CA that the account does not know")
	assert.Equal(t, 1, all[5].Attempts)
	assert.Equal(t, provision.Failed, all[6].Verdict, "its certificate is registered, its thing is not")
	require.Equal(t, 3, w.fake.Counts().Certificates)
	orphans, err := run.FindOrphans(t.Context())
	require.NoError(t, err)
	assert.Empty(t, orphans, "a certificate that was given to a device is not the run's to remove")
}

func TestCertificatesOfTheAccountAreAttachedByID(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	made, err := awsIoT(w.fake).CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	w.opts.Template, w.opts.Credential = formTemplate(t, "CertificateId"), &provision.GivenCertificateID{}
	row := func(name, id string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": name, "CertificateId": id}}
	}
	run := w.run(t)
	_, err = run.Run(t.Context(), provision.Devices(
		row("one", *made.CertificateId), row("short", "0123"), row("nobody", strings.Repeat("ab", 32)),
	))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	all := results(t, run)
	require.Equal(t, provision.Provisioned, all[0].Verdict, all[0].Message)
	assert.Equal(t, *made.CertificateId, all[0].CertificateID)
	assert.Equal(t, provision.CauseInvalidRecord, all[1].Cause)
	assert.Contains(t, all[1].Message, "CertificateId")
	assert.Equal(t, provision.Failed, all[2].Verdict)
	assert.Equal(t, 1, all[2].Attempts)
}

func TestThingsCanBeRegisteredWithoutCertificates(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Template, w.opts.Credential = formTemplate(t, ""), provision.NoCertificate{}
	run := w.run(t)
	devices := provision.Devices(provision.Device{Row: map[string]string{"ThingName": "one"}}, provision.Device{Row: map[string]string{"ThingName": "two"}})
	_, err := run.Run(t.Context(), devices)
	require.NoError(t, err)
	for _, r := range results(t, run) {
		assert.NotEmpty(t, r.ThingARN)
		assert.Empty(t, r.CertificateID)
	}
	_, err = w.run(t).Run(t.Context(), devices)
	require.NoError(t, err, "a second call confirms it")
}

// filing is a key source and a store that go by the customer of a device.
type filing struct {
	keystore.Store
	slots, files sync.Map // customers by device
}

func (f *filing) Signer(context.Context, string) (crypto.Signer, error) {
	return nil, errors.New("the name alone is not enough")
}

func (f *filing) DeviceSigner(ctx context.Context, d csr.Device) (crypto.Signer, error) {
	f.slots.Store(d.Name, d.Row["Customer"])
	return csr.Software(csr.P256).Signer(ctx, d.Name)
}

func (f *filing) Put(ctx context.Context, rec keystore.Record) error {
	f.files.Store(rec.Device, rec.Row["Customer"]+rec.Row["SerialNumber"])
	return f.Store.Put(ctx, rec)
}

func TestKeySourcesAndStoresSeeWhatIsKeptBesideADevice(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	f := &filing{Store: keystore.Memory()}
	w.opts.Credential, w.opts.Output = &provision.MakeCSR{Store: f, Keys: f}, nil
	w.opts.Meta.Columns = []string{"Customer"}
	run := w.complete(t, fromCSV("ThingName,SerialNumber,Customer\na,1,Acme\nb,2,Bolt\n"))
	_, err := run.Register(t.Context(), provision.Device{Row: map[string]string{"ThingName": "c", "SerialNumber": "3"}, Meta: map[string]string{"Customer": "Core"}})
	require.NoError(t, err)
	for name, customer := range map[string]string{"a": "Acme", "b": "Bolt", "c": "Core"} {
		slot, _ := f.slots.Load(name)
		assert.Equal(t, customer, slot)
		file, _ := f.files.Load(name)
		assert.Contains(t, file, customer)
		rec, err := f.Get(t.Context(), name)
		require.NoError(t, err)
		assert.Nil(t, rec.Row, "it is no part of the record")
	}
}

// sometimes has no key for one of the devices.
type sometimes struct {
	inner csr.KeySource
	fails string
}

func (s *sometimes) Signer(ctx context.Context, device string) (crypto.Signer, error) {
	if device == s.fails {
		return nil, errTokenGone
	}
	return s.inner.Signer(ctx, device)
}

var errTokenGone = errors.New("the security token was pulled")

func TestADeviceWithoutAKeyFailsAloneAndIsRetryable(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	source := &sometimes{inner: csr.Software(csr.P256), fails: "device-2"}
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Keys: source}
	run := w.incomplete(t, rows(3))
	all := results(t, run)
	assert.Equal(t, provision.CauseKey, all[1].Cause)
	assert.Contains(t, all[1].Message, errTokenGone.Error())
	source.fails = ""
	_, err := run.Retry(t.Context())
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
	_, err = w.keys.Get(t.Context(), "device-2")
	assert.NotErrorIs(t, err, keystore.ErrNotFound)
}

func TestRegisterTakesTheRunsOwnRecordOfADeviceThatHadNoKey(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	source := &sometimes{inner: csr.Software(csr.P256), fails: "device-2"}
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Keys: source}
	run := w.incomplete(t, rows(2))
	device := provision.Device{Row: map[string]string{"ThingName": "device-2", "SerialNumber": "002"}}
	res, err := run.Register(t.Context(), device)
	require.ErrorContains(t, err, errTokenGone.Error())
	assert.Equal(t, provision.CauseKey, res.Cause)
	source.fails = ""
	_, err = run.Register(t.Context(), device)
	require.NoError(t, err)
	summary, err := run.Run(t.Context(), rows(2))
	require.NoError(t, err)
	assert.EqualValues(t, 2, summary.Total)
	w.requireWorking(t, results(t, run))
}

func TestRetrySendsNoDeviceWhoseNameAnotherRecordHasTaken(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	// A module that makes a new key whenever it is asked.
	module := keySource(func(context.Context, string) (crypto.Signer, error) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		return &slot{inside: key}, err
	})
	source := &sometimes{inner: module, fails: "one"}
	w.opts.Credential, w.opts.Output = &provision.MakeCSR{Store: keystore.None(), Keys: source}, nil
	record := provision.Device{Row: map[string]string{"ThingName": "one", "SerialNumber": "1"}}
	run := w.incomplete(t, provision.Devices(record, record))
	source.fails = ""
	second := record
	second.Seq = 2
	_, err := run.Amend(t.Context(), provision.Devices(second))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	_, err = run.Retry(t.Context())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	w.requireOneCertificateEach(t, "one")
	assert.Equal(t, provision.CauseDuplicate, results(t, run)[0].Cause)
}

// swapping is a credential step that does not keep the order of the devices.
type swapping struct{ provision.GivenCSR }

func (s *swapping) Prepare(ctx context.Context, devices iter.Seq2[provision.Candidate, error]) iter.Seq2[provision.Candidate, error] {
	return func(yield func(provision.Candidate, error) bool) {
		var all []provision.Candidate
		for p, err := range s.GivenCSR.Prepare(ctx, devices) {
			if err != nil {
				yield(p, err)
				return
			}
			all = append(all, p)
		}
		for _, p := range slices.Backward(all) {
			if !yield(p, nil) {
				return
			}
		}
	}
}

func TestNoDeviceGetsTheKeyOfAnotherFromAStepThatMixesThemUp(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Credential = &swapping{}
	device := func(name string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": name, "SerialNumber": "1", "CSR": madeElsewhere(t, name).PEM()}}
	}
	_, err := w.run(t).Run(t.Context(), provision.Devices(device("one"), device("two")))
	require.ErrorContains(t, err, `gave device "two" where device "one" was due`)
	assert.Zero(t, w.fake.Counts().Certificates)
}
