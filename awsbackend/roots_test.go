package awsbackend

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The SHA-256 fingerprints that Amazon Trust Services publishes at https://www.amazontrust.com/repository/.
var published = []struct{ name, sha256 string }{
	{"Amazon Root CA 1", "8ecde6884f3d87b1125ba31ac3fcb13d7016de7f57cc904fe1cb97c6ae98196e"},
	{"Amazon Root CA 2", "1ba5b2aa8c65401a82960118f80bec4f62304d83cec4713a19c39c011ea46db4"},
	{"Amazon Root CA 3", "18ce6cfe7bf14e60b2e347b8dfe868cb31d02ebb3ada271569f50343b46db3a4"},
	{"Amazon Root CA 4", "e35d28419ed02025cfa69038cd623962458da5c695fbdea3c22b0bfb25897092"},
	{"Starfield Services Root Certificate Authority - G2", "568d6905a2c88708a4b3025190edcfedb1974a606a13c6e5290fcb2ae63edab5"},
}

func TestTheRootsOfAWSAreThoseThatAmazonPublishes(t *testing.T) {
	require.NoError(t, rule.CheckRoots(amazonRoots))
	rest := amazonRoots
	for _, want := range published {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		require.NotNil(t, block, want.name)
		sum := sha256.Sum256(block.Bytes)
		assert.Equal(t, want.sha256, hex.EncodeToString(sum[:]), want.name)
		c, err := x509.ParseCertificate(block.Bytes)
		require.NoError(t, err)
		assert.Equal(t, want.name, c.Subject.CommonName)
		require.NoError(t, c.CheckSignatureFrom(c))
		assert.True(t, c.NotAfter.After(time.Date(2037, 1, 1, 0, 0, 0, 0, time.UTC)))
	}
	assert.Empty(t, rest)
}

func TestRootsAreThoseOfThePartitionAndOfNoHostThatIsNotAWS(t *testing.T) {
	for _, c := range []struct {
		region, endpoint string
		known            bool
	}{
		{"eu-central-1", "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com", true},
		{"eu-central-1", "A1B2C3D4E5F6G7-ATS.iot.eu-central-1.api.aws", true},
		{"cn-north-1", "a1b2c3d4e5f6g7.ats.iot.cn-north-1.amazonaws.com.cn", true},
		{"us-gov-west-1", "a1b2c3d4e5f6g7-ats.iot.us-gov-west-1.amazonaws.com", true},
		{"us-iso-east-1", "a1b2c3d4e5f6g7-ats.iot.us-iso-east-1.c2s.ic.gov", false},
		{"eusc-de-east-1", "a1b2c3d4e5f6g7-ats.iot.eusc-de-east-1.amazonaws.eu", false},
		{"eu-central-1", "localhost", false},
		{"eu-central-1", "amazonaws.com.example", false},
		{"eu-central-1", "a1-ats.iot.cn-north-1.amazonaws.com.cn", false},
	} {
		w := &wire{t: t, answers: answers{"GetCallerIdentity": knownCaller, endpointOp: dataEndpoint}}
		cfg := testConfig(w)
		cfg.Region = c.region
		b, err := New(cfg, Options{})
		require.NoError(t, err)
		roots, err := b.RootCAs(t.Context(), c.endpoint)
		require.NoError(t, err)
		if c.known {
			assert.Equal(t, amazonRoots, roots, c.endpoint)
			clear(roots) // the caller may do with it as it likes
		} else {
			assert.Empty(t, roots, c.endpoint)
		}
	}
}

func TestTheFakeIsAskedForItsRoot(t *testing.T) {
	const get = "GET"
	ask := func(base string, answer func(*request) *http.Response) (roots []byte, w *wire, err error) {
		w = &wire{t: t, answers: answers{"GetCallerIdentity": marked(knownCaller), endpointOp: marked(dataEndpoint), get: answer}}
		cfg := testConfig(w)
		if base != "" {
			cfg.BaseEndpoint = aws.String(base)
		}
		b, err := New(cfg, Options{})
		require.NoError(t, err)
		roots, err = b.RootCAs(t.Context(), "localhost")
		return roots, w, err
	}
	roots, w, err := ask("http://127.0.0.1:4566/", marked(reply(200, string(amazonRoots))))
	require.NoError(t, err)
	assert.Equal(t, amazonRoots, roots)
	assert.Equal(t, "http://127.0.0.1:4566/_fake/root.pem", w.last(get).URL.String())
	assert.Empty(t, w.last(get).Header.Get("Authorization"))

	for name, answer := range map[string]func(*request) *http.Response{
		"an older fake": marked(reply(404, `{"message":"no"}`)), "a name it does not serve": marked(reply(403, `{"message":"no"}`)),
	} {
		roots, _, err := ask("http://fake.example", answer)
		require.NoError(t, err, name)
		assert.Empty(t, roots, name)
	}
	roots, w, err = ask("", nil)
	require.NoError(t, err, "reached in a way that is not known")
	assert.Empty(t, roots)
	assert.Zero(t, w.count(get))

	for name, answer := range map[string]func(*request) *http.Response{
		"a proxy's refusal": reply(403, "Blocked"), "a web page": reply(200, "<html>log in</html>"), "nothing": marked(reply(200, "")),
		"a key":   marked(reply(200, strings.ReplaceAll(string(amazonRoots), "CERTIFICATE", "PRIVATE KEY"))),
		"a break": func(*request) *http.Response { return nil }, "an error": marked(reply(500, "no")), "a redirect": marked(reply(302, "")),
	} {
		_, _, err := ask("http://fake.example", answer)
		require.ErrorIs(t, err, task.ErrUnavailable, name)
		assert.ErrorContains(t, err, "/_fake/root.pem", name)
	}
}
