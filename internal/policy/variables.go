package policy

import (
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

// variableNames are the variables that AWS documents for AWS IoT policies, which are keys of conditions too. Those of
// the thing and the subject come first, since they are meant most often.
//
// https://docs.aws.amazon.com/iot/latest/developerguide/iot-policy-variables.html
var variableNames = func() []string {
	names := []string{
		"iot:ClientId", "iot:DomainName", "iot:Connection.Thing.ThingName", "iot:Connection.Thing.ThingTypeName",
		"iot:Connection.Thing.IsAttached", attributesPrefix + "name]", "iot:CertificateId", "iot:Certificate.SerialNumber",
		"iot:Certificate.AvailableKeys",
	}
	for _, whose := range []string{"Subject", "Issuer"} {
		for _, attribute := range []string{
			"CommonName", "Country", "Organization", "OrganizationalUnit", "State", "SerialNumber", "DistinguishedNameQualifier",
			"Title", "Surname", "GivenName", "Initials", "Pseudonym", "GenerationQualifier", "AlternativeName.RFC822Name",
			"AlternativeName.DNSName", "AlternativeName.DirectoryName", "AlternativeName.UniformResourceIdentifier",
			"AlternativeName.IPAddress",
		} {
			names = append(names, "iot:Certificate."+whose+"."+attribute)
		}
	}
	return names
}()

// keyNames are keys of conditions that are not documented as variables.
var keyNames = append(slices.Clone(variableNames), "iot:ConnectAttributes", "iot:LastWillTopic", "iot:ClientMode", "iot:Delete",
	"iot:ThingGroupArn", "iot:TunnelDestinationService")

// globalNames are those of AWS's global keys that can mean something where a device connects. The others are let pass.
//
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
var globalNames = []string{
	"aws:SourceIp", "aws:SourceVpc", "aws:SourceVpce", "aws:VpcSourceIp", "aws:CurrentTime", "aws:EpochTime", "aws:SecureTransport",
	"aws:UserAgent",
}

const (
	thingPrefix      = "iot:Connection.Thing."
	attributesPrefix = thingPrefix + "Attributes["
)

// isVariable reports whether a name, in any case, is that of a documented variable or key. Attributes of a certificate
// may be followed by .List or by a number, and a thing's attribute stands in brackets.
func isVariable(name string, known []string) bool {
	if n := len(attributesPrefix); len(name) > n+1 && strings.EqualFold(name[:n], attributesPrefix) && strings.HasSuffix(name, "]") {
		return true
	}
	if strings.HasPrefix(strings.ToLower(name), "iot:certificate.") {
		if i := strings.LastIndexByte(name, '.'); strings.EqualFold(name[i:], ".List") || strings.Trim(name[i+1:], "0123456789") == "" {
			name = name[:i]
		}
	}
	return slices.ContainsFunc(known, func(k string) bool { return strings.EqualFold(k, name) })
}

// variables yields the name of each variable in a text as it is written, and what stands outside of variables. One that
// is not closed is outside.
func variables(text string) (names []string, outside string) {
	var rest strings.Builder
	for {
		before, after, found := strings.Cut(text, "${")
		name, next, closed := strings.Cut(after, "}")
		if !found || !closed {
			rest.WriteString(text)
			return names, rest.String()
		}
		rest.WriteString(before)
		rest.WriteByte(' ') // so that what stands on either side does not join
		names = append(names, name)
		text = next
	}
}

// meant returns the known name that was probably meant; "" if none is near.
func meant(name string, known []string) string {
	folded := spelling.Fold(name)
	for _, k := range known {
		if spelling.Fold(k) == folded {
			return k
		}
	}
	for _, k := range known { // iot:ThingName, mqtt:Connect
		if strings.EqualFold(lastWord(k), lastWord(name)) {
			return k
		}
	}
	best, most := "", min(6, len(folded)/4+1)
	for _, k := range known {
		if d := spelling.Distance(folded, spelling.Fold(k)); d < most {
			best, most = k, d
		}
	}
	return best
}

func lastWord(name string) string { return name[strings.LastIndexAny(name, ".:")+1:] }
