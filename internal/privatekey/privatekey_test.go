package privatekey_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
)

func TestAPrivateKeyIsFoundInEveryFormThatPeopleHandOver(t *testing.T) {
	ec := certtest.Key()
	_, ed, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	sec1, err := x509.MarshalECPrivateKey(ec)
	require.NoError(t, err)
	kinds := map[string][]byte{"EC PRIVATE KEY": sec1, "RSA PRIVATE KEY": x509.MarshalPKCS1PrivateKey(r)}
	for name, key := range map[string]any{"PRIVATE KEY": ec, "PRIVATE KEY of Ed25519": ed, "PRIVATE KEY of RSA": r} {
		kinds[name], err = x509.MarshalPKCS8PrivateKey(key)
		require.NoError(t, err)
	}
	for name, der := range kinds {
		label, _, _ := strings.Cut(name, " of ")
		text := string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
		plain := base64.StdEncoding.EncodeToString(der)
		assert.True(t, privatekey.IsDER(der), name)
		for form, s := range map[string]string{
			"PEM":                       text,
			"PEM, line ends lost":       strings.ReplaceAll(text, "\n", " "),
			"PEM, line ends escaped":    strings.ReplaceAll(text, "\n", `\n`),
			"PEM after another text":    "Bag Attributes\n  name: a-b---c\n" + text + "more",
			"PEM cut short":             text[:len(text)/2],
			"DER":                       string(der),
			"base64":                    plain,
			"base64 without padding":    strings.TrimRight(plain, "="),
			"base64 in lines":           strings.Join(strings.SplitAfter(text, "\n")[1:strings.Count(text, "\n")-1], ""),
			"base64, lines escaped":     plain[:40] + `\n` + plain[40:],
			"base64 with space round":   "  " + plain + "\n",
			"PEM in UTF-16":             utf16LE(text),
			"PEM in UTF-16, made valid": strings.ToValidUTF8(utf16LE(text), "\ufffd"),
			"base64 in UTF-16":          utf16LE(plain),
		} {
			assert.True(t, privatekey.In(s), "%s as %s", name, form)
			assert.Equal(t, privatekey.Removed, strings.TrimPrefix(privatekey.Cut(s), "Bag Attributes\n  name: a-b---c\n"), "%s as %s", name, form)
		}
	}
	assert.True(t, privatekey.In("-----BEGIN ENCRYPTED PRIVATE KEY-----"))
}

func TestWhatIsNoPrivateKeyIsNotTakenForOne(t *testing.T) {
	key := certtest.Key()
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	require.NoError(t, err)
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	require.NoError(t, err)
	for _, der := range [][]byte{request, public} {
		assert.False(t, privatekey.IsDER(der))
		assert.False(t, privatekey.In(string(der)))
		assert.False(t, privatekey.In(base64.StdEncoding.EncodeToString(der)))
	}
	for _, s := range []string{
		"", "0", "001", "M", "-----", "----------------------------------------", "PRIVATE KEY", "my PRIVATE KEY-- is elsewhere, far away",
		strings.Repeat("0", 200), strings.Repeat("M", 200), "MIIB" + strings.Repeat("A", 100),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	} {
		assert.False(t, privatekey.In(s), "%q", s)
	}
}

// utf16LE is a text as Windows shells write it.
func utf16LE(s string) string {
	b := []byte{0xff, 0xfe}
	for i := range len(s) {
		b = append(b, s[i], 0)
	}
	return string(b)
}

func TestCutKeepsWhatStandsBeforeAKeyAndNothingBehindIt(t *testing.T) {
	const begin, end = "-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n"
	for text, want := range map[string]string{
		"no key":                                 "no key",
		"first " + begin + "MIGH" + end + "last": "first " + privatekey.Removed,
		"MIGH" + end:                             privatekey.Removed,
		"a " + begin + "b " + begin:              "a " + privatekey.Removed,
		privatekey.Removed:                       privatekey.Removed,
	} {
		assert.Equal(t, want, privatekey.Cut(text))
		assert.Equal(t, text != "no key", privatekey.Held(text))
	}
	row := map[string]string{"ThingName": "one"}
	clean, columns := privatekey.CutRow(row)
	assert.Equal(t, row, clean)
	assert.Empty(t, columns)
	clean, columns = privatekey.CutRow(map[string]string{"ThingName": "one", "Key": begin, begin: "x"})
	assert.Equal(t, map[string]string{"ThingName": "one", "Key": privatekey.Removed, privatekey.Removed: "x"}, clean)
	assert.Equal(t, []string{"Key", privatekey.Removed}, columns)
}

func FuzzIn(f *testing.F) {
	f.Add("-----BEGIN PRIVATE KEY-----")
	f.Add("------PRIVATE KEY-----")
	f.Add("0\x82\x01")
	f.Add("MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "PRIVATE KEY-----") {
			require.True(t, privatekey.In(s))
		}
		require.False(t, privatekey.In(privatekey.Cut(s)))
		require.Equal(t, privatekey.In(s), privatekey.Cut(s) != s)
	})
}
