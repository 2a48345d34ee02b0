// Package privatekey recognises private keys where none belongs: in a device's row, a data file, a template's value, or
// what was handed in as a certificate signing request.
package privatekey

import (
	"crypto/x509"
	"encoding/base64"
	"strings"
)

// In reports whether a text holds a private key: a PEM block of any kind of private key anywhere in it, encrypted ones
// included and also with its line breaks lost or escaped, or the whole text being the DER of a private key, plain or in
// base64. Both are found in UTF-16, too. A key that is wrapped in other ways is not found. A text without a key costs one
// look at each of its dashes.
func In(text string) bool {
	if len(text) < len("PRIVATE KEY-----") {
		return false // too short for a key in any form, as most values of a row are
	}
	if indexPEM(text) >= 0 || IsDER([]byte(asDER(text))) {
		return true
	}
	if strings.IndexByte(text, 0) < 0 {
		return false
	}
	plain := strings.NewReplacer("\x00", "", "\xff\xfe", "", "\xfe\xff", "", "\ufffd", "").Replace(text) // UTF-16, byte order mark and all
	return indexPEM(plain) >= 0 || IsDER([]byte(asDER(plain)))
}

// IsDER reports whether data is a private key in DER: PKCS #8, SEC 1 (elliptic curves) or PKCS #1 (RSA).
func IsDER(data []byte) bool {
	if len(data) < minDER {
		return false
	}
	if _, err := x509.ParsePKCS8PrivateKey(data); err == nil {
		return true
	}
	if _, err := x509.ParseECPrivateKey(data); err == nil {
		return true
	}
	_, err := x509.ParsePKCS1PrivateKey(data)
	return err == nil
}

// minDER is less than the shortest private key has: Ed25519 in PKCS #8 has 48 bytes.
const minDER = 40

// indexPEM returns where the dashes behind the label of a private key begin, -1 if there are none. It goes by the dashes,
// which are rarer in a PEM than any letter.
func indexPEM(s string) int {
	for i := 0; i < len(s); {
		j := strings.IndexByte(s[i:], '-')
		if j < 0 {
			return -1
		}
		i += j
		if !strings.HasPrefix(s[i:], "-----") {
			i++
			continue
		}
		if i > 0 && s[i-1] == 'Y' && strings.HasSuffix(s[:i], "PRIVATE KEY") {
			return i
		}
		i += len("-----")
	}
	return -1
}

// asDER returns the DER that a text is, itself or in base64, and the empty string if it is neither.
func asDER(s string) string {
	const sequence = 0x30 // the tag that every private key in DER begins with; as a character it is a 0
	if len(s) < minDER {
		return ""
	}
	if s[0] == sequence && (s[1] >= 0x80 || int(s[1])+2 == len(s)) {
		return s
	}
	if s[0] == '-' {
		return "" // PEM, as most long texts are
	}
	s = strings.TrimSpace(s)
	if s == "" || s[0] != 'M' { // what base64 makes of the tag and a length of less than 64 KB
		return ""
	}
	s = strings.NewReplacer("\r", "", "\n", "", " ", "", `\r`, "", `\n`, "", `\/`, "/").Replace(s)
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
	if err != nil {
		return ""
	}
	return string(der)
}
