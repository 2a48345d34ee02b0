package fakeaws

import (
	"context"
	"crypto/tls"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
)

// endpoint is the base endpoint of every in-process configuration. It is an IP address, so that S3 clients put the
// bucket in the path, of the range that RFC 5737 reserves for documentation, so that a request sent with another HTTP
// client reaches nothing.
const endpoint = "https://192.0.2.1"

// Config returns a configuration of the AWS SDK whose clients reach the account in process, without a socket or a
// listener. It is [Handler.Config] of a handler with no options: any access key is accepted.
//
//	client := iot.NewFromConfig(fakeaws.Config(fake))
//	backend, err := awsbackend.New(fakeaws.Config(fake), awsbackend.Options{Bucket: "fleet"})
func Config(b *fakebackend.Backend) aws.Config { return NewHandler(b, Options{}).Config() }

// Config returns a configuration of the AWS SDK whose requests end in the handler: HTTP over connections in memory,
// each for one request. Region, endpoint, credentials, HTTP client, retryer and checksums are set; the caller may
// change the copy. With [Options.Credentials] the credentials are those of the first access key by name, and signatures
// are checked. The HTTP client sends requests for every host to the handler, so it also opens the report links that the
// account makes. A fault that drops a connection looks to it, and to [net/http/httptrace], as on a network.
//
// Nothing has to be closed. The goroutines of a request belong to the caller's synctest bubble, and end when the body
// of its answer is read to its end or closed, or the request's context ends.
//
// Signatures are made and checked at the time of the machine, or of the bubble, wherever the account's own clock is; so
// a test can move it by days and clients stay accepted. Report links follow the account's clock. The clients wait
// before they try a request again on the machine's (or the bubble's) timer while the account's clock runs. When the
// clock was stopped by [fakebackend.Backend.SetTime] they move it by 1, 2, 4 s and so on instead, and take no time.
func (h *Handler) Config() aws.Config {
	credentials := aws.Credentials{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: "example", Source: "fakeaws"}
	if len(h.opts.Credentials) > 0 {
		credentials.AccessKeyID = slices.Min(slices.Collect(maps.Keys(h.opts.Credentials)))
		credentials.SecretAccessKey = h.opts.Credentials[credentials.AccessKeyID]
	}
	return aws.Config{
		Region:       h.backend.Options().Region,
		BaseEndpoint: aws.String(endpoint),
		HTTPClient: &http.Client{
			Transport:     newTransport(h),
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return credentials, nil }),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.Backoff = backoff(h.account) })
		},
		// As config.LoadDefaultConfig sets them: uploads come with checksums, and those of downloads are checked.
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported,
		ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
	}
}

// newTransport returns a transport that ends in the handler. A request never waits for another's connection and no
// connection outlives its request: an idle one would keep goroutines, and those would keep a synctest bubble from
// ending.
func newTransport(h http.Handler) *http.Transport {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS = &tls.ConnectionState{} // the links in answers are https, as AWS's are
		h.ServeHTTP(w, r)
	})}
	dial := func(context.Context, string, string) (net.Conn, error) {
		client, far := net.Pipe()
		_ = server.Serve(&oneConn{far}) // returns when the connection's goroutine runs
		return client, nil
	}
	return &http.Transport{DialContext: dial, DialTLSContext: dial, DisableKeepAlives: true}
}

// oneConn is a listener that accepts one connection and then ends.
type oneConn struct{ conn net.Conn }

// Accept returns the connection, and [net.ErrClosed] from then on.
func (l *oneConn) Accept() (net.Conn, error) {
	if l.conn == nil {
		return nil, net.ErrClosed
	}
	conn := l.conn
	l.conn = nil
	return conn, nil
}

// Close does nothing: the connection is closed by whoever serves it.
func (l *oneConn) Close() error { return nil }

// Addr returns the address of a pipe.
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "fakeaws", Net: "pipe"} }

// backoff is how long a client waits after its nth attempt. A clock that is stopped would not pass the time: then it is
// moved by what the SDK waits at most, without the jitter, so that equal calls leave it at equal times.
func backoff(a wire.Account) retry.BackoffDelayer {
	jittered := retry.NewExponentialJitterBackoff(retry.DefaultMaxBackoff)
	return retry.BackoffDelayerFunc(func(attempt int, err error) (time.Duration, error) {
		if a.Pass(min(time.Second<<min(max(attempt-1, 0), 30), retry.DefaultMaxBackoff)) {
			return 0, nil
		}
		return jittered.BackoffDelay(attempt, err)
	})
}
