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

// maxInput is the longest text that is looked at. openssl's readable form of the longest request or certificate that AWS
// takes stays far below.
const maxInput = 64 << 10

// form is what a text is read as, and the words of its errors.
type form struct {
	err    error  // what the text is not
	name   string // request, certificate
	label  string // of its PEM block
	suffix string // of its files
}

var (
	requestForm     = &form{ErrNotCSR, "request", requestLabel, ".csr"}
	certificateForm = &form{ErrNotCertificate, "certificate", certificateLabel, ".crt"}
)

func (f *form) not(format string, args ...any) error {
	return fmt.Errorf("%w: %s", f.err, fmt.Sprintf(format, args...))
}

func (f *form) exposed() error {
	return fmt.Errorf("%w; hand in the %s alone, and treat that key as exposed", ErrPrivateKey, f.name)
}

// block is a PEM block, or DER without one.
type block struct {
	label string // empty if there is no PEM
	der   []byte
	after string // what stands behind it, up to the next block
}

// blocks finds what was handed in: PEM blocks in their order, or one block of DER or of base64.
func (f *form) blocks(data []byte) ([]block, error) {
	if len(data) > maxInput {
		return nil, fmt.Errorf("%w: the text has %d bytes, AWS IoT takes a %s of 4,096 characters", ErrTooLong, len(data), f.name)
	}
	// The tag of a DER sequence is the character 0, so what follows decides.
	if len(data) > 1 && data[0] == tagSequence && !isText(data) {
		return []block{{der: bytes.Clone(data)}}, nil
	}
	text := trim(plainText(data))
	if text == "" {
		return nil, f.not("the text is empty")
	}
	for range 3 { // a string in quotation marks, or one inside another
		unquoted, ok := unquote(text)
		if !ok {
			break
		}
		text = unquoted
	}
	if privatekey.In(text) {
		return nil, f.exposed()
	}
	if strings.Contains(text, beginPEM) {
		return f.pem(spelledOut.Replace(text))
	}
	if f.isPath(text) {
		return nil, f.not("this looks like the name of a file; read the file and give its content")
	}
	der, err := decodeBase64(spelledOut.Replace(text))
	switch {
	case err == nil && bytes.Contains(der, []byte(beginPEM)): // PEM as base64
		if inner := plainText(der); privatekey.In(inner) {
			return nil, f.exposed()
		} else {
			return f.pem(inner)
		}
	case err != nil || len(der) == 0 || der[0] != tagSequence:
		return nil, f.not(`it is neither PEM ("-----BEGIN %s-----"), nor DER, nor base64 of DER or of PEM`, f.label)
	}
	return []block{{der: der}}, nil
}

const beginPEM = "-----BEGIN "

// spelledOut turns escapes of line ends and slashes that were taken for text back into what they stand for. Neither PEM
// nor base64 has a backslash of its own.
var spelledOut = strings.NewReplacer(`\\r`, "\r", `\\n`, "\n", `\r`, "\r", `\n`, "\n", `\t`, "\t", `\/`, "/")

// pem reads every PEM block of a text, also where the line ends are lost.
func (f *form) pem(text string) ([]block, error) {
	var list []block
	_, text, more := strings.Cut(text, beginPEM)
	for more {
		label, body, ok := strings.Cut(text, "-----")
		if !ok {
			return nil, f.not("the BEGIN line is not complete")
		}
		body, rest, ok := strings.Cut(body, "-----END "+label+"-----")
		if !ok {
			return nil, f.not("there is no line -----END %s-----; the text was cut short or damaged", pemLabel(label, "of that block"))
		}
		b := block{label: label}
		b.after, text, more = strings.Cut(rest, beginPEM)
		b.after = trim(b.after)
		var err error
		if b.der, err = decodeBase64(body); err != nil {
			return nil, f.not("between its BEGIN and END lines is something else than base64; it was damaged")
		}
		list = append(list, b)
	}
	return list, nil
}

func decodeBase64(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n', '\v', '\f':
			return -1
		case '-': // of base64url
			return '+'
		case '_':
			return '/'
		}
		return r
	}, text)
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
}

func isText(data []byte) bool {
	data = bytes.TrimRight(data, "\x00")
	for _, c := range data {
		if c < ' ' && (c < '\t' || c > '\r') {
			return false
		}
	}
	return utf8.Valid(data)
}

// trim takes white space off, and the NUL at the end of a string of C.
func trim(text string) string {
	return strings.TrimFunc(text, func(r rune) bool { return r <= ' ' || r == '\ufeff' || r == '\u00a0' })
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
	if len(text) < 2 || text[0] != text[len(text)-1] || text[0] != '"' && text[0] != '\'' {
		return "", false
	}
	var s string
	if json.Unmarshal([]byte(text), &s) != nil {
		s = text[1 : len(text)-1]
	}
	return trim(s), true
}

func (f *form) isPath(text string) bool {
	if len(text) > 300 || strings.ContainsAny(text, "\r\n") {
		return false
	}
	lower := strings.ToLower(text)
	for _, suffix := range []string{f.suffix, ".pem", ".req", ".der", ".p10", ".txt", ".cer"} {
		if strings.HasSuffix(lower, suffix) {
			return true
		}
	}
	return strings.HasPrefix(lower, "file:")
}

// pemLabel returns the label of a PEM block, or another word for it if it should not be repeated.
func pemLabel(label, otherwise string) string {
	if len(label) > 40 || strings.Trim(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 ") != "" {
		return otherwise
	}
	return label
}
