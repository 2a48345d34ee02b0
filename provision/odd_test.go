package provision_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// sequence is a SEQUENCE in DER.
func sequence(t *testing.T, parts ...[]byte) []byte {
	return element(t, asn1.TagSequence, true, parts...)
}

func element(t *testing.T, tag int, compound bool, parts ...[]byte) []byte {
	der, err := asn1.Marshal(asn1.RawValue{Tag: tag, IsCompound: compound, Bytes: slices.Concat(parts...)})
	require.NoError(t, err)
	return der
}

// printable is a subject whose CN is a PrintableString, whatever is in it.
func printable(t *testing.T, cn string) []byte {
	return sequence(t, element(t, asn1.TagSet, true, sequence(t, []byte{6, 3, 0x55, 4, 3}, element(t, asn1.TagPrintableString, false, []byte(cn)))))
}

// signed signs content with ECDSA; form writes r and s.
func signed(t *testing.T, key *ecdsa.PrivateKey, content []byte, form func(r, s *big.Int) []byte) []byte {
	digest := sha256.Sum256(content)
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	require.NoError(t, err)
	bits := element(t, asn1.TagBitString, false, []byte{0}, form(r, s))
	return sequence(t, content, []byte{0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, bits)
}

func asDER(r, s *big.Int) []byte {
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		panic(err)
	}
	return der
}

func asRaw(r, s *big.Int) []byte {
	return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
}

// spki is a public key as the libraries of secure elements write it.
func spki(t *testing.T, key *ecdsa.PrivateKey) []byte {
	point, err := key.PublicKey.Bytes()
	require.NoError(t, err)
	return sequence(t, []byte{0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7},
		element(t, asn1.TagBitString, false, []byte{0}, point))
}

// oddRequest is a request of a secure element, with or without the field of attributes.
func oddRequest(t *testing.T, cn string, attributes []byte, form func(r, s *big.Int) []byte) []byte {
	key := certtest.Key()
	return signed(t, key, sequence(t, []byte{2, 1, 0}, printable(t, cn), spki(t, key), attributes), form)
}

func TestOddRequestsThatOtherReadersTakeAreSentAsTheyAreWithANote(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	none := []byte{0xa0, 0}
	requests := map[string][]byte{
		"AT_ECC": oddRequest(t, "AT_ECC", none, asDER), "a@b#c": oddRequest(t, "a_b", none, asDER),
		"bare": oddRequest(t, "bare", nil, asDER), "raw": oddRequest(t, "raw", none, asRaw),
	}
	var notes finding.List
	observe := w.opts.Observe
	w.opts.Observe = func(e provision.Event) {
		if spooled, ok := e.(provision.EventSpooled); ok {
			notes = append(notes, spooled.Notes...)
		}
		if observe != nil {
			observe(e)
		}
	}
	var devices []provision.Device
	for _, name := range []string{"AT_ECC", "a@b#c", "bare", "raw"} {
		thing := map[string]string{"a@b#c": "a_b"}[name]
		if thing == "" {
			thing = name
		}
		devices = append(devices, provision.Device{Row: map[string]string{
			"ThingName": thing, "SerialNumber": "1", "CSR": base64.StdEncoding.EncodeToString(requests[name]),
		}})
	}
	w.opts.Credential, w.opts.Output = &provision.GivenCSR{}, nil
	all := w.requireRefused(t, provision.Devices(devices...), "raw")
	assert.Contains(t, all["raw"].Message, "CSR: signature of the certificate signing request is not valid: its ECDSA signature is r and s alone")
	assert.Contains(t, all["raw"].Message, "to send it all the same, set GivenCSR.Lenient")
	require.Len(t, notes, 2)
	for i, want := range []string{
		`row 1: CSR: its subject has "_" in a PrintableString (and 1 more record); it is sent as it is, and other programs may refuse it`,
		"row 3: CSR: it has no field of attributes",
	} {
		assert.Contains(t, notes[i].Error(), want)
		assert.Equal(t, provision.RuleOddCredential, notes[i].Rule)
		assert.Equal(t, finding.Note, notes[i].Severity)
	}
	report, err := w.run(t).Check(t.Context(), provision.Devices(devices...))
	require.NoError(t, err)
	for _, note := range notes {
		assert.Contains(t, report.Findings, note)
	}

	// The service decides what Lenient lets through. The fake refuses it.
	w = newWorld(t, fakebackend.Options{})
	w.durable(t)
	w.opts.Credential, w.opts.Output = &provision.GivenCSR{}, nil
	w.incomplete(t, provision.Devices(devices...))
	var failures strings.Builder
	require.NoError(t, w.run(t).WriteFailures(t.Context(), &failures))
	w.opts.Credential = &provision.GivenCSR{Lenient: true}
	run := w.run(t)
	_, err = run.Amend(t.Context(), fromCSV(failures.String()))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	raw := results(t, run)[3]
	assert.Equal(t, provision.Failed, raw.Verdict)
	assert.Equal(t, 1, raw.Attempts, "it was sent")
}

// Manifests of secure elements hold certificates in base64 DER (x5c), some with a serial number whose first bit is taken
// for a sign.
func TestCertificatesOfAVendorsManifestAreRegistered(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	ca := newOwnCA()
	ca.register(t, w.fake)
	key := certtest.Key()
	der := signed(t, ca.Key.(*ecdsa.PrivateKey), sequence(t,
		[]byte{0xa0, 3, 2, 1, 2, 2, 2, 0x91, 0x01}, []byte{0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2}, ca.RawSubject,
		sequence(t, append([]byte{asn1.TagUTCTime, 13}, "250101000000Z"...), append([]byte{asn1.TagUTCTime, 13}, "490101000000Z"...)),
		printable(t, "sn_01"), spki(t, key)), asDER)
	w.opts.Template, w.opts.Credential, w.opts.Output = formTemplate(t, "CertificatePem"), &provision.GivenCertificate{}, nil
	all := w.requireRefused(t, provision.Devices(provision.Device{
		Row: map[string]string{"ThingName": "sn_01", "CertificatePem": base64.StdEncoding.EncodeToString(der)},
	}))
	assert.Equal(t, pemOf("CERTIFICATE", der), all["sn_01"].CertificatePEM)
	described, err := awsIoT(w.fake).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: new(all["sn_01"].CertificateID)})
	require.NoError(t, err)
	assert.Equal(t, pemOf("CERTIFICATE", der), *described.CertificateDescription.CertificatePem)
}
