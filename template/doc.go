// Package template builds, reads, checks and resolves AWS IoT provisioning templates.
//
// A provisioning template is what AWS IoT creates for each device: a thing, a certificate, policies. A registration
// task, RegisterThing, just-in-time provisioning and fleet provisioning all take one, as JSON. This package knows the
// whole language, for three uses ([Bulk], [JITP], [Fleet]). A template is a Go literal that reads like the JSON it
// makes:
//
//	t := &template.Template{
//		Parameters: template.Strings("ThingName", "SerialNumber", "CSR"),
//		Resources: template.Resources{
//			"thing": template.Thing{
//				ThingName:        template.Ref("ThingName"),
//				AttributePayload: template.Object{"serialNumber": template.Ref("SerialNumber")},
//			},
//			"certificate": template.Certificate{CertificateSigningRequest: template.Ref("CSR")},
//			"policy":      template.Policy{PolicyName: template.Literal("sensors")},
//		},
//	}
//	body, err := t.Body() // what a task takes
//
// or comes from a file:
//
//	t, err := template.Parse(data)              // errors have line, column, JSON pointer and a hint
//	err = t.Check(template.Bulk).Err()          // what AWS refuses, or what keeps devices from working
//	p, err := t.Compile(template.CompileOptions{})
//	r, err := p.Resolve(row)                    // the thing, certificate and policies of one device
//	issues := p.CheckRow(row)                   // what AWS would refuse about it
//
// # Reading
//
// [Parse] accepts what AWS accepts, and keeps what it does not know. A parsed template is written as JSON of the same
// meaning. Where the documentation is silent the package refuses rather than guesses when rows are resolved, and
// [CompileOptions] has a switch: intrinsic functions other than Ref, for one, are documented for fleet templates only.
//
// # Rows
//
// A row is a map from parameter to value, the content of one line of a task's data file. A Go struct can describe a
// device once, for both the parameters and the rows: see [ParametersOf] and [RowOf].
//
// # Concurrency
//
// A [Program] is safe for concurrent use. So is reading a [Template] that nobody changes.
//
// AWS's description of the language: https://docs.aws.amazon.com/iot/latest/developerguide/provision-template.html
package template
