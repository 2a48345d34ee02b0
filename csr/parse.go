package csr

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
)

// maxInput is the longest text Parse looks at. openssl's readable form of the longest request AWS takes stays far
// below.
const maxInput = 64 << 10

// Parse reads a certificate signing request that was made elsewhere and checks what AWS IoT would refuse: its own
// signature, the kind and strength of its key (RSA of at least 2,048 bits, P-256, P-384, P-521), the hash it is signed
// with (SHA-256, -384, -512), and its length (4,096 characters).
//
// It reads the forms people hand over: PEM with any line ends, or with its line ends lost, after a readable text
// (openssl req -text), headed NEW CERTIFICATE REQUEST, with \n spelled out, quoted as in JSON, in UTF-16 as Windows
// shells write it; plain DER; base64 without headers.
//
// Each reason to refuse has its own error, from [ErrNotCSR] on. Parse is safe for concurrent use and keeps no
// reference to data.
func Parse(data []byte) (*Request, error) {
	der, err := decode(data)
	if err != nil {
		return nil, err
	}
	return checkDER(der)
}

func notCSR(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrNotCSR, fmt.Sprintf(format, args...))
}

// decode finds the DER in what was handed in.
func decode(data []byte) ([]byte, error) {
	if len(data) > maxInput {
		return nil, fmt.Errorf("%w: the text has %d bytes, AWS IoT takes a request of 4,096 characters", ErrTooLong, len(data))
	}
	// The tag of a DER sequence is the character 0, so what follows decides.
	if len(data) > 1 && data[0] == tagSequence && !isText(data) {
		return bytes.Clone(data), nil
	}
	text := strings.TrimSpace(plainText(data))
	if text == "" {
		return nil, notCSR("the text is empty")
	}
	for range 3 { // a JSON string, or one inside another
		unquoted, ok := unquote(text)
		if !ok {
			break
		}
		text = unquoted
	}
	if privatekey.In(text) {
		return nil, fmt.Errorf("%w; hand in the request alone, and treat that key as exposed", ErrPrivateKey)
	}
	const begin = "-----BEGIN "
	if _, after, ok := strings.Cut(text, begin); ok {
		return decodePEM(spelledOut.Replace(after))
	}
	if looksLikePath(text) {
		return nil, notCSR("this looks like the name of a file; read the file and give its content")
	}
	der, err := decodeBase64(spelledOut.Replace(text))
	if err != nil || len(der) == 0 || der[0] != tagSequence {
		return nil, notCSR(`it is neither PEM ("-----BEGIN CERTIFICATE REQUEST-----"), nor DER, nor base64 of DER`)
	}
	return der, nil
}

// spelledOut turns escapes of line ends and slashes that were taken for text back into what they stand for. Neither PEM
// nor base64 has a backslash of its own.
var spelledOut = strings.NewReplacer(`\\r`, "\r", `\\n`, "\n", `\r`, "\r", `\n`, "\n", `\t`, "\t", `\/`, "/")

// decodePEM reads a PEM block from behind its "-----BEGIN ".
func decodePEM(text string) ([]byte, error) {
	label, body, ok := strings.Cut(text, "-----")
	if !ok {
		return nil, notCSR("the BEGIN line is not complete")
	}
	switch label {
	case requestLabel, "NEW CERTIFICATE REQUEST":
	case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "PKCS7":
		return nil, fmt.Errorf("%w; hand in the request that was made for the device's key", ErrCertificate)
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return nil, notCSR("this is a public key; a request is signed with the private key, for instance by openssl req -new")
	default:
		return nil, notCSR("the PEM block is %s", pemLabel(label))
	}
	body, rest, ok := strings.Cut(body, "-----END "+label+"-----")
	if !ok {
		return nil, notCSR("there is no line -----END %s-----; the text was cut short or damaged", label)
	}
	if rest = strings.TrimSpace(rest); rest != "" {
		if strings.HasPrefix(rest, "-----BEGIN ") {
			return nil, fmt.Errorf("%w: another PEM block; hand in one request at a time", ErrTrailing)
		}
		return nil, fmt.Errorf("%w: %d bytes after its END line; cut them off", ErrTrailing, len(rest))
	}
	der, err := decodeBase64(body)
	if err != nil {
		return nil, notCSR("between its BEGIN and END lines is something else than base64; it was damaged")
	}
	return der, nil
}

func decodeBase64(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n', '\v', '\f':
			return -1
		}
		return r
	}, text)
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
}

func isText(data []byte) bool {
	for _, c := range data {
		if c < ' ' && (c < '\t' || c > '\r') {
			return false
		}
	}
	return utf8.Valid(data)
}

// plainText takes a byte order mark off and turns UTF-16 into UTF-8.
func plainText(data []byte) string {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}):
		order = binary.LittleEndian
	case bytes.HasPrefix(data, []byte{0xfe, 0xff}):
		order = binary.BigEndian
	default:
		return string(bytes.TrimPrefix(data, []byte("\ufeff")))
	}
	units := make([]uint16, 0, len(data)/2)
	for data = data[2:]; len(data) >= 2; data = data[2:] {
		units = append(units, order.Uint16(data))
	}
	return string(utf16.Decode(units))
}

// unquote takes the quotation marks off a JSON string, also of one with line ends in it, which JSON forbids.
func unquote(text string) (string, bool) {
	if len(text) < 2 || text[0] != '"' || text[len(text)-1] != '"' {
		return "", false
	}
	var s string
	if json.Unmarshal([]byte(text), &s) != nil {
		s = text[1 : len(text)-1]
	}
	return strings.TrimSpace(s), true
}

func looksLikePath(text string) bool {
	if len(text) > 300 || strings.ContainsAny(text, "\r\n") {
		return false
	}
	lower := strings.ToLower(text)
	for _, suffix := range []string{".csr", ".pem", ".req", ".der", ".p10", ".txt"} {
		if strings.HasSuffix(lower, suffix) {
			return true
		}
	}
	return strings.HasPrefix(lower, "file:")
}

// pemLabel quotes the label of a PEM block, unless it looks like something that should not be repeated.
func pemLabel(label string) string {
	if len(label) > 40 || strings.Trim(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ") != "" {
		return "of an unknown kind"
	}
	return fmt.Sprintf("%q", label)
}
