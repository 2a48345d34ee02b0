package template

import "slices"

// Walkthrough returns the template of AWS's own introduction to bulk registration: a thing with two attributes, a
// certificate from a CSR, and a policy. Its rows hold ThingName, SerialNumber and CSR.
//
// Its policy lets devices publish but not connect (there is no iot:Connect in it), so certificates made with it are for
// trying things out. [FromCSR] makes a template for devices that are to be used.
//
// See https://aws.amazon.com/blogs/iot/deploy-fleets-easily-with-aws-iot-device-management-services/.
func Walkthrough() *Template {
	return &Template{
		Parameters: Strings("ThingName", "SerialNumber", "CSR"),
		Resources: Resources{
			"thing": Thing{
				ThingName: Ref("ThingName"),
				AttributePayload: Object{
					"version":      Literal("v1"),
					"serialNumber": Ref("SerialNumber"),
				},
			},
			"certificate": Certificate{
				CertificateSigningRequest: Ref("CSR"),
				Status:                    Active,
			},
			"policy": Policy{
				PolicyDocument: Literal(`{"Version": "2012-10-17","Statement": ` +
					`[{"Effect": "Allow","Action": ["iot:Publish"],"Resource": ["*"]}]}`),
			},
		},
	}
}

// FromCSR makes a template whose certificates AWS issues from certificate signing requests. Its rows hold ThingName,
// CSR, and a value for each attribute, under the attribute's own name:
//
//	template.FromCSR(template.Policy{PolicyName: template.Literal("sensors")}, "SerialNumber")
//
// More than 3 attributes need a thing type: set ThingTypeName of the resource "thing".
func FromCSR(policy Policy, attributes ...string) *Template {
	t := starter(attributes, "CSR")
	t.Resources["certificate"] = Certificate{CertificateSigningRequest: Ref("CSR"), Status: Active}
	t.Resources["policy"] = policy
	return t
}

// FromCertificatePEM makes a template for certificates that somebody else's CA has signed: a vendor's, say. Its rows hold
// ThingName, CertificatePem, and a value for each attribute. Where the CA is not registered in the account, they are
// registered without it, and the service's role needs iot:RegisterCertificateWithoutCA.
func FromCertificatePEM(policy Policy, attributes ...string) *Template {
	t := starter(attributes, "CertificatePem")
	t.Resources["certificate"] = Certificate{CertificatePEM: Ref("CertificatePem"), Status: Active}
	t.Resources["policy"] = policy
	return t
}

// FromOwnCA makes a template for certificates that a run issues with your own CA, which must be registered in the account.
// Its rows hold ThingName and a value for each attribute; the parameters CertificatePem and CACertificatePem are for the
// run. A line that failed can be sent again although AWS has kept its certificate.
func FromOwnCA(policy Policy, attributes ...string) *Template {
	t := starter(attributes, "CertificatePem", "CACertificatePem")
	t.Resources["certificate"] = Certificate{
		CertificatePEM: Ref("CertificatePem"), CACertificatePEM: Ref("CACertificatePem"), Status: Active,
		OverrideSettings: CertificateOverrides{Status: Replace},
	}
	t.Resources["policy"] = policy
	return t
}

// FromCertificateID makes a template for certificates that the account holds already. Its rows hold ThingName,
// CertificateId, and a value for each attribute.
func FromCertificateID(policy Policy, attributes ...string) *Template {
	t := starter(attributes, "CertificateId")
	t.Resources["certificate"] = Certificate{CertificateID: Ref("CertificateId"), Status: Active}
	t.Resources["policy"] = policy
	return t
}

// WithoutCertificate makes a template that registers things only. Its rows hold ThingName and a value for each
// attribute.
func WithoutCertificate(attributes ...string) *Template { return starter(attributes) }

// starter is a template with the thing, its attributes and further parameters.
func starter(attributes []string, parameters ...string) *Template {
	thing := Thing{ThingName: Ref("ThingName")}
	for _, name := range attributes {
		if thing.AttributePayload == nil {
			thing.AttributePayload = Object{}
		}
		thing.AttributePayload[name] = Ref(name)
	}
	return &Template{
		Parameters: Strings(slices.Concat([]string{"ThingName"}, attributes, parameters)...),
		Resources:  Resources{"thing": thing},
	}
}
