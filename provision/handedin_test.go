package provision_test

import (
	"iter"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/template"
)

// withCSR is a device that comes with a request.
func withCSR(name, csr string) provision.Device {
	return provision.Device{Row: map[string]string{"ThingName": name, "SerialNumber": "1", "CSR": csr}}
}

// requireRefused runs the devices, and looks at them without a run: both must refuse exactly those whose names are
// given, and send none of them. It returns the run's results by name.
func (w *world) requireRefused(t *testing.T, devices iter.Seq2[provision.Device, error], refused ...string) map[string]*provision.Result {
	t.Helper()
	report, err := w.run(t).Check(t.Context(), devices)
	require.NoError(t, err)
	var names []string
	for _, r := range report.Refusals {
		names = append(names, r.Name)
	}
	assert.ElementsMatch(t, refused, names, "the dry run")
	assert.EqualValues(t, len(names), report.Refused)
	run := w.run(t)
	if _, err = run.Run(t.Context(), devices); len(refused) > 0 {
		require.ErrorIs(t, err, provision.ErrIncomplete)
	} else {
		require.NoError(t, err)
	}
	names = nil
	byName := map[string]*provision.Result{}
	for _, r := range results(t, run) {
		byName[r.Name] = r
		if r.Verdict != provision.Provisioned {
			names = append(names, r.Name)
			assert.Zero(t, r.Attempts, "%s was sent", r.Name)
		}
	}
	assert.ElementsMatch(t, refused, names, "the run")
	return byName
}

func TestARequestThatIsHandedInIsNeverReplacedByOneThatIsMade(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	all := w.requireRefused(t, provision.Devices(
		withCSR("one", madeElsewhere(t, "one").PEM()), withCSR("two", "2"), withCSR("three", ""), withCSR("four", " \n"),
	), "one", "two")
	for _, name := range []string{"one", "two"} {
		assert.Equal(t, provision.CauseInvalidRecord, all[name].Cause)
		assert.Contains(t, all[name].Message, "CSR")
		assert.Contains(t, all[name].Message, "GivenCSR")
		_, err := w.keys.Get(t.Context(), name)
		assert.Error(t, err, "no key is made for it")
	}
	_, err := w.run(t).Register(t.Context(), withCSR("five", madeElsewhere(t, "five").PEM()))
	assert.ErrorContains(t, err, "GivenCSR")
}

// signing is a step of one's own around MakeCSR, which fills another parameter with what a CA made of the request.
type signing struct{ provision.Credential }

func (s signing) Fills() []string              { return []string{"CertificatePem"} }
func (s signing) Unwrap() provision.Credential { return s.Credential }

func TestAStepOfOnesOwnThrowsNothingAwayEither(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Template = formTemplate(t, "CertificatePem")
	w.opts.Credential = signing{&provision.MakeCSR{Store: w.keys}}
	report, err := w.run(t).Check(t.Context(), provision.Devices(
		provision.Device{Row: map[string]string{"ThingName": "one", "CertificatePem": newOwnCA().sign("one")}},
	))
	require.NoError(t, err)
	require.Len(t, report.Refusals, 1)
	assert.Contains(t, report.Refusals[0].Message, "CertificatePem")
}

func TestTheParameterOfACredentialMayHaveAnyName(t *testing.T) {
	for property, step := range map[string]func(w *world) provision.Credential{
		"CertificateSigningRequest": func(*world) provision.Credential { return &provision.GivenCSR{} },
		"made":                      func(w *world) provision.Credential { return &provision.MakeCSR{Store: w.keys} },
		"CertificatePem":            func(*world) provision.Credential { return &provision.GivenCertificate{} },
		"CertificateId":             func(*world) provision.Credential { return &provision.GivenCertificateID{} },
	} {
		t.Run(property, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			ca := newOwnCA()
			ca.register(t, w.fake)
			id, _ := w.activeCertificate(t)
			value := map[string]string{
				"CertificateSigningRequest": madeElsewhere(t, "one").PEM(), "CertificatePem": ca.sign("one"), "CertificateId": id,
			}[property]
			if property == "made" {
				property = "CertificateSigningRequest"
			}
			tmpl, err := template.Parse([]byte(strings.ReplaceAll(string(must(formTemplate(t, property).MarshalJSON())), `"Ref":"`+property, `"Ref":"Blob`)))
			require.NoError(t, err)
			tmpl.Parameters["Blob"] = tmpl.Parameters[property]
			delete(tmpl.Parameters, property)
			w.opts.Template, w.opts.Credential, w.opts.Output = tmpl, step(w), nil
			row := map[string]string{"ThingName": "one"}
			if value != "" {
				row["Blob"] = value
			}
			w.requireRefused(t, provision.Rows(row))

			sites := map[string]provision.Options{"site": w.opts}
			row["ThingName"], row["Site"] = "two", "site"
			other := newWorld(t, fakebackend.Options{})
			ca.register(t, other.fake)
			if property == "CertificateId" {
				row["Blob"], _ = other.activeCertificate(t)
			}
			opts := w.opts
			opts.Backend, opts.RoleARN = other.opts.Backend, other.opts.RoleARN
			sites["site"] = opts
			f, err := fleet.New(fleet.Options{Route: fleet.ByColumn("Site"), Sites: sites})
			require.NoError(t, err)
			_, err = f.Run(t.Context(), provision.Rows(row))
			assert.NoError(t, err, "also at the site of a fleet")
		})
	}
}

