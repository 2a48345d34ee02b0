package fakebackend

import (
	"context"
	"encoding/hex"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
)

// DescribeEndpoint, and the ability to tell the data endpoint.
//
// Models: the account's prefix in front of hosts of AWS's shape. No fake device can connect there: the hosts are names
// only.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeEndpoint.html

// DescribeEndpointInput is the request of DescribeEndpoint.
type DescribeEndpointInput struct {
	EndpointType string `json:"endpointType,omitempty"` // iot:Data (the default), iot:Data-ATS, iot:CredentialProvider or iot:Jobs
}

// DescribeEndpointOutput is the answer to DescribeEndpoint.
type DescribeEndpointOutput struct {
	EndpointAddress string `json:"endpointAddress"`
}

// DescribeEndpoint gives the host for a kind of traffic.
func (b *IoT) DescribeEndpoint(ctx context.Context, in *DescribeEndpointInput) (*DescribeEndpointOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.may("endpointType", in.EndpointType, shapeEndpointType) }
	return invoke(ctx, b, "DescribeEndpoint", "", check, func(time.Time) (*DescribeEndpointOutput, *task.Error) {
		host := b.accountPrefix()
		domain := ".iot." + b.opts.Region + "." + b.partition().DNSSuffix
		switch in.EndpointType {
		case "", "iot:Data":
			host += domain
		case "iot:Data-ATS":
			host += "-ats" + domain
		case "iot:CredentialProvider":
			host += ".credentials" + domain
		case "iot:Jobs":
			host += ".jobs" + domain
		default:
			return nil, refuse(codeInvalidRequest, "Endpoint type %s is not one of iot:Data, iot:Data-ATS, iot:CredentialProvider, iot:Jobs", cutValue(in.EndpointType))
		}
		return &DescribeEndpointOutput{host}, nil
	})
}

// DataEndpoint gives the host that devices connect to.
func (b *IoT) DataEndpoint(ctx context.Context) (string, error) {
	out, err := b.DescribeEndpoint(ctx, &DescribeEndpointInput{EndpointType: "iot:Data-ATS"})
	if err != nil {
		return "", err
	}
	return out.EndpointAddress, nil
}

// accountPrefix is the 14 characters that AWS puts before an account's hosts.
func (b *IoT) accountPrefix() string {
	sum := b.digest("endpoint of "+b.opts.Account, 0)
	return "a" + hex.EncodeToString(sum[:7])[:13]
}

// partition is that of the account's region.
func (b *IoT) partition() partition.Partition { return partition.Of(b.opts.Region) }
