// Package partition knows AWS's partitions: groups of regions with accounts, ARNs and domains of their own.
//
// The service principal of AWS IoT is [IoT] in all of them. Some other services have one for each partition.
//
// The table is that of the AWS SDK's endpoint rules (partitions.json); a test holds it against the SDK's own endpoints.
package partition

import (
	"slices"
	"strings"
)

// IoT is the service principal of AWS IoT, the same in every partition: who a service role trusts.
const IoT = "iot.amazonaws.com"

// Partition is one of AWS's partitions.
type Partition struct {
	Name               string // as ARNs have it: aws, aws-cn, …
	DNSSuffix          string // the domain of its endpoints, such as amazonaws.com
	DualStackDNSSuffix string // the domain of its endpoints that also speak IPv6, such as api.aws

	regions string // what its regions' names begin with
}

// partitions has the partition of all other regions last.
var partitions = []Partition{
	{"aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn", "cn-"},
	{"aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu", "eusc-"},
	{"aws-iso", "c2s.ic.gov", "api.aws.ic.gov", "us-iso-"},
	{"aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud", "us-isob-"},
	{"aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk", "eu-isoe-"},
	{"aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov", "us-isof-"},
	{"aws-us-gov", "amazonaws.com", "api.aws", "us-gov-"},
	{"aws", "amazonaws.com", "api.aws", ""},
}

// All returns every partition, "aws" last.
func All() []Partition { return slices.Clone(partitions) }

// Of returns the partition of a region. A region that is not known is taken for one of "aws", which gets most new ones.
func Of(region string) Partition {
	i := slices.IndexFunc(partitions, func(p Partition) bool { return strings.HasPrefix(region, p.regions) })
	return partitions[i]
}

// OwnsHost reports whether a host name lies in a domain of an AWS partition. Case does not matter; a port must be cut
// off.
func OwnsHost(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc(partitions, func(p Partition) bool {
		return strings.HasSuffix(name, "."+p.DNSSuffix) || strings.HasSuffix(name, "."+p.DualStackDNSSuffix)
	})
}
