package rule

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// CheckRoots returns an error unless the text is certificates of certificate authorities in PEM, one or more, and nothing
// else: firmware takes it as it is, and trusts all that is in it.
func CheckRoots(text []byte) error {
	if len(text) == 0 {
		return errors.New("there is no root certificate")
	}
	for n := 1; len(text) > 0; n++ {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" || !bytes.HasPrefix(text, []byte("-----BEGIN ")) {
			return fmt.Errorf("root certificate %d is no PEM of a certificate", n)
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return fmt.Errorf("root certificate %d: %w", n, err)
		}
		if !c.BasicConstraintsValid || !c.IsCA {
			return fmt.Errorf("root certificate %d (%s) is not that of a certificate authority", n, Visible(c.Subject.String()))
		}
		text = rest
	}
	return nil
}
