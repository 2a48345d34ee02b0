package partition_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// regions has one region of each partition, and some more whose names could be mistaken.
var regions = map[string]string{
	"us-east-1": "aws", "eu-central-1": "aws", "ap-south-2": "aws", "eu-isolde-1": "aws", "xx-new-1": "aws", "": "aws",
	"cn-north-1": "aws-cn", "cn-northwest-1": "aws-cn", "eusc-de-east-1": "aws-eusc", "us-gov-west-1": "aws-us-gov",
	"us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e", "us-isof-south-1": "aws-iso-f",
}

func TestThePartitionOfARegionIsInItsName(t *testing.T) {
	named := map[string]bool{}
	for region, want := range regions {
		assert.Equal(t, want, partition.Of(region).Name, region)
		named[want] = true
	}
	for _, p := range partition.All() {
		assert.True(t, named[p.Name], "no region of %s was looked at", p.Name)
	}
	assert.Len(t, named, len(partition.All()))
}

func TestTheDomainsAreThoseOfTheSDK(t *testing.T) {
	for region := range regions {
		if region == "" {
			continue
		}
		for dual, suffix := range map[bool]string{false: partition.Of(region).DNSSuffix, true: partition.Of(region).DualStackDNSSuffix} {
			endpoint, err := iot.NewDefaultEndpointResolverV2().ResolveEndpoint(t.Context(),
				iot.EndpointParameters{Region: aws.String(region), UseDualStack: aws.Bool(dual)})
			require.NoError(t, err)
			host := endpoint.URI.Hostname()
			assert.Equal(t, "iot."+region+"."+suffix, host)
			assert.True(t, partition.OwnsHost(strings.ToUpper(host)), host)
		}
	}
}

func TestAHostThatOnlyLooksLikeOneOfAWSIsNot(t *testing.T) {
	for _, host := range []string{"amazonaws.com", "notamazonaws.com", "iot.us-east-1.amazonaws.com.example.org", "localhost", ""} {
		assert.False(t, partition.OwnsHost(host), host)
	}
}
