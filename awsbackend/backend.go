package awsbackend

import (
	"cmp"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Options are what an aws.Config does not hold: where data files go. The zero value can do everything except upload: it
// has no bucket.
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

	// LinkHosts are further hosts that report links may lead to. Links to AWS and to the endpoints of the aws.Config
	// are accepted without it. A name without a port means that host on any port.
	LinkHosts []string

	// IdleTimeout is how long a request may stand still: no byte of it is taken, and no byte of its answer comes, from
	// the search for a connection to the end of the body. It then fails as after a connection that broke: what can be
	// repeated safely is sent again, and the outcome of a StartThingRegistrationTask or RegisterThing is unknown. A
	// request on which bytes move, however slowly, is never ended, and the time between two reads of a report is not
	// counted. 0 is [DefaultIdleTimeout]; less than a second is an error.
	IdleTimeout time.Duration

	// Logger receives what the backend waits for and tries again; nil for none. Keys, links and report lines are
	// never logged.
	Logger *slog.Logger
}

// Backend runs registration tasks on AWS IoT, with their data files in S3. It is safe for concurrent use.
//
// It has all abilities of package task: [task.Identifier], [task.Notifier], [task.Endpointer], [task.RootLister],
// [task.Registrar], [task.DeviceReader], [task.ThingFinder], [task.CertificateLister], [task.PolicyReader],
// [task.Remover], [task.BucketEnsurer], [task.RoleEnsurer], [task.ResourceEnsurer] and [task.Preflighter].
type Backend struct {
	region    string
	bucket    string
	prefix    string
	owner     *string
	kmsKey    string
	http      aws.HTTPClient // opens report links
	linkHosts []string
	log       *slog.Logger

	iot *iot.Client
	s3  *s3.Client
	iam *iam.Client
	sts *sts.Client

	listeners listeners

	marks    marks
	caller   caller
	location location
	occupied atomic.Pointer[string] // how AWS worded its last refusal for a task that was found in progress
}

var (
	_ task.Backend           = (*Backend)(nil)
	_ task.Identifier        = (*Backend)(nil)
	_ task.Endpointer        = (*Backend)(nil)
	_ task.RootLister        = (*Backend)(nil)
	_ task.Notifier          = (*Backend)(nil)
	_ task.Registrar         = (*Backend)(nil)
	_ task.DeviceReader      = (*Backend)(nil)
	_ task.ThingFinder       = (*Backend)(nil)
	_ task.CertificateLister = (*Backend)(nil)
	_ task.Remover           = (*Backend)(nil)
	_ task.CAEnsurer         = (*Backend)(nil)
	_ task.PolicyReader      = (*Backend)(nil)
	_ task.BucketEnsurer     = (*Backend)(nil)
	_ task.RoleEnsurer       = (*Backend)(nil)
	_ task.ResourceEnsurer   = (*Backend)(nil)
	_ task.Preflighter       = (*Backend)(nil)
)

