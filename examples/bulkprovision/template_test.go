package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/template"
)

// README.md and docs/guide.md send people to these files.
func TestTheTemplatesBesideTheProgramAreThoseOfThePackage(t *testing.T) {
	own := template.Policy{PolicyDocument: template.OwnTopics("aws", "us-east-1", "123456789012")}
	name, id := template.Ref("AWS::IoT::Certificate::CommonName"), template.Ref("AWS::IoT::Certificate::Id")
	for file, want := range map[string]*template.Template{
		"template.json":        template.FromCSR(own, "SerialNumber"),
		"template-own-ca.json": template.FromOwnCA(own, "SerialNumber"),
		"template-jit.json": {
			Parameters: map[string]template.Parameter{string(name): {}, string(id): {}},
			Resources: map[string]template.Resource{
				"thing":       template.Thing{ThingName: name},
				"certificate": template.Certificate{CertificateID: id, Status: template.Active},
				"policy":      own,
			},
		},
	} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		body, err := want.Body()
		require.NoError(t, err)
		assert.JSONEq(t, body, string(data), file)
		got, err := template.Parse(data)
		require.NoError(t, err)
		kind := template.Bulk
		if file == "template-jit.json" {
			kind = template.JITP
		}
		assert.Empty(t, got.Check(kind).AtLeast(finding.Warning), file)
	}
}

// Flags that name no template get one that fits them.
func TestEachCredentialHasATemplate(t *testing.T) {
	for _, credential := range []string{"make", "csr", "certificate"} {
		o := options{credential: credential, key: "p256", subject: "CN={ThingName}", own: ownCA{mode: "bulk"}} // the flags' defaults
		opts := provision.Options{Backend: new(fakebackend.Backend), RoleARN: "arn:aws:iam::123456789012:role/registration"}
		var err error
		opts.Template, err = o.loadTemplate()
		require.NoError(t, err)
		_, err = o.setCredential(&opts)
		require.NoError(t, err)
		_, err = provision.New(opts)
		assert.NoError(t, err, credential)
	}
}

func TestTheModeOfAnOwnCAMustSuitTheTemplate(t *testing.T) {
	issuer := ownCA{mode: "without-ca", ca: new(csr.CA)}
	assert.ErrorContains(t, issuer.suits(template.FromOwnCA(template.Policy{PolicyName: template.Literal("p")})), `resource "certificate" has CACertificatePem`)
	assert.NoError(t, issuer.suits(template.FromCertificatePEM(template.Policy{PolicyName: template.Literal("p")})))
}

func TestTheTemplateOfFirstConnectionsIsReadAndChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "jit.json")
	for body, want := range map[string]string{
		`{"Parameters": {},}`: "remove the comma",
		`{"Parameters":{"CSR":{"Type":"String"}},"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"CSR"}}}}}`: "nothing fills parameter",
	} {
		require.NoError(t, os.WriteFile(file, []byte(body), 0o600))
		assert.ErrorContains(t, (&ownCA{first: file}).loadFirst(), want)
	}
}

func TestTheFakesCAIsLeftInTheRunsFolder(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	o := options{dir: t.TempDir()}
	require.NoError(t, o.saveCA(t.Context(), fake))
	data, err := os.ReadFile(filepath.Join(o.dir, "issuer-ca.pem"))
	require.NoError(t, err)
	assert.Equal(t, fake.CA(), data)
}