func TestAStepThatFitsNoParameterOfTheTemplateIsRefused(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	for _, c := range []struct {
		property string
		step     provision.Credential
	}{
		{"CertificateSigningRequest", &provision.MakeCSR{Store: w.keys, Parameter: "ThingName"}},
		{"CertificateSigningRequest", &provision.GivenCSR{Parameter: "ThingName"}},
		{"CertificateSigningRequest", &provision.GivenCertificateID{}},
		{"CertificatePem", &provision.GivenCertificateID{}},
		{"CertificatePem", &provision.GivenCertificate{Parameter: "ThingName"}},
		{"CertificatePem", &provision.GivenCSR{Parameter: "CertificatePem"}},
		{"CertificateId", &provision.GivenCertificateID{Parameter: "ThingName"}},
		{"CertificateId", &provision.GivenCertificate{Parameter: "CertificateId"}},
		{"", &provision.GivenCertificateID{}},
	} {
		w.opts.Template, w.opts.Credential = formTemplate(t, c.property), c.step
		_, err := provision.New(w.opts)
		require.ErrorContains(t, err, "provision: the credential step", "%q, %#v", c.property, c.step)
	}
}

func TestARequestOfAnotherDeviceOfTheRunIsRefused(t *testing.T) {
	for _, parts := range []int{0, 1} {
		w := newWorld(t, fakebackend.Options{})
		w.opts.Credential, w.opts.Output, w.opts.PartLines = &provision.GivenCSR{}, nil, parts
		third := madeElsewhere(t, "three").PEM()
		all := w.requireRefused(t, provision.Devices(
			withCSR("copy", third), withCSR("one", madeElsewhere(t, "two").PEM()), withCSR("two", madeElsewhere(t, "one").PEM()),
			withCSR("three", third), withCSR("four", madeElsewhere(t, "serial 4").PEM()),
			withCSR("five", madeElsewhere(t, "broken").PEM()), withCSR("broken", "-"),
		), "copy", "one", "two", "five", "broken")
		assert.Contains(t, all["copy"].Message, `"three", which is record 4`)
		assert.Contains(t, all["one"].Message, `"two", which is record 3`)
		assert.Contains(t, all["two"].Message, `"one", which is record 2`)
		assert.Contains(t, all["five"].Message, `"broken", which is record 7`)
	}
}

func TestTheSubjectOfARequestMustBeTheOneThatIsDue(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	pattern, err := csr.ParsePattern("CN={ThingName}-{SerialNumber}")
	require.NoError(t, err)
	w.opts.Credential, w.opts.Output = &provision.GivenCSR{Subject: pattern.Subject}, nil
	all := w.requireRefused(t, provision.Devices(
		withCSR("one", madeElsewhere(t, "one-1").PEM()), withCSR("two", madeElsewhere(t, "two-2").PEM()),
		provision.Device{Row: map[string]string{"ThingName": "three", "SerialNumber": "", "CSR": madeElsewhere(t, "three-").PEM()}},
	), "two", "three")
	assert.Equal(t, provision.CauseCSRRefused, all["two"].Cause)
	assert.Contains(t, all["two"].Message, `"CN=two-2" and must be "CN=two-1"`)
	assert.Contains(t, all["three"].Message, "SerialNumber")
}

func TestTheDryRunRefusesASubjectThatCannotBeMade(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	long := strings.Repeat("x", 65)
	all := w.requireRefused(t, provision.Rows(map[string]string{"ThingName": long, "SerialNumber": "1"}), long)
	assert.Equal(t, provision.CauseKey, all[long].Cause)

	w = newWorld(t, fakebackend.Options{})
	pattern, err := csr.ParsePattern("CN={Serial}")
	require.NoError(t, err)
	w.opts.Credential = &provision.MakeCSR{Store: w.keys, Subject: pattern.Subject}
	w.requireRefused(t, rows(1), "device-1")
}

func TestAnIdOfACertificateIsLookedAtInTheDryRunToo(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Template, w.opts.Credential, w.opts.Output = formTemplate(t, "CertificateId"), &provision.GivenCertificateID{}, nil
	id, _ := w.activeCertificate(t)
	w.requireRefused(t, provision.Devices(byID("one", id), byID("two", id[1:]), byID("three", "")), "two", "three")
}

func TestTheDevicesOwnCertificateIsTakenFromABundle(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	ca := newOwnCA()
	ca.register(t, w.fake)
	root := certtest.PEM(ca.Certificate)
	w.opts.Template, w.opts.Credential, w.opts.Output = formTemplate(t, "CertificatePem"), &provision.GivenCertificate{}, nil
	row := func(name, cert string) provision.Device {
		return provision.Device{Row: map[string]string{"ThingName": name, "CertificatePem": cert}}
	}
	leaf := map[string]string{}
	for _, name := range []string{"first", "last", "twice", "two", "one", "swapped"} {
		leaf[name] = ca.sign(name)
	}
	all := w.requireRefused(t, provision.Devices(
		row("first", leaf["first"]+root), row("last", root+"\nissued to:\n"+leaf["last"]), row("twice", leaf["twice"]+root+leaf["twice"]),
		row("ca", root), row("several", leaf["one"]+leaf["two"]), row("cut", leaf["one"]+root[:len(root)/2]),
		row("other", leaf["one"]+madeElsewhere(t, "other").PEM()),
		row("swapped", ca.sign("last")),
	), "ca", "several", "cut", "other", "swapped")
	for _, name := range []string{"first", "last", "twice"} {
		assert.Equal(t, leaf[name], all[name].CertificatePEM)
	}
	for name, why := range map[string]string{
		"ca": "the certificate of a CA", "several": "the certificates of 2 devices", "cut": "cut short", "other": "certificate signing request",
		"swapped": `"last", which is record 2`,
	} {
		assert.Contains(t, all[name].Message, why)
		assert.Equal(t, provision.CauseInvalidRecord, all[name].Cause)
	}
}
