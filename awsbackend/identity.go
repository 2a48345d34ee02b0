package awsbackend

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/wait"
	"github.com/seed1ff6f450/iotfleet/task"
)

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
		_, err := call(ctx, b, b.iot.DescribeEndpoint, &iot.DescribeEndpointInput{EndpointType: aws.String(dataEndpointType)})
		if err != nil && b.marks.iot.Load() == unknown {
			return fmt.Errorf("find out whether the IoT endpoint is the fake: %w", err)
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
	out, err := call(ctx, b, b.sts.GetCallerIdentity, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", "", err
	}
	account, arn = aws.ToString(out.Account), aws.ToString(out.Arn)
	if !partition.IsAccount(account) {
		return "", "", fmt.Errorf("GetCallerIdentity: %w: the answer's account is %q, not 12 digits", task.ErrUnavailable, account)
	}
	return account, arn, nil
}

// explainTimeout bounds what an error message may take: where STS cannot be reached, nobody should wait for a name.
const explainTimeout = 5 * time.Second

// callerARN returns whose credentials these are, "" if STS does not answer. It is asked once, to explain an error, so
// its own errors are of no use.
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
	out, err := call(ctx, b, b.iot.DescribeEndpoint, &iot.DescribeEndpointInput{EndpointType: aws.String(dataEndpointType)})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.EndpointAddress), nil
}

// partitionOfARN returns the partition an ARN names, or that of the region if it is no ARN.
func partitionOfARN(arn, region string) string {
	if a, ok := partition.ParseARN(arn); ok && a.Partition != "" {
		return a.Partition
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
