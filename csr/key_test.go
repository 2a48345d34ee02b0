package csr_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
)

func writeTestFile(path string, data []byte) error { return os.WriteFile(path, data, 0o600) }

// holder is what a user's code looks like: the key is somewhere inside.
type holder struct {
	Name   string
	Public csr.PrivateKey
	inner  struct{ key csr.PrivateKey }
	ptr    *csr.PrivateKey
	list   []csr.PrivateKey
	byName map[string]csr.PrivateKey
	any    any
}

func TestAPrivateKeyPrintsAsAPlaceholderWhereverItIs(t *testing.T) {
	for _, alg := range []csr.Algorithm{csr.P256, csr.RSA2048} {
		signer := testKey(t, alg)
		key := csr.NewPrivateKey(signer)
		var h holder
		h.Name, h.Public, h.ptr, h.any = "device", key, &key, key
		h.inner.key, h.list, h.byName = key, []csr.PrivateKey{key}, map[string]csr.PrivateKey{"k": key}

		var out bytes.Buffer
		for _, v := range []any{key, &key, h, &h, []any{h}, map[string]any{"h": h}, csr.Result{Key: key}, &csr.Result{Key: key}} {
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%o", "%c", "%08b"} {
				fmt.Fprintf(&out, verb+"\n", v)
			}
			fmt.Fprintln(&out, v)
			slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", v)
			slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", v)
			j, err := json.Marshal(v)
			require.NoError(t, err)
			out.Write(j)
		}
		x, err := xml.Marshal(key)
		require.NoError(t, err)
		out.Write(x)
		fmt.Fprintf(&out, "%v", fmt.Errorf("it failed: %v", key))
		// The printer of testify follows pointers and calls no methods.
		assert.Equal(discard{&out}, 1, h)
		assert.Equal(discard{&out}, 1, key)

		text := out.String()
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%08b"} {
			assert.Equal(t, "[private key]", fmt.Sprintf(verb, key), verb)
			assert.Equal(t, "[private key]", fmt.Sprintf(verb, &key), verb)
		}
		for _, verb := range []string{"%v", "%+v"} {
			assert.Equal(t, "{d [private key]}", strings.ReplaceAll(fmt.Sprintf(verb, struct {
				Name string
				Key  csr.PrivateKey
			}{"d", key}), "Name:d Key:", "d "), verb)
		}
		for what, secret := range secretsOf(t, signer) {
			assert.NotContains(t, text, secret, "%s of a %s key", what, alg)
		}
	}
}

type discard struct{ w io.Writer }

func (d discard) Errorf(format string, args ...any) { _, _ = fmt.Fprintf(d.w, format, args...) }

// secretsOf gives the private numbers in the forms printers would show them.
func secretsOf(t *testing.T, signer crypto.Signer) map[string]string {
	t.Helper()
	text, err := csr.NewPrivateKey(signer).PEM()
	require.NoError(t, err)
	var d *big.Int
	switch k := signer.(type) {
	case *ecdsa.PrivateKey:
		raw, err := k.Bytes()
		require.NoError(t, err)
		d = new(big.Int).SetBytes(raw)
	case *rsa.PrivateKey:
		d = k.Primes[0]
	}
	words := d.Bits()
	return map[string]string{
		"decimal":   d.String(),
		"hex":       d.Text(16), // without leading zeros: part of what any printer shows
		"HEX":       strings.ToUpper(d.Text(16)),
		"byte list": strings.Trim(fmt.Sprintf("%d", d.Bytes()), "[]"),
		"a word":    fmt.Sprint(uint(words[1])),
		"a hexword": fmt.Sprintf("%x", uint(words[1])),
		"PEM":       strings.Split(string(text), "\n")[2],
	}
}

func TestTheSecretsLookedForAreFoundWhereAKeyIsPrinted(t *testing.T) {
	// Guards the test above: what it looks for must be what an unguarded key shows.
	signer := testKey(t, csr.P256)
	out := fmt.Sprintf("%v %x", signer, signer)
	secrets := secretsOf(t, signer)
	assert.Contains(t, out, secrets["decimal"])
	assert.Contains(t, out, secrets["hex"])
}

func TestTheZeroPrivateKeyHoldsNothing(t *testing.T) {
	var k csr.PrivateKey
	assert.True(t, k.IsZero())
	assert.Nil(t, k.Signer())
	assert.Nil(t, k.Public())
	assert.False(t, k.Exportable())
	assert.True(t, k.Equal(csr.NewPrivateKey(nil)))
	assert.False(t, k.Equal(csr.NewPrivateKey(p256(t))))
	assert.False(t, csr.NewPrivateKey(p256(t)).Equal(k))
	_, err := k.PEM()
	assert.ErrorIs(t, err, csr.ErrNotExportable)
}

