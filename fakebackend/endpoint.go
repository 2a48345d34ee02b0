package fakebackend

import (
	"encoding/hex"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
)

// DescribeEndpoint.
//
// Models: the account's prefix in front of hosts of AWS's shape. No fake device can connect there: the hosts are names
// only.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeEndpoint.html

var endpointOperations = []*operation{
	operationOf("DescribeEndpoint", "GET /endpoint", (*account).describeEndpoint),
}

type describeEndpointInput struct {
	// EndpointType is iot:Data (the default), iot:Data-ATS, iot:CredentialProvider or iot:Jobs.
	EndpointType string `query:"endpointType" is:"EndpointType"`
}

type describeEndpointOutput struct {
	EndpointAddress string `json:"endpointAddress"`
}

// describeEndpoint returns the host for a kind of traffic.
func (b *account) describeEndpoint(_ time.Time, in *describeEndpointInput) (*describeEndpointOutput, *task.Error) {
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
		return nil, refuse(codeInvalidRequest, "Endpoint type %s is not one of iot:Data, iot:Data-ATS, iot:CredentialProvider, iot:Jobs", restjson.Cut(in.EndpointType))
	}
	return &describeEndpointOutput{host}, nil
}

// accountPrefix is the 14 characters that AWS puts before an account's hosts.
func (b *account) accountPrefix() string {
	sum := b.digest("endpoint of "+b.opts.Account, 0)
	return "a" + hex.EncodeToString(sum[:7])[:13]
}

// partition is that of the account's region.
func (b *account) partition() partition.Partition { return partition.Of(b.opts.Region) }
