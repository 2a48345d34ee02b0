package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

func TestARegistrationIsCheckedBeforeItIsBelieved(t *testing.T) {
	const prefix = "arn:aws:iot:eu-central-1:123456789012:"
	here := task.Identity{Partition: "aws", Account: "123456789012", Region: "eu-central-1"}
	_, cert := keyed(t)
	c, other := cert(nil), cert(nil)
	right := registration{
		thing: "pump", thingARN: prefix + "thing/pump", certificateARN: prefix + "cert/" + c.ID, certificateID: c.ID, pem: c.PEM,
		others: task.ARNs{"policy": prefix + "policy/connect"},
	}
	elsewhere := func(arn, what, instead string) string { return strings.Replace(arn, what, instead, 1) }
	for name, row := range map[string]struct {
		change func(*registration)
		wrong  string // empty: nothing
	}{
		"as it should be":                  {func(*registration) {}, ""},
		"the id in the ARN alone":          {func(r *registration) { r.certificateID = "" }, ""},
		"no certificate":                   {func(r *registration) { r.certificateARN, r.certificateID, r.pem = "", "", "" }, ""},
		"a certificate that is only named": {func(r *registration) { r.pem = "" }, ""},
		"text before it":                   {func(r *registration) { r.pem = "subject=CN = pump\n" + r.pem }, ""},
		"text after it":                    {func(r *registration) { r.pem += "\x1b[2Jthe end" }, ""},
		"another certificate before it":    {func(r *registration) { r.pem = other.PEM + r.pem }, ""},
		"another certificate after it":     {func(r *registration) { r.pem += other.PEM }, ""},
		"headers in it":                    {func(r *registration) { r.pem = strings.Replace(r.pem, "-----\n", "-----\nX: y\n\n", 1) }, ""},
		"text inside it":                   {func(r *registration) { r.pem = strings.Replace(r.pem, "-----\n", "-----\nhello!\n", 1) }, "no PEM"},
		"another certificate":              {func(r *registration) { r.pem = other.PEM }, "not the one that its id names"},
		"no PEM":                           {func(r *registration) { r.pem = "certificate" }, "no PEM"},
		"the id of another":                {func(r *registration) { r.certificateID = other.ID }, "of another cert"},
		"the ARN and the id of another":    {func(r *registration) { r.certificateID, r.certificateARN = "", prefix+"cert/"+other.ID }, "not the one that its id names"},
		"no ARN":                           {func(r *registration) { r.certificateARN = "" }, "is not an ARN"},
		"the ARN of a CA":                  {func(r *registration) { r.certificateARN = prefix + "cacert/" + c.ID }, "not the ARN of a cert"},
		"a certificate of another account": {func(r *registration) { r.certificateARN = elsewhere(r.certificateARN, "123456789012", "999999999999") }, "of account"},
		"a certificate of another region":  {func(r *registration) { r.certificateARN = elsewhere(r.certificateARN, "central", "west") }, "of region"},
		"a certificate of another cloud":   {func(r *registration) { r.certificateARN = elsewhere(r.certificateARN, "aws:", "aws-cn:") }, "of partition"},
		"a certificate of another service": {func(r *registration) { r.certificateARN = elsewhere(r.certificateARN, ":iot:", ":acm:") }, "is not an ARN of AWS IoT"},
		"a thing of another account":       {func(r *registration) { r.thingARN = elsewhere(r.thingARN, "123456789012", "999999999999") }, "of account"},
		"another thing":                    {func(r *registration) { r.thingARN += "2" }, "of another thing"},
		"no thing":                         {func(r *registration) { r.thingARN = "" }, "is not an ARN"},
		"a thing without a name":           {func(r *registration) { r.thing, r.thingARN = "", prefix+"thing/" }, "names nothing"},
		"a policy of another account": {func(r *registration) {
			r.others["policy"] = elsewhere(prefix+"policy/p", "123456789012", "999999999999")
		}, "of account"},
	} {
		t.Run(name, func(t *testing.T) {
			r := right
			r.others = task.ARNs{"policy": right.others["policy"]}
			row.change(&r)
			exact, err := r.check(here)
			if row.wrong != "" {
				require.ErrorContains(t, err, row.wrong)
				assert.Empty(t, exact)
				return
			}
			require.NoError(t, err)
			if r.pem != "" {
				assert.Equal(t, c.PEM, exact)
			}
		})
	}
	r := right
	r.thingARN = elsewhere(r.thingARN, "123456789012", "999999999999")
	_, err := r.check(task.Identity{})
	assert.NoError(t, err, "a backend that can't tell where it is")
}

func FuzzExactCertificate(f *testing.F) {
	block := &pem.Block{Type: "CERTIFICATE", Bytes: []byte("der")}
	id := sha256.Sum256(block.Bytes)
	text := string(pem.EncodeToMemory(block))
	for _, seed := range []string{text, "x" + text, text + text, strings.ReplaceAll(text, "\n", "\r\n"), text[:20], "", "-----BEGIN CERTIFICATE-----\nA: b\n\nZGVy\n-----END CERTIFICATE-----"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		exact, err := exactCertificate(text, hex.EncodeToString(id[:]))
		if err != nil {
			return
		}
		got, rest := pem.Decode([]byte(exact))
		if got == nil || string(got.Bytes) != "der" || len(got.Headers) > 0 || strings.TrimSpace(string(rest)) != "" ||
			!strings.HasPrefix(strings.TrimSpace(exact), "-----BEGIN CERTIFICATE-----") {
			t.Errorf("%q became %q", text, exact)
		}
	})
}

func TestAnEndpointIsAHostName(t *testing.T) {
	for host, ok := range map[string]bool{
		"a1b2c3-ats.iot.eu-central-1.amazonaws.com": true, "localhost": true, "127.0.0.1": true, "my_host": true,
		"": false, "a b": false, "a.example\n\x1b[2J": false, "https://a.example": false, "a.example:8883": false, "a..b": false, "-a.b": false,
		"a.example/": false, "ä.example": false, strings.Repeat("a", 64): false, strings.Repeat("a.", 150) + "a": false,
	} {
		assert.Equal(t, ok, checkHost(host) == nil, "%q", host)
	}
}
