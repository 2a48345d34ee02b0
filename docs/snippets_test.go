// Package docs_test holds the Go code of README.md and of the pages in this folder once more, so that it compiles, and
// runs where it can.
package docs_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestTheGoCodeOfThePagesIsInThisFile(t *testing.T) {
	words := func(text string) string { return strings.Join(strings.Fields(text), " ") }
	source, err := os.ReadFile("snippets_test.go")
	require.NoError(t, err)
	pages, err := filepath.Glob("*.md")
	require.NoError(t, err)
	for _, page := range append(pages, "../README.md") {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for i, block := range strings.Split(string(text), "```go\n")[1:] {
			code, _, ok := strings.Cut(block, "```")
			require.True(t, ok)
			rest := words(string(source))
			for line := range strings.Lines(strings.ReplaceAll(code, "…", "\n")) { // … stands for lines that are left out
				_, after, found := strings.Cut(rest, words(line))
				if assert.True(t, found, "%s, block %d: %s", page, i+1, line) {
					rest = after
				}
			}
		}
	}
}

func TestTheProgramOfTheREADMERuns(t *testing.T) {
	ctx := t.Context()
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
	require.NoError(t, err)

	t.Chdir(t.TempDir())
	backend, roleARN, list := fake, role, strings.NewReader("ThingName,SerialNumber\ndevice-one,001\n")
	keys, err := keystore.OpenFolder("devices", nil) // a folder for each device
	require.NoError(t, err)
	job, err := provision.New(provision.Options{
		Backend:    backend,                // AWS, or the fake
		Template:   template.Walkthrough(), // for trials; FromCSR with OwnTopics lets devices connect
		RoleARN:    roleARN,
		Credential: &provision.MakeCSR{Store: keys},
		Output:     provision.Folder(keys),
	})
	require.NoError(t, err)
	summary, err := job.Run(ctx, provision.FromCSV(list, "devices.csv", nil))
	require.NoError(t, err)
	assert.EqualValues(t, 1, summary.Provisioned)
}

func TestTheAccountInMemoryTakesTheSDK(t *testing.T) {
	ctx := t.Context()
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	cfg := fakeaws.Config(fake)
	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: "my-fleet-eu", Prefix: "registration/"})
	require.NoError(t, err)
	_, err = iot.NewFromConfig(cfg).CreateThingType(ctx, &iot.CreateThingTypeInput{ThingTypeName: aws.String("sensor")})
	require.NoError(t, err)
	require.NoError(t, setUp(ctx, backend))
	docs, err := awsbackend.RoleDocuments("eu-central-1", "123456789012", "my-fleet-eu",
		&task.RoleInput{Name: "fleet-registration", SourceGuard: true, ObjectPrefix: "registration/"})
	fmt.Print(docs)
	require.NoError(t, err)
}

func setUp(ctx context.Context, backend *awsbackend.Backend) error {
	if err := backend.EnsureBucket(ctx); err != nil {
		return err
	}
	roleARN, err := backend.EnsureRole(ctx, &task.RoleInput{Name: "fleet-registration", SourceGuard: true})
	fmt.Println(roleARN)
	return err
}

func TestAGatewayHasAFunctionForRegistrations(t *testing.T) {
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	gateway, err := fakegateway.NewServer(fake, fakegateway.Options{
		Registered: func(ctx context.Context, r fakegateway.Registration) {
			// attach a policy to r.CertificateID, and set it ACTIVE, through the SDK
		},
	})
	require.NoError(t, err)
	gateway.Close()
}

var _ = func() (task.Backend, error) {
	backend, err := fakebackend.New(fakebackend.Options{})
	return backend, err
}

// These need an account, or a CA.
var _ = func(ctx context.Context) (task.Backend, error) {
	cfg, err := config.LoadDefaultConfig(ctx) // github.com/aws/aws-sdk-go-v2/config
	if err != nil {
		return nil, err
	}
	backend, err := awsbackend.New(cfg, awsbackend.Options{Bucket: "my-fleet-eu", Prefix: "registration/"})
	return backend, err
}

var _ = func(opts *provision.Options, caCertificate *x509.Certificate, caSigner crypto.Signer, store keystore.Store, subject *csr.Pattern, policy template.Policy) error {
	ca, err := csr.NewCA(caCertificate, caSigner, csr.Profile{Validity: 10 * 365 * 24 * time.Hour}) // any crypto.Signer
	opts.Credential = &provision.IssueCertificate{CA: ca, Store: store, Subject: subject.Subject}
	opts.Template = template.FromOwnCA(policy, "SerialNumber")
	return err
}
