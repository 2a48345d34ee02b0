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
// Models: the account's prefix in front of hosts of AWS's shape; the types iot:Data and iot:Jobs, which AWS's reference
// still lists, are refused as AWS was seen to do. While a device gateway is attached, its host is the one for data; the
// others are names only.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_DescribeEndpoint.html

var endpointOperations = []*operation{
	operationOf("DescribeEndpoint", "GET /endpoint", (*account).describeEndpoint),
}

type describeEndpointInput struct {
	// EndpointType is iot:Data-ATS or iot:CredentialProvider; with Options.OldEndpointTypes also iot:Data or iot:Jobs.
	EndpointType string `query:"endpointType" is:"EndpointType"`
}

type describeEndpointOutput struct {
	EndpointAddress string `json:"endpointAddress"`
}

// describeEndpoint returns the host for a kind of traffic.
func (b *account) describeEndpoint(_ time.Time, in *describeEndpointInput) (*describeEndpointOutput, *task.Error) {
	host := b.accountPrefix()
	domain := b.endpointDomain()
	old := b.opts.OldEndpointTypes
	data := in.EndpointType == "" || in.EndpointType == "iot:Data-ATS" || in.EndpointType == "iot:Data" && old
	switch kind := in.EndpointType; {
	case data && len(b.hosts) > 0:
		host = b.host()
	case kind == "iot:Data-ATS":
		host = b.dataEndpoint()
	case data:
		host += domain
	case kind == "iot:CredentialProvider":
		host += ".credentials" + domain
	case kind == "iot:Jobs" && old:
		host += ".jobs" + domain
	default:
		return nil, refuse(codeInvalidRequest, "Endpoint type %s is not one of iot:Data-ATS, iot:CredentialProvider", restjson.Cut(kind))
	}
	return &describeEndpointOutput{host}, nil
}

// dataEndpoint is the host that devices of the account connect to on AWS.
func (b *account) dataEndpoint() string {
	if b.partition().Name == "aws-cn" {
		return b.accountPrefix() + ".ats" + b.endpointDomain()
	}
	return b.accountPrefix() + "-ats" + b.endpointDomain()
}

// endpointDomain follows what stands for the account in a host.
func (b *account) endpointDomain() string {
	return ".iot." + b.opts.Region + "." + b.partition().DNSSuffix
}

// accountPrefix is the 14 characters that AWS puts before an account's hosts.
func (b *account) accountPrefix() string {
	sum := b.digest("endpoint of "+b.opts.Account, 0)
	return "a" + hex.EncodeToString(sum[:7])[:13]
}

// partition is that of the account's region.
func (b *account) partition() partition.Partition { return partition.Of(b.opts.Region) }
