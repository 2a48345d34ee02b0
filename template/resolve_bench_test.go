package template_test

import (
	"testing"

	"github.com/seed1ff6f450/iotfleet/template"
)

func BenchmarkResolve(b *testing.B) {
	program, err := template.Walkthrough().Compile(template.CompileOptions{})
	if err != nil {
		b.Fatal(err)
	}
	row := map[string]string{"ThingName": "device-one", "SerialNumber": "001", "CSR": "-----BEGIN CERTIFICATE REQUEST-----"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := program.Resolve(row); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	body, err := template.Walkthrough().Body()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := template.Parse([]byte(body)); err != nil {
			b.Fatal(err)
		}
	}
}
