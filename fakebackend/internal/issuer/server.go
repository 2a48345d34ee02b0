package issuer

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Server makes a P-256 key and a server certificate for names and IP addresses. Both follow from the seed. It is good
// from 1999 to 2049, so that it verifies at any time that the clock of a test is likely to show.
func (i *Issuer) Server(hosts []string) (tls.Certificate, error) {
	if len(hosts) == 0 {
		return tls.Certificate{}, errors.New("fake issuer: a server needs a name")
	}
	label := "server " + strings.Join(hosts, " ")
	key, err := seededP256(i.seed, label)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("fake issuer: make a server's key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("fake issuer: encode a server's key: %w", err)
	}
	var names []byte
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil {
			names = appendDER(names, tagContext7Primitive, ip.AsSlice())
		} else {
			names = appendDER(names, tagContext2Primitive, []byte(host))
		}
	}
	extensions := slices.Concat(i.authKey, i.tail, extension(oidExtendedKeyUsage, false, der(tagSequence, oidServerAuth)),
		extension(oidSubjectAlternativeName, false, der(tagSequence, names)))
	raw, err := i.sign(i.serial(label, 0), commonName(hosts[0]), spki, time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC), lastSecond, extensions)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(raw)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("fake issuer: the server certificate for %q: %w", hosts, err)
	}
	return tls.Certificate{Certificate: [][]byte{raw}, PrivateKey: key, Leaf: leaf}, nil
}