// hardware is a key that cannot be exported.
type hardware struct{ crypto.Signer }

func TestAKeyInHardwareCannotBeExported(t *testing.T) {
	signer := p256(t)
	k := csr.NewPrivateKey(hardware{signer})
	assert.False(t, k.IsZero())
	assert.False(t, k.Exportable())
	_, err := k.PEM()
	require.ErrorIs(t, err, csr.ErrNotExportable)
	assert.NotContains(t, err.Error(), secretsOf(t, signer)["decimal"])
	assert.True(t, k.Equal(csr.NewPrivateKey(signer)))
	assert.False(t, k.Equal(csr.NewPrivateKey(p256(t))))
}

func TestParsePrivateKeyReadsOlderFormsAndRefusesOthersWithoutQuotingThem(t *testing.T) {
	ec, rsaKey := testKey(t, csr.P256).(*ecdsa.PrivateKey), testKey(t, csr.RSA2048).(*rsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(ec)
	require.NoError(t, err)
	block := func(label string, der []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der})
	}
	for _, c := range []struct {
		text []byte
		want crypto.Signer
	}{
		{block("EC PRIVATE KEY", sec1), ec},
		{append(block("EC PARAMETERS", []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}), block("EC PRIVATE KEY", sec1)...), ec},
		{block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), rsaKey},
		{bytes.ReplaceAll(block("EC PRIVATE KEY", sec1), []byte("\n"), []byte("\r\n")), ec},
		{append([]byte("\ufeff"), block("EC PRIVATE KEY", sec1)...), ec},
		{append([]byte{0xff, 0xfe}, bytes.Join(bytes.Split(block("EC PRIVATE KEY", sec1), nil), []byte{0})...), ec}, // UTF-16
	} {
		got, err := csr.ParsePrivateKey(c.text)
		require.NoError(t, err)
		assert.True(t, got.Equal(csr.NewPrivateKey(c.want)))
	}

	_, edKey, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	edDER, err := x509.MarshalPKCS8PrivateKey(edKey)
	require.NoError(t, err)
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	require.NoError(t, err)
	p224DER, err := x509.MarshalPKCS8PrivateKey(p224)
	require.NoError(t, err)
	weakDER, err := x509.MarshalPKCS8PrivateKey(weakRSA(t))
	require.NoError(t, err)
	for name, c := range map[string]struct {
		text []byte
		want error
	}{
		"nothing":   {nil, csr.ErrNotKey},
		"noise":     {[]byte("hunter2 hunter2"), csr.ErrNotKey},
		"damaged":   {block("PRIVATE KEY", sec1[:40]), csr.ErrNotKey},
		"encrypted": {block("ENCRYPTED PRIVATE KEY", sec1), csr.ErrNotKey},
		"encrypted, older form": {pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1, Headers: map[string]string{
			"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00",
		}}), csr.ErrNotKey},
		"a CSR":       {block("CERTIFICATE REQUEST", sec1), csr.ErrNotKey},
		"odd label":   {block("hunter2", sec1), csr.ErrNotKey},
		"Ed25519":     {block("PRIVATE KEY", edDER), csr.ErrKey},
		"P-224":       {block("PRIVATE KEY", p224DER), csr.ErrKey},
		"RSA of 1024": {block("PRIVATE KEY", weakDER), csr.ErrKey},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := csr.ParsePrivateKey(c.text)
			require.ErrorIs(t, err, c.want)
			assert.True(t, k.IsZero())
			assert.NotContains(t, err.Error(), "hunter2")
			assert.Equal(t, strings.HasPrefix(name, "encrypted"), strings.Contains(err.Error(), "openssl pkey"))
		})
	}
}

