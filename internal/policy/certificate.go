package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The limits of values that come from certificates:
// https://docs.aws.amazon.com/iot/latest/developerguide/cert-policy-variables.html#policy-limits
const (
	certificateValues = 5    // of one attribute
	certificateValue  = 1024 // characters of one value
)

const certificatePrefix = "iot:Certificate."

// nameAttributes are the attributes of a subject or an issuer that have a variable.
var nameAttributes = []struct {
	name string
	oid  asn1.ObjectIdentifier
}{
	{"CommonName", []int{2, 5, 4, 3}}, {"Surname", []int{2, 5, 4, 4}}, {"SerialNumber", []int{2, 5, 4, 5}},
	{"Country", []int{2, 5, 4, 6}}, {"State", []int{2, 5, 4, 8}}, {"Organization", []int{2, 5, 4, 10}},
	{"OrganizationalUnit", []int{2, 5, 4, 11}}, {"Title", []int{2, 5, 4, 12}}, {"GivenName", []int{2, 5, 4, 42}},
	{"Initials", []int{2, 5, 4, 43}}, {"GenerationQualifier", []int{2, 5, 4, 44}},
	{"DistinguishedNameQualifier", []int{2, 5, 4, 46}}, {"Pseudonym", []int{2, 5, 4, 65}},
}

var (
	subjectAlternativeName = asn1.ObjectIdentifier{2, 5, 29, 17}
	issuerAlternativeName  = asn1.ObjectIdentifier{2, 5, 29, 18}
)

// certificate sets the keys that come from a certificate.
func (c *Connection) certificate(cert *x509.Certificate) {
	id := sha256.Sum256(cert.Raw)
	c.set("iot:CertificateId", hex.EncodeToString(id[:]))
	first := len(c.keys)
	if cert.SerialNumber != nil {
		c.set(certificatePrefix+"SerialNumber", cert.SerialNumber.String())
	}
	c.name(certificatePrefix+"Subject.", cert.Subject)
	c.name(certificatePrefix+"Issuer.", cert.Issuer)
	for _, e := range cert.Extensions {
		switch {
		case e.Id.Equal(subjectAlternativeName):
			c.alternativeNames(certificatePrefix+"Subject.AlternativeName.", e.Value)
		case e.Id.Equal(issuerAlternativeName):
			c.alternativeNames(certificatePrefix+"Issuer.AlternativeName.", e.Value)
		}
	}
	var available []string
	for _, k := range c.keys[first:] {
		if slices.Contains(variableNames, k.key) {
			available = append(available, k.key)
		}
	}
	c.set(certificatePrefix+"AvailableKeys", available...)
}

func (c *Connection) name(prefix string, name pkix.Name) {
	for _, known := range nameAttributes {
		var values []string
		for _, attribute := range name.Names {
			if text, ok := attribute.Value.(string); ok && attribute.Type.Equal(known.oid) {
				values = append(values, text)
			}
		}
		c.attribute(prefix+known.name, values)
	}
}

// attribute sets the keys of an attribute: by itself the first value, with .1 the second, and with .List all. A value
// that AWS does not put in place of a variable leaves its key out.
func (c *Connection) attribute(key string, values []string) {
	var list []string
	for i, value := range values[:min(len(values), certificateValues)] {
		text, ok := certificateText(value)
		if !ok {
			continue
		}
		list = append(list, text)
		if i == 0 {
			c.set(key, text)
		} else {
			c.set(key+"."+strconv.Itoa(i), text)
		}
	}
	c.set(key+".List", list...)
}

// certificateText returns a value as it stands in for its variable: special characters have a backslash before them.
func certificateText(value string) (string, bool) {
	if value == "" || strings.ContainsAny(value, "*$+?#") || utf8.RuneCountInString(value) > certificateValue {
		return "", false
	}
	if !strings.ContainsAny(value, `,"\=<>;`) {
		return value, true
	}
	var b strings.Builder
	for _, r := range value {
		if strings.ContainsRune(`,"\=<>;`, r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String(), true
}

// alternativeNames reads the GeneralNames of an extension. What can't be read is left out.
func (c *Connection) alternativeNames(prefix string, der []byte) {
	var names asn1.RawValue
	if _, err := asn1.Unmarshal(der, &names); err != nil || !names.IsCompound {
		return
	}
	values := map[string][]string{}
	add := func(kind, value string) { values[kind] = append(values[kind], value) }
	for rest := names.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return
		}
		if name.Class != asn1.ClassContextSpecific {
			continue
		}
		switch name.Tag {
		case 1:
			add("RFC822Name", string(name.Bytes))
		case 2:
			add("DNSName", string(name.Bytes))
		case 4:
			var directory pkix.RDNSequence
			if _, err := asn1.Unmarshal(name.Bytes, &directory); err == nil {
				add("DirectoryName", directory.String())
			}
		case 6:
			add("UniformResourceIdentifier", string(name.Bytes))
		case 7:
			if ip, ok := netip.AddrFromSlice(name.Bytes); ok {
				add("IPAddress", ip.String())
			}
		}
	}
	for _, kind := range []string{"RFC822Name", "DNSName", "DirectoryName", "UniformResourceIdentifier", "IPAddress"} {
		c.attribute(prefix+kind, values[kind])
	}
}
