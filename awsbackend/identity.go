package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

// fakeHeader is on every answer of this project's fake.
const fakeHeader = "X-Iotfleet-Fake"

// mark says who answered a service's requests so far.
type mark = int32

const (
	unknown mark = iota // no HTTP answer was seen yet
	genuine             // the last answer had no mark of the fake
	fake
)

// marks says for each service whether the fake answers it. Endpoints are set for each service apart, so one may be the
// fake while another is AWS.
type marks struct {
	iot, s3, iam, sts atomic.Int32
}

// together returns an error if the fake answers for some services and AWS for others.
func (m *marks) together() error {
	var fakes, genuines []string
	for _, s := range []struct {
		name string
		mark mark
	}{{"AWS IoT", m.iot.Load()}, {"S3", m.s3.Load()}, {"IAM", m.iam.Load()}, {"STS", m.sts.Load()}} {
		switch s.mark {
		case fake:
			fakes = append(fakes, s.name)
		case genuine:
			genuines = append(genuines, s.name)
		}
	}
	if len(fakes) == 0 || len(genuines) == 0 {
		return nil
	}
	return fmt.Errorf("the endpoints do not belong together: the fake answers for %s, AWS for %s: set one endpoint for all services",
		strings.Join(fakes, ", "), strings.Join(genuines, ", "))
}

func (b *Backend) markIoT(o *iot.Options) { o.APIOptions = watchAnswers(o.APIOptions, &b.marks.iot) }
func (b *Backend) markS3(o *s3.Options)   { o.APIOptions = watchAnswers(o.APIOptions, &b.marks.s3) }
func (b *Backend) markIAM(o *iam.Options) { o.APIOptions = watchAnswers(o.APIOptions, &b.marks.iam) }
func (b *Backend) markSTS(o *sts.Options) { o.APIOptions = watchAnswers(o.APIOptions, &b.marks.sts) }

// watchAnswers adds a step that looks for the fake's header on an operation's answers, and refuses those that are a proxy's
// page. The SDK reads nothing of some answers, and would take such a page for a success.
func watchAnswers(steps []func(*middleware.Stack) error, m *atomic.Int32) []func(*middleware.Stack) error {
	look := func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
		middleware.DeserializeOutput, middleware.Metadata, error,
	) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if answer, ok := out.RawResponse.(*smithyhttp.Response); ok && answer != nil && answer.Response != nil && answer.StatusCode != 0 {
			switch {
			case isPage(answer.Header):
				if err == nil && answer.StatusCode < 300 {
					err = &smithyhttp.ResponseError{Response: answer, Err: errPage}
				}
			case answer.Header.Get(fakeHeader) != "":
				m.Store(fake)
			default:
				m.Store(genuine)
			}
		}
		return out, metadata, err
	}
	return append(slices.Clip(steps), func(stack *middleware.Stack) error {
		return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("iotfleet.mark", look), middleware.After)
	})
}

// caller remembers who the credentials belong to.
type caller struct {
	turn     chan struct{} // holds one token while somebody asks
	asked    bool          // STS was asked for the ARN to explain an error; once is enough
	arn      string
	identity *task.Identity
}

// Identity implements [task.Identifier] with STS GetCallerIdentity, which needs no permission. The answer is kept.
//
// Fake is true when AWS IoT's endpoint is this project's fake, which marks its answers. If none was seen yet, one
// DescribeEndpoint is sent. It is an error when only some of the endpoints that answered so far are the fake: account,
// data files and certificates would not belong together.
func (b *Backend) Identity(ctx context.Context) (*task.Identity, error) {
	select {
	case b.caller.turn <- struct{}{}:
		defer func() { <-b.caller.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("GetCallerIdentity: %w", wait.ContextError(ctx))
	}
	if b.caller.identity == nil {
		if err := b.identify(ctx); err != nil {
			return nil, err
		}
	}
	return new(*b.caller.identity), nil
}

// identify fills in the caller. Its turn is held.
func (b *Backend) identify(ctx context.Context) error {
	account, arn, err := b.whoAmI(ctx)
	if err != nil {
		return err
	}
	if b.marks.iot.Load() == unknown {
		_, err := b.iot.DescribeEndpoint(ctx,
			&iot.DescribeEndpointInput{EndpointType: aws.String(dataEndpointType)}, b.markIoT)
		if _, answered := errors.AsType[smithy.APIError](err); err != nil && !answered && b.marks.iot.Load() == unknown {
			return fmt.Errorf("find out whether the IoT endpoint is the fake: %w", b.fault(ctx, "iot", "DescribeEndpoint", err))
		}
	}
	if err := b.marks.together(); err != nil {
		return err
	}
	b.caller.arn = arn
	b.caller.identity = &task.Identity{
		Partition: partitionOfARN(arn, b.region),
		Account:   account,
		Region:    b.region,
		Fake:      b.marks.iot.Load() == fake,
	}
	return nil
}

func (b *Backend) whoAmI(ctx context.Context) (account, arn string, err error) {
	const op = "GetCallerIdentity"
	out, err := b.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, b.markSTS)
	if err != nil {
		return "", "", b.fault(ctx, "sts", op, err)
	}
	account, arn = aws.ToString(out.Account), aws.ToString(out.Arn)
	if !isAccount(account) {
		return "", "", fmt.Errorf("%s: %w: the answer's account is %q, not 12 digits", op, task.ErrUnavailable, account)
	}
	return account, arn, nil
}

// explainTimeout bounds what an error message may take: where STS cannot be reached, nobody should wait for a name.
const explainTimeout = 5 * time.Second

// callerARN returns whose credentials these are, "" if STS does not say. It is asked once, to explain an error, so its
// own errors are of no use.
func (b *Backend) callerARN(ctx context.Context) string {
	select {
	case b.caller.turn <- struct{}{}:
		defer func() { <-b.caller.turn }()
	default: // somebody asks just now, perhaps this very call further out
		return ""
	}
	if b.caller.arn == "" && !b.caller.asked && ctx.Err() == nil {
		b.caller.asked = true
		ctx, cancel := context.WithTimeout(ctx, explainTimeout)
		defer cancel()
		if _, arn, err := b.whoAmI(ctx); err == nil {
			b.caller.arn = arn
		}
	}
	return b.caller.arn
}

const dataEndpointType = "iot:Data-ATS"

// DataEndpoint implements [task.Endpointer] with DescribeEndpoint for iot:Data-ATS, whose server certificate devices
// verify against the Amazon Trust Services roots. Needs iot:DescribeEndpoint.
func (b *Backend) DataEndpoint(ctx context.Context) (string, error) {
	const op = "DescribeEndpoint"
	out, err := b.iot.DescribeEndpoint(ctx,
		&iot.DescribeEndpointInput{EndpointType: aws.String(dataEndpointType)}, b.markIoT)
	if err != nil {
		return "", b.fault(ctx, "iot", op, err)
	}
	host := aws.ToString(out.EndpointAddress)
	if host == "" {
		return "", fmt.Errorf("%s: %w: the answer has no address", op, task.ErrUnavailable)
	}
	return host, nil
}

// partitionOfARN returns the partition an ARN names, or that of the region if it is no ARN.
func partitionOfARN(arn, region string) string {
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 && parts[0] == "arn" && parts[1] != "" {
		return parts[1]
	}
	return partition.Of(region).Name
}

// isAWSHost reports whether a host, with or without a port, is in a domain of AWS.
func isAWSHost(host string) bool { return partition.OwnsHost(hostname(host)) }

// hostname cuts the port off a host.
func hostname(host string) string {
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}