func TestAlgorithmsAreFoundByTheNamesOfOtherTools(t *testing.T) {
	for name, want := range map[string]csr.Algorithm{
		"": csr.P256, "p256": csr.P256, "P-256": csr.P256, "prime256v1": csr.P256, "secp384r1": csr.P384, "P_521": csr.P521,
		"rsa:2048": csr.RSA2048, "RSA_3072": csr.RSA3072, "RSA-4096": csr.RSA4096, "EC_prime256v1": csr.P256,
	} {
		got, err := csr.ParseAlgorithm(name)
		require.NoError(t, err, name)
		assert.Equal(t, want, got, name)
	}
	for _, bad := range []string{"rsa1024", "ed25519", "p224", "secp256k1", "rsa", strings.Repeat("x", 1000)} {
		_, err := csr.ParseAlgorithm(bad)
		require.ErrorIs(t, err, csr.ErrAlgorithm, bad)
		assert.Less(t, len(err.Error()), 200)
		require.ErrorIs(t, csr.Algorithm(bad).Check(), csr.ErrAlgorithm)
	}
	require.NoError(t, csr.Algorithm("").Check())
	_, err := csr.Software("nonsense").Signer(t.Context(), "d")
	require.ErrorIs(t, err, csr.ErrAlgorithm)
}

// signerFunc signs by a function.
type signerFunc struct {
	public crypto.PublicKey
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (s signerFunc) Public() crypto.PublicKey { return s.public }
func (s signerFunc) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(digest, opts)
}

// messageSigner takes whole messages, as some KMS do.
type messageSigner struct{ *ecdsa.PrivateKey }

func (m messageSigner) SignMessage(random io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	h := opts.HashFunc().New()
	h.Write(message)
	return m.Sign(random, h.Sum(nil), opts)
}

func TestCreateWorksWithAnySigner(t *testing.T) {
	works := func(name string, signer crypto.Signer) {
		request, err := csr.Create(signer, csr.CommonName("d"))
		require.NoError(t, err, name)
		parsed, err := csr.Parse(request.DER())
		require.NoError(t, err, name)
		assert.True(t, parsed.Matches(signer.Public()), "%s: the request is for another key", name)
		assert.Equal(t, "CN=d", parsed.Subject().String(), name)
	}
	for _, alg := range csr.Algorithms() {
		works(fmt.Sprint(alg), hardware{testKey(t, alg)})
	}
	works("a signer of messages", messageSigner{p256(t)})
}

func TestCreateVerifiesWhatASignerSigned(t *testing.T) {
	good, other := p256(t), p256(t)
	rsaKey := testKey(t, csr.RSA2048)
	raw := func(digest []byte, _ crypto.SignerOpts) ([]byte, error) {
		der, err := ecdsa.SignASN1(rand.Reader, good, digest)
		if err != nil {
			return nil, err
		}
		var sig struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &sig); err != nil {
			return nil, err
		}
		return append(sig.R.FillBytes(make([]byte, 32)), sig.S.FillBytes(make([]byte, 32))...), nil
	}
	// A key whose public half is somebody else's.
	mixed := *good
	mixed.PublicKey = other.PublicKey

	for name, c := range map[string]struct {
		signer crypto.Signer
		want   error
		text   string
	}{
		"another key":          {signerFunc{other.Public(), func(d []byte, o crypto.SignerOpts) ([]byte, error) { return good.Sign(rand.Reader, d, o) }}, csr.ErrSignature, "does not fit its own public key"},
		"r and s side by side": {signerFunc{good.Public(), raw}, csr.ErrSignature, "r and s side by side"},
		"garbage":              {signerFunc{good.Public(), func([]byte, crypto.SignerOpts) ([]byte, error) { return []byte("x"), nil }}, csr.ErrSignature, ""},
		"garbage from RSA":     {signerFunc{rsaKey.Public(), func([]byte, crypto.SignerOpts) ([]byte, error) { return make([]byte, 256), nil }}, csr.ErrSignature, ""},
		"its own error":        {signerFunc{good.Public(), func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, io.ErrClosedPipe }}, io.ErrClosedPipe, "sign: "},
		"halves of two keys":   {&mixed, csr.ErrSignature, ""},
		"weak RSA":             {weakRSA(t), csr.ErrKey, "1024 bits"},
		"Ed25519":              {ed25519.NewKeyFromSeed(make([]byte, 32)), csr.ErrKey, "P-256"},
		"no signer":            {nil, csr.ErrKey, ""},
		"no public key":        {signerFunc{}, csr.ErrKey, ""},
		"an empty EC key":      {&ecdsa.PrivateKey{}, csr.ErrKey, ""},
		"an empty RSA key":     {&rsa.PrivateKey{}, csr.ErrKey, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := csr.Create(c.signer, csr.CommonName("d"))
			require.ErrorIs(t, err, c.want)
			assert.ErrorContains(t, err, c.text)
		})
	}
}

func TestSoftwareKeysEndWithTheirContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := csr.Software(csr.P256).Signer(ctx, "d")
	require.ErrorIs(t, err, context.Canceled)
}
