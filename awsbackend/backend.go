package awsbackend

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Options say where data files go and, for tests, whom to talk to. The zero value can do everything but upload: it has
// no bucket.
type Options struct {
	// Bucket is where Upload puts data files. AWS IoT reads it from the region of the aws.Config only.
	Bucket string

	// Prefix goes before the key of every upload. A slash is added at its end if it has none: it is a folder. It is
	// also what the service role may read. Empty for none.
	Prefix string

	// ExpectedBucketOwner is the account the bucket must belong to, 12 digits. S3 refuses every request when it
	// belongs to another, which guards against a bucket name that somebody else has taken. Empty for no such check.
	ExpectedBucketOwner string

	// KMSKeyID is the key that encrypts data files: an id, an ARN or an alias. Empty means SSE-S3 (AES-256 with keys
	// that S3 manages). The service role then needs kms:Decrypt, which EnsureRole grants.
	KMSKeyID string

	// HTTPClient reads report links. By default it is the client of the aws.Config, so that proxies and certificate
	// authorities set there hold for reports too. An *http.Client is copied and made to follow no redirects; a client
	// of another type must follow none.
	HTTPClient HTTPClient

	// LinkHosts are further hosts that report links may lead to. Links to AWS and to the endpoints of the aws.Config
	// are accepted without it. A name without a port stands for that host on any port.
	LinkHosts []string

	// Logger is told what the backend waits for and tries again. Nil for silence. Keys, links and report lines are
	// never logged.
	Logger *slog.Logger

	// IoT, S3, IAM and STS replace the clients that New makes of the aws.Config.
	IoT IoTClient
	S3  S3Client
	IAM IAMClient
	STS STSClient
}

// Backend runs registration tasks on AWS IoT, with their data files in S3. It is safe for concurrent use.
//
// It has all abilities of package task: [task.Identifier], [task.Endpointer], [task.Registrar], [task.DeviceReader],
// [task.CertificateLister], [task.CertificateRemover], [task.DeviceRemover], [task.BucketEnsurer], [task.RoleEnsurer]
// and [task.Preflighter].
type Backend struct {
	region    string
	bucket    string
	prefix    string
	owner     *string
	kmsKey    string
	http      HTTPClient
	linkHosts []string
	log       *slog.Logger

	iot IoTClient
	s3  S3Client
	iam IAMClient
	sts STSClient

	marks    marks
	caller   caller
	location location
	occupied atomic.Pointer[string] // how AWS worded its last refusal for a task that was found in progress
}

var (
	_ task.Backend            = (*Backend)(nil)
	_ task.Identifier         = (*Backend)(nil)
	_ task.Endpointer         = (*Backend)(nil)
	_ task.Registrar          = (*Backend)(nil)
	_ task.DeviceReader       = (*Backend)(nil)
	_ task.CertificateLister  = (*Backend)(nil)
	_ task.CertificateRemover = (*Backend)(nil)
	_ task.DeviceRemover      = (*Backend)(nil)
	_ task.BucketEnsurer      = (*Backend)(nil)
	_ task.RoleEnsurer        = (*Backend)(nil)
	_ task.Preflighter        = (*Backend)(nil)
)

// New makes a backend for the account and region of cfg. It sends nothing. The error is a [*task.InputError] that names
// the option and the rule it breaks.
//
// When cfg (or the service's own AWS_ENDPOINT_URL_S3) has an endpoint that is not AWS's, buckets are addressed by path,
// since such hosts seldom resolve a name for each bucket. Pass an S3 client of your own for other needs.
func New(cfg aws.Config, opts Options) (*Backend, error) {
	if cfg.Region == "" {
		return nil, &task.InputError{Member: "aws.Config.Region",
			Problem: "is empty: set AWS_REGION, a profile with a region, or the field itself"}
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	if cfg.Credentials != nil {
		cfg.Credentials = credentials{cfg.Credentials}
	}
	b := &Backend{
		region:    cfg.Region,
		bucket:    opts.Bucket,
		prefix:    folder(opts.Prefix),
		kmsKey:    opts.KMSKeyID,
		linkHosts: slices.Clone(opts.LinkHosts),
		log:       cmp.Or(opts.Logger, slog.New(slog.DiscardHandler)),
		iot:       opts.IoT,
		s3:        opts.S3,
		iam:       opts.IAM,
		sts:       opts.STS,
		caller:    caller{turn: make(chan struct{}, 1)},
		location:  location{turn: make(chan struct{}, 1)},
	}
	if opts.ExpectedBucketOwner != "" {
		b.owner = aws.String(opts.ExpectedBucketOwner)
	}
	if b.iot == nil {
		b.iot = iot.NewFromConfig(cfg)
	}
	if b.s3 == nil {
		b.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) {
			if o.BaseEndpoint != nil && !isAWSHost(hostOf(*o.BaseEndpoint)) {
				o.UsePathStyle = true
			}
		})
	}
	if b.iam == nil {
		b.iam = iam.NewFromConfig(cfg)
	}
	if b.sts == nil {
		b.sts = sts.NewFromConfig(cfg)
	}
	b.linkHosts = append(b.linkHosts, b.endpointHosts()...)
	b.http = linkClient(opts.HTTPClient, cfg.HTTPClient)
	return b, nil
}

// check returns a *task.InputError for the first option that breaks a rule.
func (o *Options) check() error {
	if o.Bucket != "" {
		if err := rule.Bucket.Check(o.Bucket); err != nil {
			return &task.InputError{Member: "Options.Bucket", Problem: err.Error(), Err: err}
		}
	}
	if o.Prefix != "" {
		if err := checkPrefix(folder(o.Prefix)); err != nil {
			return &task.InputError{Member: "Options.Prefix", Problem: err.Error(), Err: err}
		}
	}
	if id := o.ExpectedBucketOwner; id != "" && !isAccount(id) {
		return &task.InputError{Member: "Options.ExpectedBucketOwner",
			Problem: fmt.Sprintf("%s is not an account id: 12 digits", rule.Quote(id))}
	}
	return nil
}

// folder gives a prefix its slash.
func folder(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return prefix
	}
	return prefix + "/"
}

// checkPrefix applies the rule of a data file's key, and refuses what IAM would read as a wildcard in the role's policy.
func checkPrefix(prefix string) error {
	if err := rule.ObjectKey.Check(prefix); err != nil {
		return err
	}
	if strings.Contains(prefix, "*") {
		return fmt.Errorf("%s has a *, which IAM would take as a wildcard", rule.Quote(prefix))
	}
	return nil
}

func isAccount(id string) bool {
	return len(id) == 12 && strings.Trim(id, "0123456789") == ""
}

// endpointHosts lists host and port of the endpoints that a user has set for the services whose answers hold links.
func (b *Backend) endpointHosts() []string {
	var hosts []string
	add := func(endpoint *string) {
		if endpoint != nil {
			if h := hostOf(*endpoint); h != "" {
				hosts = append(hosts, h)
			}
		}
	}
	if c, ok := b.iot.(*iot.Client); ok {
		add(c.Options().BaseEndpoint)
	}
	if c, ok := b.s3.(*s3.Client); ok {
		add(c.Options().BaseEndpoint)
	}
	return hosts
}

// hostOf returns host:port of an address, or "" if it has none.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
