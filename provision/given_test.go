package provision_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

func byID(name, id string) provision.Device {
	return provision.Device{Row: map[string]string{"ThingName": name, "CertificateId": id}}
}

func (w *world) activeCertificate(t *testing.T) (id, arn string) {
	t.Helper()
	made, err := w.fake.CreateKeysAndCertificate(t.Context(), &fakebackend.CreateKeysAndCertificateInput{SetAsActive: true})
	require.NoError(t, err)
	return made.CertificateID, made.CertificateARN
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
				_, err := w.fake.AddFault(fakebackend.Fault{Thing: refused, Step: fakebackend.StepThing, Do: fakebackend.Fail})
				require.NoError(t, err)
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
