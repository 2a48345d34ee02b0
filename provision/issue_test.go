package provision_test

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// myCA makes a CA of the user's own.
func myCA(t testing.TB) *csr.CA { return ownCAOf(t, certtest.Key()) }

func ownCAOf(t testing.TB, key crypto.Signer) *csr.CA {
	t.Helper()
	ca, err := csr.NewCA(selfSigned(key), key, csr.Profile{Validity: 10 * 365 * 24 * time.Hour})
	require.NoError(t, err)
	return ca
}

// selfSigned makes a CA's certificate.
func selfSigned(key crypto.Signer) *x509.Certificate {
	return certtest.NewCA(key, func(c *x509.Certificate) {
		c.Subject, c.NotAfter = pkix.Name{Organization: []string{"MyOrg"}, CommonName: "MyOrg Device CA"}, c.NotBefore.AddDate(20, 0, 0)
	}).Certificate
}

// registerCA registers a CA in the account, as its owner would by hand.
func (w *world) registerCA(t *testing.T, ca *csr.CA) {
	t.Helper()
	client := awsIoT(w.fake)
	code, err := client.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{})
	require.NoError(t, err)
	proof, err := ca.VerificationCertificate(*code.RegistrationCode)
	require.NoError(t, err)
	_, err = client.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: new(ca.PEM()), VerificationCertificate: new(proof), SetAsActive: true,
	})
	require.NoError(t, err)
}