// New makes a backend for the account and region of cfg. It sends nothing. The error is a [*task.InputError] that names
// the option and the rule it breaks.
//
// Everything about the way to AWS is set in cfg: credentials, endpoints, proxies, certificate authorities, retries. A
// test sets its HTTPClient or BaseEndpoint, or takes the one of the fake. cfg.HTTPClient also opens report links: an
// *http.Client is copied and made to follow no redirects, a client of another type must follow none.
//
// When cfg (or the service's own AWS_ENDPOINT_URL_S3) has an endpoint that is not AWS's, buckets are addressed by path,
// since such hosts seldom resolve a name for each bucket.
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
		caller:    caller{turn: make(chan struct{}, 1)},
		location:  location{turn: make(chan struct{}, 1)},
	}
	if opts.ExpectedBucketOwner != "" {
		b.owner = aws.String(opts.ExpectedBucketOwner)
	}
	limit := cmp.Or(opts.IdleTimeout, DefaultIdleTimeout)
	patient := func(client aws.HTTPClient) aws.HTTPClient {
		return &idleClient{inner: client, limit: limit, maxBody: maxAnswer, lost: b.listeners.lost}
	}
	b.iot = iot.NewFromConfig(cfg, func(o *iot.Options) {
		o.APIOptions, o.HTTPClient = watch(o.APIOptions, &b.marks.iot), patient(o.HTTPClient)
	})
	b.s3 = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.APIOptions, o.HTTPClient = watch(o.APIOptions, &b.marks.s3), patient(o.HTTPClient)
		if o.BaseEndpoint != nil && !isAWSHost(hostOf(*o.BaseEndpoint)) {
			o.UsePathStyle = true
		}
	})
	b.iam = iam.NewFromConfig(cfg, func(o *iam.Options) {
		o.APIOptions, o.HTTPClient = watch(o.APIOptions, &b.marks.iam), patient(o.HTTPClient)
	})
	b.sts = sts.NewFromConfig(cfg, func(o *sts.Options) {
		o.APIOptions, o.HTTPClient = watch(o.APIOptions, &b.marks.sts), patient(o.HTTPClient)
	})
	if err := b.checkEndpoints(); err != nil {
		return nil, err
	}
	b.linkHosts = append(b.linkHosts, b.endpointHosts()...)
	b.http = &idleClient{inner: linkClient(cfg.HTTPClient), limit: limit, lost: b.listeners.lost}
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
	if id := o.ExpectedBucketOwner; id != "" && !partition.IsAccount(id) {
		return &task.InputError{Member: "Options.ExpectedBucketOwner",
			Problem: fmt.Sprintf("%s is not an account id: 12 digits", rule.Quote(id))}
	}
	if d := o.IdleTimeout; d != 0 && d < time.Second {
		return &task.InputError{Member: "Options.IdleTimeout",
			Problem: fmt.Sprintf("is %v, at least a second is needed (0 is the default, %v)", d, DefaultIdleTimeout)}
	}
	return nil
}

// folder returns the prefix with a slash at its end.
func folder(prefix string) string {
	if prefix == "" || strings.HasSuffix(prefix, "/") {
		return prefix
	}
	return prefix + "/"
}

// checkPrefix applies the rule of a data file's key, and refuses what IAM would read as a wildcard in the role's
// policy.
func checkPrefix(prefix string) error {
	if err := rule.ObjectKey.Check(prefix); err != nil {
		return err
	}
	if strings.Contains(prefix, "*") {
		return fmt.Errorf("%s has a *, which IAM would take as a wildcard", rule.Quote(prefix))
	}
	return nil
}

// checkEndpoints refuses an endpoint that devices talk to where AWS's operations are to be called.
func (b *Backend) checkEndpoints() error {
	for _, endpoint := range []*string{
		b.iot.Options().BaseEndpoint, b.s3.Options().BaseEndpoint, b.iam.Options().BaseEndpoint, b.sts.Options().BaseEndpoint,
	} {
		host := hostname(hostOf(aws.ToString(endpoint)))
		if m := deviceHost.FindStringSubmatch(strings.ToLower(host)); m != nil && m[2] == partition.Of(m[1]).DNSSuffix {
			return &task.InputError{Member: "BaseEndpoint", Problem: fmt.Sprintf(
				"of the aws.Config (AWS_ENDPOINT_URL or endpoint_url) is %s, where devices connect; things are registered at iot.%s.%s, "+
					"which the SDK finds by itself: leave it out", host, m[1], m[2])}
		}
	}
	return nil
}

// deviceHost is a data, jobs or credentials endpoint of an account, if its end is the domain of its region's partition. A
// VPC endpoint, whose name looks alike, has one more part there.
var deviceHost = regexp.MustCompile(`^.+\.iot\.([a-z0-9-]+)\.(.+)$`)

// endpointHosts lists host and port of the endpoints that a user has set for the services whose answers hold links.
func (b *Backend) endpointHosts() []string {
	var hosts []string
	for _, endpoint := range []*string{b.iot.Options().BaseEndpoint, b.s3.Options().BaseEndpoint} {
		if h := hostOf(aws.ToString(endpoint)); h != "" {
			hosts = append(hosts, h)
		}
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
