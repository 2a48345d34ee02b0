package task

import (
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
)

// ARNs are the resources one line registered: ARN by the logical name of the resource in the template.
type ARNs map[string]string

// Thing returns the ARN of the thing, under whatever logical name; "" if there is none.
func (a ARNs) Thing() string { return a.first("thing") }

// Certificate returns the ARN of the certificate, under whatever logical name; "" if there is none.
func (a ARNs) Certificate() string { return a.first("cert") }

// Policies returns the ARNs of the policies, sorted. AWS lists only policies that the template itself defines by a
// document.
func (a ARNs) Policies() []string {
	var out []string
	for _, arn := range a {
		if resourceType(arn) == "policy" {
			out = append(out, arn)
		}
	}
	slices.Sort(out)
	return out
}

// first returns the ARN of the kind whose logical name sorts first, so that the answer does not depend on map order.
func (a ARNs) first(kind string) string {
	var best, found string
	for name, arn := range a {
		if resourceType(arn) == kind && (found == "" || name < best) {
			best, found = name, arn
		}
	}
	return found
}

// ResourceName returns the last part of an AWS IoT ARN: the thing's name, the certificate's id, the policy's name. It
// returns "" when s is not such an ARN.
func ResourceName(arn string) string {
	_, name, _ := strings.Cut(resource(arn), "/")
	return name
}

func resourceType(arn string) string {
	kind, _, _ := strings.Cut(resource(arn), "/")
	return kind
}

// resource is the last part of an ARN of AWS IoT.
func resource(arn string) string {
	if a, ok := partition.ParseARN(arn); ok && a.Service == "iot" {
		return a.Resource
	}
	return ""
}