// issuing is a template that takes the device's certificate, and with withCA that of its CA, too.
func issuing(t *testing.T, withCA bool) *template.Template {
	t.Helper()
	parameter, property := "", ""
	if withCA {
		parameter, property = `,"Issuer":{"Type":"String"}`, `"CACertificatePem":{"Ref":"Issuer"},`
	}
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"SerialNumber":{"Type":"String"},"Cert":{"Type":"String"}` + parameter + `},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"serial":{"Ref":"SerialNumber"}}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"Cert"},` + property + `"Status":"ACTIVE"},
		"OverrideSettings":{"Status":"REPLACE"}}}}`))
	require.NoError(t, err)
	return tmpl
}

func TestCertificatesOfAnOwnCAAreRegistered(t *testing.T) {
	for name, withCA := range map[string]bool{"under the registered CA": true, "without a CA": false} {
		t.Run(name, func(t *testing.T) {
			w := folderWorld(t, fakebackend.Options{})
			ca := myCA(t)
			if withCA {
				w.registerCA(t, ca)
			} else {
				_, err := w.fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration", RegisterWithoutCA: true})
				require.NoError(t, err)
			}
			subject, err := csr.ParsePattern("O=MyOrg,serialNumber={SerialNumber},CN={ThingName}")
			require.NoError(t, err)
			w.opts.Template = issuing(t, withCA)
			w.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w.keys, Subject: subject.Subject}
			run := w.complete(t, rows(3))
			w.requireWorking(t, results(t, run))
			for _, r := range results(t, run) {
				cert := certificate(t, r.CertificatePEM)
				require.NoError(t, cert.CheckSignatureFrom(ca.Certificate()))
				assert.Equal(t, r.Name, cert.Subject.CommonName)
				assert.Equal(t, r.Row["SerialNumber"], cert.Subject.SerialNumber)
				rec, err := w.keys.Get(t.Context(), r.Name)
				require.NoError(t, err)
				assert.Equal(t, rec.CertificatePEM, r.CertificatePEM)
				assert.NoFileExists(t, filepath.Join(w.folder.Path(r.Name), keystore.RequestFile))
			}

			openssl, err := exec.LookPath("openssl")
			if err != nil {
				t.Skip("the openssl program is not installed")
			}
			root := filepath.Join(t.TempDir(), "ca.pem")
			require.NoError(t, os.WriteFile(root, []byte(ca.PEM()), 0o600))
			out, err := exec.CommandContext(t.Context(), openssl, "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", root,
				filepath.Join(w.folder.Path("device-2"), "certificate.pem")).CombinedOutput()
			require.NoError(t, err, "%s", out)
		})
	}
}

// ownCAWorld has a CA that is registered, and a run that issues its certificates.
func ownCAWorld(t *testing.T) (*world, *csr.CA) {
	t.Helper()
	w := newWorld(t, fakebackend.Options{})
	w.durable(t)
	ca := myCA(t)
	w.registerCA(t, ca)
	w.opts.Template = issuing(t, true)
	w.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w.keys}
	return w, ca
}

func TestADeviceThatIsSentAgainIsSentWithTheSameCertificate(t *testing.T) {
	w, _ := ownCAWorld(t)
	w.fault(t, fakebackend.Fault{Thing: "device-2", Step: fakebackend.StepThing, Do: fakebackend.Fail, Times: 1})
	run := w.incomplete(t, rows(3))
	before, err := w.keys.Get(t.Context(), "device-2")
	require.NoError(t, err)
	_, err = w.run(t).Retry(t.Context())
	require.NoError(t, err)
	w.requireWorking(t, results(t, run))
	assert.Equal(t, before.CertificatePEM, results(t, run)[1].CertificatePEM)
	certs, err := awsIoT(w.fake).ListCertificates(t.Context(), &iot.ListCertificatesInput{})
	require.NoError(t, err)
	assert.Len(t, certs.Certificates, 3)
}

func TestTheCertificateOfARefusedLineIsAnOrphanUntilItsDeviceHasIt(t *testing.T) {
	w, _ := ownCAWorld(t)
	for name, times := range map[string]int{"device-2": 1, "device-3": 2} {
		w.fault(t, fakebackend.Fault{Thing: name, Step: fakebackend.StepThing, Do: fakebackend.Fail, Times: times})
	}
	orphans := func(run *provision.Run) (names []string) {
		t.Helper()
		found, err := run.FindOrphans(t.Context())
		require.NoError(t, err)
		for _, o := range found {
			rec, err := w.keys.Get(t.Context(), o.Name)
			require.NoError(t, err)
			id, err := task.CertificateID(rec.CertificatePEM)
			require.NoError(t, err)
			assert.Equal(t, id, o.CertificateID)
			names = append(names, o.Name)
		}
		return names
	}
	run := w.run(t)
	summary, err := run.Run(t.Context(), rows(3))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Equal(t, 2, summary.Orphans)
	assert.ElementsMatch(t, []string{"device-2", "device-3"}, orphans(run))

	run = w.run(t)
	_, err = run.Retry(t.Context())
	require.ErrorIs(t, err, provision.ErrIncomplete)
	assert.Equal(t, []string{"device-3"}, orphans(run), "device-2 has its certificate now")

	_, err = run.Remove(t.Context(), provision.RemoveOptions{All: true})
	require.NoError(t, err)
	assert.Zero(t, w.fake.Counts().Certificates, "a run that is removed leaves none, also of devices that failed")
}

func TestAPartThatWasLostIsMadeAgainOfTheSameCertificates(t *testing.T) {
	w, _ := ownCAWorld(t)
	_, err := w.run(t).Prepare(t.Context(), rows(3))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(w.opts.PartDir, "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	before, err := os.ReadFile(files[0])
	require.NoError(t, err)
	require.NoError(t, os.Remove(files[0]))
	run := w.complete(t, rows(3))
	after, err := os.ReadFile(files[0])
	require.NoError(t, err)
	assert.Equal(t, string(before), string(after))
	w.requireWorking(t, results(t, run))
}

func TestARunGoesOnOnlyWithTheCAThatItWasBegunWith(t *testing.T) {
	caKey := certtest.Key()
	w, _ := ownCAWorld(t)
	first := ownCAOf(t, caKey)
	w.registerCA(t, first)
	w.opts.Credential = &provision.IssueCertificate{CA: first, Store: w.keys}
	_, err := w.run(t).Prepare(t.Context(), rows(2))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(w.opts.PartDir, "*.json"))
	require.NoError(t, err)
	require.NoError(t, os.Remove(files[0])) // so that the certificates are asked for again

	other := myCA(t)
	w.registerCA(t, other)
	w.opts.Credential = &provision.IssueCertificate{CA: other, Store: w.keys}
	_, err = w.run(t).Run(t.Context(), rows(2))
	require.ErrorIs(t, err, csr.ErrCA)
	require.ErrorContains(t, err, "give the CA that did")

	w.opts.Credential = &provision.IssueCertificate{CA: first, Store: w.keys}
	w.requireWorking(t, results(t, w.complete(t, rows(2))))
}

func TestACertificateThatExpiredInAnInterruptedRunIsNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caKey := certtest.Key()
		w, _ := ownCAWorld(t)
		long := ownCAOf(t, caKey)
		w.registerCA(t, long)
		short, err := csr.NewCA(long.Certificate(), caKey, csr.Profile{Validity: 24 * time.Hour})
		require.NoError(t, err)
		w.opts.Credential = &provision.IssueCertificate{CA: short, Store: w.keys}
		w.fault(t, fakebackend.Fault{Thing: "device-2", Step: fakebackend.StepCertificate, Do: fakebackend.Fail, Times: 1})
		run := w.incomplete(t, rows(2))

		time.Sleep(48 * time.Hour)
		_, err = run.Retry(t.Context())
		require.ErrorIs(t, err, provision.ErrIncomplete)
		got := results(t, run)[1]
		assert.Equal(t, provision.Failed, got.Verdict)
		assert.Contains(t, got.Message, "expired at 2000-01-02T00:00:00Z, before it was registered")
		assert.Equal(t, 1, w.fake.Counts().Certificates)
	})
}

func TestNoPartIsSentWithCertificatesThatExpiredInAnInterruptedRun(t *testing.T) {
	for _, state := range []provision.PartState{provision.PartWritten, provision.PartUploaded} {
		for _, existing := range []provision.Existing{provision.RefuseExisting, provision.UncheckedExisting} {
			for name, gone := range map[string]bool{"its file kept": false, "its file gone": true} {
				t.Run(fmt.Sprintf("%s, %s, existing %q", state, name, existing), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						caKey, err := csr.Software(csr.P256).Signer(t.Context(), "")
						require.NoError(t, err)
						w, _ := ownCAWorld(t)
						long := ownCAOf(t, caKey)
						w.registerCA(t, long)
						short, err := csr.NewCA(long.Certificate(), caKey, csr.Profile{Validity: 24 * time.Hour})
						require.NoError(t, err)
						made := (&csr.Generator{CA: long}).One(t.Context(), csr.Device{Name: "device-2"})
						require.NoError(t, made.Err)
						w.opts.Existing = existing
						w.opts.Credential = &provision.IssueCertificate{CA: short, Store: w.keys}
						if state == provision.PartWritten {
							w.opts.Backend = noUpload{w.fake}
						}
						_, err = w.fake.AddFault(fakebackend.Fault{
							Operation: "StartThingRegistrationTask", Times: 1, Do: fakebackend.Fail, Code: "UnauthorizedException", Status: 401,
						})
						require.NoError(t, err)
						_, err = w.run(t).Prepare(t.Context(), provision.Devices()) // the run's id is known from here on
						require.NoError(t, err)
						record, err := w.opts.Ledger.Run(t.Context())
						require.NoError(t, err)
						// One device has a certificate that lasts.
						require.NoError(t, w.keys.Put(t.Context(), keystore.Record{Device: "device-2", Key: made.Key, CertificatePEM: made.CertificatePEM, Run: record.ID}))
						_, err = w.run(t).Run(t.Context(), rows(3))
						require.Error(t, err)
						w.fake.ClearFaults()
						parts, err := w.opts.Ledger.Parts(t.Context())
						require.NoError(t, err)
						require.Equal(t, state, parts[0].State)
						w.opts.Backend = w.fake
						if gone {
							require.NoError(t, os.Remove(filepath.Join(w.opts.PartDir, parts[0].File)))
						}

						time.Sleep(48 * time.Hour)
						w.opts.Credential = &provision.IssueCertificate{CA: long, Store: w.keys}
						run := w.incomplete(t, rows(3))
						got := results(t, run)
						w.requireWorking(t, got[1:2])
						assert.Equal(t, made.CertificatePEM, got[1].CertificatePEM)
						for _, r := range []*provision.Result{got[0], got[2]} {
							assert.Equal(t, provision.Failed, r.Verdict)
							assert.Contains(t, r.Message, "before it was registered; move the key away")
							assert.Zero(t, r.Attempts)
						}
						assert.Equal(t, 1, w.fake.Counts().Certificates)

						// What the message tells to do.
						w.keys = keystore.Memory()
						require.NoError(t, w.keys.Put(t.Context(), keystore.Record{Device: "device-2", Key: made.Key, CertificatePEM: made.CertificatePEM, Run: record.ID}))
						w.opts.Credential = &provision.IssueCertificate{CA: long, Store: w.keys}
						run = w.run(t)
						_, err = run.Retry(t.Context())
						require.NoError(t, err)
						w.requireWorking(t, results(t, run))
					})
				})
			}
		}
	}
}

func TestAKeyWithARequestIsNoKeyWithACertificate(t *testing.T) {
	g := csr.Generator{}
	made := g.One(t.Context(), csr.Device{Name: "device-1"})
	require.NoError(t, made.Err)
	w, _ := ownCAWorld(t)
	run := w.run(t)
	_, err := run.Prepare(t.Context(), provision.Devices()) // the run's id is known from here on
	require.NoError(t, err)
	record, err := w.opts.Ledger.Run(t.Context())
	require.NoError(t, err)
	require.NoError(t, w.keys.Put(t.Context(), keystore.Record{Device: "device-1", Key: made.Key, Request: made.Request, Run: record.ID}))
	_, err = run.Run(t.Context(), rows(1))
	require.ErrorContains(t, err, "made its key with a request")
}

func TestARecordWithACertificateOfItsOwnIsRefused(t *testing.T) {
	w, ca := ownCAWorld(t)
	key := certtest.Key()
	own, err := ca.Issue(key.Public(), csr.CommonName("device-1"))
	require.NoError(t, err)
	run := w.run(t)
	_, err = run.Run(t.Context(), provision.Rows(map[string]string{"ThingName": "device-1", "SerialNumber": "1", "Cert": own}))
	require.Error(t, err)
	if !errors.Is(err, provision.ErrIncomplete) {
		require.ErrorContains(t, err, "Cert") // the header of the list is refused
		return
	}
	assert.Contains(t, results(t, run)[0].Message, "GivenCertificate")
}

func TestAStepWithoutCAOrStoreIsRefused(t *testing.T) {
	w, ca := ownCAWorld(t)
	for text, step := range map[string]*provision.IssueCertificate{
		"CA is missing": {Store: w.keys}, "Store is missing": {CA: ca}, "and the template does not take": {CA: ca, Store: w.keys, Parameter: "Issuer"},
	} {
		w.opts.Credential = step
		_, err := provision.New(w.opts)
		if text == "and the template does not take" {
			require.ErrorContains(t, err, "does not take its certificate's CertificatePem from it")
			continue
		}
		require.ErrorContains(t, err, text)
	}
}

func TestAStepForATemplateKeepsItsSettings(t *testing.T) {
	tmpl := issuing(t, false)
	assert.Equal(t, &provision.GivenCertificate{Parameter: "Cert", Lenient: true}, provision.ForTemplate(&provision.GivenCertificate{Lenient: true}, tmpl))
}

func TestRemovedDevicesAreOnTheCAsRevocationList(t *testing.T) {
	w, ca := ownCAWorld(t)
	run := w.complete(t, rows(3))
	empty, err := run.RevocationList(t.Context(), "", time.Now().Add(time.Hour))
	require.NoError(t, err)
	_, err = run.Remove(t.Context(), provision.RemoveOptions{Names: []string{"device-2"}})
	require.NoError(t, err)
	text, err := run.RevocationList(t.Context(), empty, time.Now().Add(time.Hour))
	require.NoError(t, err)
	again, err := run.RevocationList(t.Context(), text, time.Now().Add(time.Hour))
	require.NoError(t, err)
	for i, list := range []string{empty, text, again} {
		block, _ := pem.Decode([]byte(list))
		require.NotNil(t, block)
		crl, err := x509.ParseRevocationList(block.Bytes)
		require.NoError(t, err)
		require.NoError(t, crl.CheckSignatureFrom(ca.Certificate()))
		assert.EqualValues(t, i+1, crl.Number.Int64())
		require.Len(t, crl.RevokedCertificateEntries, min(i, 1))
		if i > 0 {
			rec, err := w.keys.Get(t.Context(), "device-2")
			require.NoError(t, err)
			assert.Equal(t, certificate(t, rec.CertificatePEM).SerialNumber, crl.RevokedCertificateEntries[0].SerialNumber)
		}
	}
	_, err = myCA(t).RevocationList(text, nil, time.Now().Add(time.Hour))
	require.ErrorIs(t, err, csr.ErrCA)
	_, err = ca.RevocationList("nonsense", nil, time.Now().Add(time.Hour))
	require.ErrorIs(t, err, csr.ErrCA)
	w.opts.Credential, w.opts.Template = &provision.MakeCSR{Store: w.keys}, template.Walkthrough()
	_, err = w.run(t).RevocationList(t.Context(), "", time.Now().Add(time.Hour))
	require.ErrorContains(t, err, "no CA of its own")
}

// revoked are the serial numbers on a run's revocation list.
func revoked(t *testing.T, run *provision.Run) (serials []*big.Int) {
	t.Helper()
	text, err := run.RevocationList(t.Context(), "", time.Now().Add(time.Hour))
	require.NoError(t, err)
	block, _ := pem.Decode([]byte(text))
	require.NotNil(t, block)
	list, err := x509.ParseRevocationList(block.Bytes)
	require.NoError(t, err)
	for _, e := range list.RevokedCertificateEntries {
		serials = append(serials, e.SerialNumber)
	}
	return serials
}

func TestTheCertificateOfARefusedLineIsRevokedWithItsDevice(t *testing.T) {
	w, _ := ownCAWorld(t)
	w.fault(t, fakebackend.Fault{Thing: "device-2", Step: fakebackend.StepThing, Do: fakebackend.Fail, Times: 1})
	run := w.incomplete(t, rows(2))
	_, err := run.RemoveOrphans(t.Context())
	require.NoError(t, err)
	assert.Empty(t, revoked(t, run), "it is sent again with the same certificate")
	_, err = run.Remove(t.Context(), provision.RemoveOptions{Names: []string{"device-2"}})
	require.NoError(t, err)
	rec, err := w.keys.Get(t.Context(), "device-2")
	require.NoError(t, err)
	assert.Equal(t, []*big.Int{certificate(t, rec.CertificatePEM).SerialNumber}, revoked(t, run))
	w.opts.Credential = &provision.IssueCertificate{CA: myCA(t), Store: w.keys}
	_, err = w.run(t).RevocationList(t.Context(), "", time.Now().Add(time.Hour))
	require.ErrorIs(t, err, csr.ErrCA, "it would leave the certificate out")
}

func TestReplacedCertificatesOfTheCAAreRevokedWhereNothingElseUsesThem(t *testing.T) {
	w, ca := ownCAWorld(t)
	first := w.run(t)
	_, err := first.Run(t.Context(), rows(3))
	require.NoError(t, err)
	old := results(t, first)
	client := awsIoT(w.fake)
	// device-2 shares its certificate with another thing, and device-3 has one of AWS, too.
	_, err = client.CreateThing(t.Context(), &iot.CreateThingInput{ThingName: new("other")})
	require.NoError(t, err)
	_, err = client.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("other"), Principal: new(old[1].CertificateARN)})
	require.NoError(t, err)
	aws, err := client.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	_, err = client.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("device-3"), Principal: aws.CertificateArn})
	require.NoError(t, err)

	w2 := w.again(t, provision.AddToExisting)
	w2.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w2.keys}
	_, err = w2.run(t).Run(t.Context(), rows(3))
	require.NoError(t, err)
	assert.Empty(t, revoked(t, w2.run(t)), "all of them are in service")

	w3 := w.again(t, provision.ReplaceExisting)
	w3.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w3.keys}
	_, err = w3.run(t).Run(t.Context(), rows(3))
	require.NoError(t, err)
	var want []*big.Int
	for i, r := range results(t, w2.run(t)) {
		want = append(want, certificate(t, r.CertificatePEM).SerialNumber)
		if i != 1 {
			want = append(want, certificate(t, old[i].CertificatePEM).SerialNumber)
		}
	}
	assert.ElementsMatch(t, want, revoked(t, w3.run(t)))
	assert.Equal(t, 1, activeCertificates(t, w.fake, "other"), "and goes on with it")
}
