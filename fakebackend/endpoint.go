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
// still lists, are refused as AWS was seen to do. No fake device can connect there: the hosts are names only.
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
	domain := ".iot." + b.opts.Region + "." + b.partition().DNSSuffix
	old := b.opts.OldEndpointTypes
	switch kind := in.EndpointType; {
	case kind == "", kind == "iot:Data" && old:
		host += domain
	case kind == "iot:Data-ATS" && b.partition().Name == "aws-cn":
		host += ".ats" + domain
	case kind == "iot:Data-ATS":
		host += "-ats" + domain
	case kind == "iot:CredentialProvider":
		host += ".credentials" + domain
	case kind == "iot:Jobs" && old:
		host += ".jobs" + domain
	default:
		return nil, refuse(codeInvalidRequest, "Endpoint type %s is not one of iot:Data-ATS, iot:CredentialProvider", restjson.Cut(kind))
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
