package template_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

// A template as a Go literal reads like the JSON it makes.
func Example() {
	t := &template.Template{
		Parameters: template.Strings("ThingName", "SerialNumber", "CSR"),
		Resources: template.Resources{
			"thing": template.Thing{
				ThingName: template.Ref("ThingName"),
				AttributePayload: template.Object{
					"version":      template.Literal("v1"),
					"serialNumber": template.Ref("SerialNumber"),
				},
			},
			"certificate": template.Certificate{
				CertificateSigningRequest: template.Ref("CSR"),
				Status:                    template.Active,
			},
			"policy": template.Policy{PolicyName: template.Literal("sensors")},
		},
	}
	body, err := t.Body()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(body)
	// Output:
	// {"Parameters":{"CSR":{"Type":"String"},"SerialNumber":{"Type":"String"},"ThingName":{"Type":"String"}},"Resources":{"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}},"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"sensors"}},"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"serialNumber":{"Ref":"SerialNumber"},"version":"v1"}}}}}
}

// A slip is reported with its place and with what was probably meant.
func ExampleParse() {
	_, err := template.Parse([]byte(`{
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {"thingname": {"Ref": "ThingName"}}
    }
  }
}`))
	fmt.Println(err)
	if e, ok := errors.AsType[*finding.Finding](err); ok {
		fmt.Println(e.Line, e.Column, e.Pointer)
	}
	// Output:
	// template: line 5, column 22: /Resources/thing/Properties/thingname: there is no "thingname" in the properties of AWS::IoT::Thing; did you mean "ThingName"? AWS ignores names it does not know, and case matters [template-syntax]
	// 5 22 /Resources/thing/Properties/thingname
}

// The policy of AWS's own walkthrough lets a device publish, but not connect.
func ExampleTemplate_Check() {
	for _, issue := range template.Walkthrough().Check(template.Bulk) {
		fmt.Println(issue)
	}
	// Output:
	// /Resources/policy/Properties/PolicyDocument: warning: no policy allows iot:Connect for a client (arn:…:client/…): the device cannot connect; see OwnTopics for a policy that lets it [policy-no-connect]
}

func ExampleProgram_Resolve() {
	program, err := template.Walkthrough().Compile(template.CompileOptions{})
	if err != nil {
		log.Fatal(err)
	}
	r, err := program.Resolve(map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": "…"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Things[0].ThingName, r.Things[0].Attributes)

	_, err = program.Resolve(map[string]string{"ThingName": "device-two"})
	fmt.Println(errors.Is(err, template.ErrMissingParameter), err)
	// Output:
	// device-one map[serialNumber:001 version:v1]
	// true template: parameter "SerialNumber": /Resources/thing/Properties/AttributePayload/serialNumber/Ref: there is no value: give one in the row, or a Default in the template [missing-parameter]
}

func ExampleProgram_CheckRow() {
	program, err := template.WithoutCertificate("SerialNumber").Compile(template.CompileOptions{})
	if err != nil {
		log.Fatal(err)
	}
	for _, issue := range program.CheckRow(map[string]string{"ThingName": "pump 7", "serialNumber": "7"}) {
		fmt.Println(issue.Severity, issue.Rule, issue.Parameter)
	}
	// Output:
	// warning unknown-parameter serialNumber
	// error thing-name ThingName
	// error missing-parameter SerialNumber
}

// One struct gives the parameters of the template and the rows of the devices.
func ExampleParametersOf() {
	type Pump struct {
		ThingName string
		Serial    string `iot:"SerialNumber"`
		Site      string `iot:",default=Hamburg"`
	}
	params, err := template.ParametersOf[Pump]()
	if err != nil {
		log.Fatal(err)
	}
	t := template.WithoutCertificate("SerialNumber", "Site")
	t.Parameters = params
	program, err := t.Compile(template.CompileOptions{})
	if err != nil {
		log.Fatal(err)
	}
	row, err := template.RowOf(Pump{ThingName: "pump-7", Serial: "007"})
	if err != nil {
		log.Fatal(err)
	}
	r, err := program.Resolve(row)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(r.Things[0].Attributes)
	// Output:
	// map[SerialNumber:007 Site:Hamburg]
}

func ExampleOwnTopics() {
	fmt.Println(template.OwnTopics("aws", "eu-central-1", "123456789012"))
	// Output:
	// {"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect"],"Resource":["arn:aws:iot:eu-central-1:123456789012:client/${iot:Connection.Thing.ThingName}"]},{"Effect":"Allow","Action":["iot:Publish","iot:Receive"],"Resource":["arn:aws:iot:eu-central-1:123456789012:topic/devices/${iot:Connection.Thing.ThingName}/*"]},{"Effect":"Allow","Action":["iot:Subscribe"],"Resource":["arn:aws:iot:eu-central-1:123456789012:topicfilter/devices/${iot:Connection.Thing.ThingName}/*"]}]}
}

func ExampleFromCSR() {
	t := template.FromCSR(template.Policy{PolicyDocument: template.OwnTopics("aws", "eu-central-1", "123456789012")}, "SerialNumber")
	program, err := t.Compile(template.CompileOptions{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(program.Required())
	fmt.Println(len(t.Check(template.Bulk)), "findings")
	// Output:
	// [CSR SerialNumber ThingName]
	// 0 findings
}
