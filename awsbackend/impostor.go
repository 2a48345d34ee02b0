package awsbackend

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// impostorError is that something other than AWS answers at AWS's address. To ask again would bring the same.
type impostorError struct {
	host string
	err  error
}

func (e *impostorError) Error() string {
	return fmt.Sprintf("what answers at %s is not AWS, so it was not asked again: %s", e.host, rule.Visible(e.err.Error()))
}

func (e *impostorError) Unwrap() []error { return []error{task.ErrNotService, e.err} }

// RetryableError keeps the SDK from sending the request again.
func (e *impostorError) RetryableError() bool { return false }

// errPage is about an answer that somebody between here and AWS wrote.
var errPage = errors.New("the answer is a web page, so a proxy or a login page is in the way: AWS sends none")

// distrusted returns the *impostorError of a connection that failed because the peer could not prove to be AWS; any other
// error as it is.
func distrusted(host string, err error) error {
	if !isDistrust(err) {
		return err
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // without the address, which may be a presigned link
	}
	return &impostorError{host, fmt.Errorf(
		"%w (if a proxy of your own inspects TLS, add its certificate authority, as with AWS_CA_BUNDLE)", err)}
}

// isDistrust reports whether a TLS handshake failed because of who the peer is, or because it does not speak TLS.
func isDistrust(err error) bool {
	if errors.Is(err, http.ErrSchemeMismatch) {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.RecordHeaderError](err)
	return ok
}

// isImpostorsPage reports whether an answer is a web page that no AWS service sends, and no passing state of a proxy: a
// throttle, a time-out or a failure of its own may be over at the next attempt.
func isImpostorsPage(status int, h http.Header) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusRequestTimeout:
		return false
	case http.StatusNetworkAuthenticationRequired: // a captive portal's own status
		return isPage(h)
	}
	return status < 500 && isPage(h)
}
