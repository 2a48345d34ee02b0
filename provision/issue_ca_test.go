package provision_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

const firstConnectionTemplate = `{"Parameters":{"AWS::IoT::Certificate::CommonName":{"Type":"String"},"AWS::IoT::Certificate::Id":{"Type":"String"}},
	"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"}}},
	"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}}}}`

// On both backends: the fake, and awsbackend over the fake.
func TestACAIsRegisteredOnceAndLeftAsItIs(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		cas, ok := task.As[task.CAEnsurer](w.opts.Backend)
		require.True(t, ok)
		proofs := 0
		input := func(ca *csr.CA) *task.CAInput {
			return &task.CAInput{CertificatePEM: ca.PEM(), Prove: func(code string) (string, error) {
				proofs++
				return ca.VerificationCertificate(code)
			}}
		}
		ca := myCA(t)
		_, err := cas.ReadCA(t.Context(), ca.PEM())
		require.ErrorIs(t, err, task.ErrNotFound)
		first, err := cas.EnsureCA(t.Context(), input(ca))
		require.NoError(t, err)
		assert.True(t, first.Active)
		assert.False(t, first.AutoRegister)
		assert.False(t, first.SNIOnly)
		again, err := cas.EnsureCA(t.Context(), input(ca))
		require.NoError(t, err)
		assert.Equal(t, first, again)
		assert.Equal(t, 1, proofs)
		id, err := task.CertificateID(ca.PEM())
		require.NoError(t, err)
		assert.Equal(t, id, first.ID)

		auto := input(ca)
		auto.AutoRegister = true
		_, err = cas.EnsureCA(t.Context(), auto)
		require.ErrorIs(t, err, task.ErrConflict)
		assert.ErrorContains(t, err, "newAutoRegistrationStatus ENABLE")
		_, err = awsIoT(w.fake).UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: new(id), NewStatus: types.CACertificateStatusInactive})
		require.NoError(t, err)
		_, err = cas.EnsureCA(t.Context(), input(ca))
		require.ErrorIs(t, err, task.ErrConflict)
		assert.ErrorContains(t, err, "INACTIVE")

		other := myCA(t)
		liar := input(ca)
		liar.CertificatePEM = other.PEM() // the proof is of another CA
		_, err = cas.EnsureCA(t.Context(), liar)
		require.Error(t, err)
		_, err = cas.ReadCA(t.Context(), other.PEM())
		require.ErrorIs(t, err, task.ErrNotFound)

		sni, err := cas.EnsureCA(t.Context(), &task.CAInput{CertificatePEM: other.PEM(), SNIOnly: true, AutoRegister: true})
		require.NoError(t, err)
		assert.True(t, sni.SNIOnly && sni.AutoRegister)

		jit := input(myCA(t))
		jit.AutoRegister, jit.TemplateBody, jit.RoleARN = true, firstConnectionTemplate, w.opts.RoleARN
		made, err := cas.EnsureCA(t.Context(), jit)
		require.NoError(t, err)
		assert.Equal(t, []string{firstConnectionTemplate, w.opts.RoleARN}, []string{made.TemplateBody, made.RoleARN})
		_, err = cas.EnsureCA(t.Context(), jit)
		require.NoError(t, err)
		jit.TemplateBody, err = issuing(t, true).Body()
		require.NoError(t, err)
		_, err = cas.EnsureCA(t.Context(), jit)
		require.ErrorIs(t, err, task.ErrConflict)
		assert.ErrorContains(t, err, "has another template")
		jit.TemplateBody, jit.RoleARN = "", ""
		_, err = cas.EnsureCA(t.Context(), jit)
		require.ErrorIs(t, err, task.ErrConflict)
		assert.ErrorContains(t, err, "none was asked for")

		for _, bad := range []*task.CAInput{
			nil, {}, {CertificatePEM: "x", SNIOnly: true}, {CertificatePEM: ca.PEM()},
			{CertificatePEM: ca.PEM(), SNIOnly: true, TemplateBody: "{}"}, {CertificatePEM: ca.PEM(), SNIOnly: true, TemplateBody: "{}", RoleARN: "r"},
		} {
			_, err := cas.EnsureCA(t.Context(), bad)
			require.ErrorIs(t, err, task.ErrInvalidRequest, "%+v", bad)
		}
	})
}

func TestARunFindsWhatItsCALacksBeforeTheFirstDevice(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		ca := myCA(t)
		check := func(withCA bool) finding.List {
			w.opts.Template = issuing(t, withCA)
			w.opts.Credential = &provision.IssueCertificate{CA: ca, Store: w.keys}
			report, err := w.run(t).Check(t.Context(), rows(2))
			require.NoError(t, err)
			return report.Findings.AtLeast(finding.Error)
		}
		w.setup(t, task.RoleInput{Name: "walkthrough"})
		assert.Contains(t, check(true).String(), "is not registered")
		assert.Contains(t, check(false).String(), "iot:RegisterCertificateWithoutCA")
		_, err := w.run(t).Run(t.Context(), rows(2))
		require.ErrorIs(t, err, provision.ErrPreflight, "nothing is sent")

		w.setup(t, task.RoleInput{Name: "walkthrough", RegisterWithoutCA: true})
		assert.Empty(t, check(false))
		w.setup(t, task.RoleInput{Name: "plain"})
		assert.NotEmpty(t, check(false))
		w.registerCA(t, ca)
		assert.Empty(t, check(false), "a registered CA's certificates need no further permission")
		assert.Empty(t, check(true))
		id, err := task.CertificateID(ca.PEM())
		require.NoError(t, err)
		_, err = awsIoT(w.fake).UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: new(id), NewStatus: types.CACertificateStatusInactive})
		require.NoError(t, err)
		assert.Contains(t, check(true).String(), "INACTIVE")
	})
}
