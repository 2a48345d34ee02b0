package fakegateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func formatNamed(name string) *format {
	for _, f := range formats {
		if f.name == name {
			return f
		}
	}
	return nil
}

func TestARequestMeansTheSameInJSONAndCBOR(t *testing.T) {
	for text, want := range map[string]claimRequest{
		`{}`:   {},
		`null`: {},
		`{"certificateSigningRequest":"pem","other":[1,{"a":null}]}`:                             {CSR: "pem"},
		`{"certificateOwnershipToken":"t","parameters":{"SerialNumber":"1","":"Zürich \u0000"}}`: {Token: "t", Parameters: map[string]string{"SerialNumber": "1", "": "Zürich \x00"}},
		`{"certificateOwnershipToken":null,"certificateSigningRequest":null,"parameters":null}`:  {},
		`{"CertificateOwnershipToken":"t","parameters":{}}`:                                      {},
	} {
		var value any
		require.NoError(t, json.Unmarshal([]byte(text), &value))
		binary, err := cbor.Marshal(value)
		require.NoError(t, err)
		for name, payload := range map[string][]byte{"json": []byte(text), "cbor": binary} {
			got, err := formatNamed(name).claimRequest(payload)
			require.NoError(t, err, "%s %s", name, text)
			assert.Equal(t, want, got, "%s %s", name, text)
		}
	}
	for _, f := range formats {
		got, err := f.claimRequest(nil)
		require.NoError(t, err)
		assert.Equal(t, claimRequest{}, got)
	}
}

func TestAPayloadThatIsNoRequestIsRefused(t *testing.T) {
	for _, payload := range []string{
		"x", "[]", `"a"`, "1", "{", `{"a":1`, `{"a":1}}`, `{"a":1} {}`, "null null", `{"certificateOwnershipToken":1}`,
		`{"certificateSigningRequest":["a"]}`, `{"parameters":"a"}`, `{"parameters":{"a":1}}`, `{"parameters":{"a":null}}`,
		`{"a":1,"a":2}`, `{"parameters":{"a":"1","a":"2"}}`, "{\"a\":\"\xff\"}", strings.Repeat(`{"a":`, 100000),
		`{"parameters":{"":"","":""}}`,
	} {
		_, err := formatNamed("json").claimRequest([]byte(payload))
		assert.Error(t, err, "%.60s", payload)
	}
	many := map[string]string{}
	for i := range memberLimit + 1 {
		many[strings.Repeat("x", i)] = ""
	}
	for _, f := range formats {
		payload, err := f.encode(map[string]any{"parameters": many})
		require.NoError(t, err)
		_, err = f.claimRequest(payload)
		require.Error(t, err, f.name)
	}
	for name, payload := range map[string]string{
		"an array":                 "\x80",
		"text":                     "\x61a",
		"an end too early":         "\xa1\x61a",
		"something after it":       "\xa0\xa0",
		"a key that is a number":   "\xa1\x01\x61a",
		"a key of bytes":           "\xa1\x41a\x61b",
		"a token that is NaN":      "\xa1\x78\x19certificateOwnershipToken\xf9\x7e\x00",
		"a key twice":              "\xa2\x61a\x61b\x61a\x61c",
		"a token of bytes":         "\xa1\x78\x19certificateOwnershipToken\x41t",
		"text that is no UTF-8":    "\xa1\x78\x19certificateOwnershipToken\x61\xff",
		"a map of 2^64-1 pairs":    "\xbb\xff\xff\xff\xff\xff\xff\xff\xff",
		"text of 2^63 bytes":       "\xa1\x61a\x7b\x80\x00\x00\x00\x00\x00\x00\x00",
		"deep nesting":             "\xa1\x61a" + strings.Repeat("\x81", 100000),
		"deep nesting without end": "\xa1\x61a" + strings.Repeat("\x9f", 100000),
		"no end of a map":          "\xbf" + strings.Repeat("\x61a\x61a", 100000),
	} {
		_, err := formatNamed("cbor").claimRequest([]byte(payload))
		assert.Error(t, err, name)
	}
	got, err := formatNamed("cbor").claimRequest([]byte("\xbf\x78\x19certificateOwnershipToken\x7f\x61a\x61b\xff\xff"))
	require.NoError(t, err, "a map and a text of indefinite length are CBOR")
	assert.Equal(t, "ab", got.Token)
}

// asMap is a request with the members it has.
func (r claimRequest) asMap() map[string]any {
	m := map[string]any{"certificateSigningRequest": r.CSR, "certificateOwnershipToken": r.Token}
	if r.Parameters != nil {
		m["parameters"] = r.Parameters
	}
	return m
}

// fuzzRequests checks that a request that one format takes reads the same when it is written in the other, and that no
// payload does any harm.
func fuzzRequests(f *testing.F, from, to *format) {
	for _, r := range []claimRequest{{}, {CSR: "-----BEGIN CERTIFICATE REQUEST-----"}, {Token: "t", Parameters: map[string]string{"SerialNumber": "1", "": "\x00ü"}}} {
		payload, err := from.encode(r.asMap())
		require.NoError(f, err)
		f.Add(payload)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		request, err := from.claimRequest(payload)
		if err != nil {
			return
		}
		written, err := to.encode(request.asMap())
		require.NoError(t, err)
		again, err := to.claimRequest(written)
		require.NoError(t, err)
		require.Equal(t, request, again)
	})
}

func FuzzClaimInJSON(f *testing.F) { fuzzRequests(f, formatNamed("json"), formatNamed("cbor")) }

func FuzzClaimInCBOR(f *testing.F) {
	f.Add([]byte("\xbf\x78\x19certificateOwnershipToken\x7f\x61a\x61b\xff\xff"))
	f.Add([]byte("\xd9\xd9\xf7\xa0"))
	fuzzRequests(f, formatNamed("cbor"), formatNamed("json"))
}
