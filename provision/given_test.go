package provision_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func byID(name, id string) provision.Device {
	return provision.Device{Row: map[string]string{"ThingName": name, "CertificateId": id}}
}

func (w *world) activeCertificate(t *testing.T) (id, arn string) {
	t.Helper()
	made, err := awsIoT(w.fake).CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	return *made.CertificateId, *made.CertificateArn
}

func TestThingsThatShareACertificateKeepTheirOwnResults(t *testing.T) {
	for _, refused := range []string{"", "one", "two"} {
		t.Run("refused="+refused, func(t *testing.T) {
			w := newWorld(t, fakebackend.Options{})
			w.durable(t)
			w.opts.Template, w.opts.Credential = formTemplate(t, "CertificateId"), &provision.GivenCertificateID{}
			w.opts.Output = nil
			id, _ := w.activeCertificate(t)
			if refused != "" {
				w.fault(t, fakebackend.Fault{Thing: refused, Step: fakebackend.StepThing, Do: fakebackend.Fail})
			}
			run := w.run(t)
			_, err := run.Run(t.Context(), provision.Devices(byID("one", id), byID("two", id)))
			if refused == "" {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, provision.ErrIncomplete)
			}
			for _, r := range results(t, run) {
				if r.Name == refused {
					assert.Equal(t, provision.Failed, r.Verdict, r.Name)
					continue
				}
				require.Equal(t, provision.Provisioned, r.Verdict, "%s: %s", r.Name, r.Message)
				assert.Equal(t, r.Name, task.ResourceName(r.ThingARN))
			}
		})
	}
}

func TestWhatWasThereBeforeARunIsNotTakenForItsWork(t *testing.T) {
	const (
		thing = `"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"floor":"2"}},
			"OverrideSettings":{"AttributePayload":"MERGE"}}`
		certificate = `,"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"CertificateId"}}},
			"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"new"}}`
	)
	for _, c := range []struct {
		name, resources string
		step            provision.Credential
		before          string // the thing's attribute
	}{
		{"a policy of another name", thing + certificate, &provision.GivenCertificateID{}, "2"},
		{"other attributes", thing, provision.NoCertificate{}, "1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, fakebackend.Options{})
				w.durable(t)
				id, arn := w.activeCertificate(t)
				must(awsIoT(w.fake).CreateThing(t.Context(), &iot.CreateThingInput{
					ThingName: new("one"), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"floor": c.before}},
				}))
				for _, policy := range []string{"old", "new"} {
					must(awsIoT(w.fake).CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: new(policy), PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)}))
				}
				must(awsIoT(w.fake).AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: new("old"), Target: new(arn)}))
				must(awsIoT(w.fake).AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: new("one"), Principal: new(arn)}))
				tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"CertificateId":{"Type":"String"}},"Resources":{` + c.resources + `}}`))
				require.NoError(t, err)
				w.opts.Template, w.opts.Credential, w.opts.Output = tmpl, c.step, nil
				// The line is refused, and no report says so.
				w.fault(t, fakebackend.Fault{Thing: "one", Step: fakebackend.StepThing, Do: fakebackend.Fail})
				w.opts.Backend = shuffled{w.fake, func([]string) []string { return nil }}
				_, err = w.run(t).Run(t.Context(), provision.Devices(byID("one", id)))
				require.ErrorIs(t, err, provision.ErrIncomplete, "nothing was registered")

				w.opts.Backend = w.fake
				run := w.run(t)
				one := results(t, run)[0]
				require.Equal(t, provision.Failed, one.Verdict)
				assert.True(t, one.Cause.Retryable())
				_, err = run.Retry(t.Context())
				require.NoError(t, err)
				now := must(w.fake.ReadDevice(t.Context(), "one"))
				assert.Equal(t, "2", now.Attributes["floor"])
				_, noCertificate := c.step.(provision.NoCertificate)
				assert.Equal(t, !noCertificate, slices.Contains(now.Certificates[0].Policies, "new"))
			})
		})
	}
}

func TestACertificateThatHasExpiredIsSentWithANote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca := myCA(t)
		key, err := csr.Software(csr.P256).Signer(t.Context(), "")
		require.NoError(t, err)
		text, err := ca.Issue(key.Public(), csr.CommonName("device-1"))
		require.NoError(t, err)
		given := &provision.GivenCertificate{}
		assert.Empty(t, given.RowNotes(map[string]string{"CertificatePem": text}))
		time.Sleep(11 * 365 * 24 * time.Hour)
		assert.Equal(t, []string{"CertificatePem: it has expired: AWS IoT may register it, and the device can't connect with it"},
			given.RowNotes(map[string]string{"CertificatePem": text}))
	})
}
