package provision_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/sqliteledger"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// onBoth runs a job on the fake, and on AWS's clients that talk to it.
func onBoth(t *testing.T, job func(t *testing.T, w *world)) {
	t.Run("fake", func(t *testing.T) { job(t, newWorld(t, fakebackend.Options{})) })
	t.Run("wire", func(t *testing.T) {
		w := newWorld(t, fakebackend.Options{})
		backend, err := awsbackend.New(fakeaws.Config(w.fake), awsbackend.Options{Bucket: w.fake.Options().Bucket})
		require.NoError(t, err)
		w.opts.Backend = backend
		job(t, w)
	})
}

// setup makes the role, as a user does before a run.
func (w *world) setup(t *testing.T, in task.RoleInput) {
	var err error
	w.opts.RoleARN, err = w.opts.Backend.(task.RoleEnsurer).EnsureRole(t.Context(), &in)
	require.NoError(t, err)
}

// A list as a German spreadsheet saves it, of pumps whose secure elements made their requests: with "_" where a
// PrintableString may have none, and without the field of attributes. Their policy is that of the group.
func TestAWholeJobOfSecureElementsInAGermanList(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		tm, err := template.Parse([]byte(grouped))
		require.NoError(t, err)
		who, err := w.fake.Identity(t.Context())
		require.NoError(t, err)
		require.NoError(t, w.opts.Backend.(task.ResourceEnsurer).EnsureResources(t.Context(), &task.ResourcesInput{
			ThingGroups: []task.ThingGroup{{Name: "pumps"}},
			Policies:    map[string]string{"pumps": string(template.OwnTopics(who.Partition, who.Region, who.Account))},
		}))
		group, err := awsIoT(w.fake).DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: new("pumps")})
		require.NoError(t, err)
		_, err = awsIoT(w.fake).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("pumps"), Target: group.ThingGroupArn})
		require.NoError(t, err)

		ledger, err := sqliteledger.Open(t.Context(), filepath.Join(t.TempDir(), "fleet.db"), nil)
		require.NoError(t, err)
		defer ledger.Close()
		w.opts.Template, w.opts.Credential, w.opts.Ledger, w.opts.PartDir = tm, &provision.GivenCSR{}, ledger, t.TempDir()
		w.opts.Meta.Columns, w.opts.Unique = []string{"Werk"}, []string{"Werk"}
		list := "sep=;\r\nWerk;Name;CSR\r\n" +
			"Süd, Halle 1;pumpe_1;" + base64.StdEncoding.EncodeToString(oddRequest(t, "pumpe_1", []byte{0xa0, 0}, asDER)) + "\r\n" +
			"\"Nord; Halle 2\";pumpe-2;\"" + pemOf("CERTIFICATE REQUEST", oddRequest(t, "pumpe-2", nil, asDER)) + "\"\r\n"
		opts := &datafile.CSVOptions{Rename: map[string]string{"Name": "ThingName"}}
		summary, err := w.run(t).Run(t.Context(), provision.FromCSV(strings.NewReader(list), "Geräte.csv", opts))
		require.NoError(t, err)
		assert.EqualValues(t, 2, summary.Provisioned)
		for i, r := range results(t, w.run(t)) {
			device, err := w.fake.ReadDevice(t.Context(), []string{"pumpe_1", "pumpe-2"}[i])
			require.NoError(t, err)
			require.Len(t, device.Certificates, 1)
			assert.Equal(t, r.CertificateID, device.Certificates[0].ID)
			assert.Equal(t, map[string]string{"Werk": []string{"Süd, Halle 1", "Nord; Halle 2"}[i]}, r.Meta)
		}
		var notes strings.Builder
		for _, e := range w.events {
			if spooled, ok := e.(provision.EventSpooled); ok {
				notes.WriteString(spooled.Notes.String())
			}
			if looked, ok := e.(provision.EventPreflight); ok {
				for _, f := range looked.Findings.AtLeast(finding.Warning) {
					assert.Equal(t, awsbackend.CheckEndpoint, f.Rule, "%s", f)
				}
			}
		}
		assert.Contains(t, notes.String(), `"_" in a PrintableString`)
		assert.Contains(t, notes.String(), "no field of attributes")
	})
}

// A vendor's manifest: an object on each line, certificates in base64 DER (x5c) of a CA that the account does not have,
// numbers, and members that only the vendor knows. The role that AWS's walkthrough makes may not register them.
func TestAWholeJobOfAVendorsManifest(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ca := newOwnCA()
		var manifest strings.Builder
		var sent []string
		for i, name := range []string{"sn-01", "sn-02"} {
			key := certtest.Key()
			negative := signed(t, ca.Key.(*ecdsa.PrivateKey), sequence(t,
				[]byte{0xa0, 3, 2, 1, 2, 2, 2, 0x91, byte(i)}, []byte{0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, ca.RawSubject,
				sequence(t, append([]byte{0x17, 13}, "250101000000Z"...), append([]byte{0x17, 13}, "490101000000Z"...)),
				printable(t, name), spki(t, key)), asDER)
			sent = append(sent, pemOf("CERTIFICATE", negative))
			line, err := json.Marshal(map[string]any{"uniqueId": name, "x5c": base64.StdEncoding.EncodeToString(negative), "rev": 7.50, "locked": true})
			require.NoError(t, err)
			manifest.Write(append(line, '\n'))
		}
		w.opts.Template, w.opts.Credential = formTemplate(t, "CertificatePem"), &provision.GivenCertificate{}
		w.opts.Meta.Columns = []string{"rev", "locked"}
		opts := &datafile.JSONOptions{Rename: map[string]string{"uniqueId": "ThingName", "x5c": "CertificatePem"}}
		w.setup(t, task.RoleInput{Name: "walkthrough"})
		run := w.run(t)
		report, err := run.Check(t.Context(), provision.FromNDJSON(strings.NewReader(manifest.String()), "manifest.json", opts))
		require.NoError(t, err)
		assert.Contains(t, report.Findings.AtLeast(finding.Warning).String(), "iot:RegisterCertificateWithoutCA")
		summary, err := run.Run(t.Context(), provision.FromNDJSON(strings.NewReader(manifest.String()), "manifest.json", opts))
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.EqualValues(t, 2, summary.Causes[provision.CauseRole])

		w.setup(t, task.RoleInput{Name: "walkthrough", RegisterWithoutCA: true})
		report, err = run.Check(t.Context(), provision.FromNDJSON(strings.NewReader(manifest.String()), "manifest.json", opts))
		require.NoError(t, err)
		assert.NotContains(t, report.Findings.AtLeast(finding.Warning).String(), "iot:RegisterCertificateWithoutCA")
		_, err = run.Retry(t.Context())
		require.NoError(t, err)
		for i, r := range results(t, run) {
			assert.Equal(t, sent[i], r.CertificatePEM)
			assert.Equal(t, map[string]string{"rev": "7.5", "locked": "true"}, r.Meta)
			described, err := awsIoT(w.fake).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: new(r.CertificateID)})
			require.NoError(t, err)
			assert.EqualValues(t, "SNI_ONLY", described.CertificateDescription.CertificateMode)
		}
	})
}
