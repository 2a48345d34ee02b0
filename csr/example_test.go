package csr_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log"

	"github.com/seed1ff6f450/iotfleet/csr"
)

func devices(names ...string) func(func(csr.Device, error) bool) {
	return func(yield func(csr.Device, error) bool) {
		for i, name := range names {
			row := map[string]string{"ThingName": name, "SerialNumber": fmt.Sprintf("%03d", i+1)}
			if !yield(csr.Device{Name: name, Row: row}, nil) {
				return
			}
		}
	}
}

func Example() {
	var g csr.Generator // P-256 keys, CN=<device name>
	for result, err := range g.All(context.Background(), devices("device-one", "device-two")) {
		if err != nil {
			log.Fatal(err)
		}
		if result.Err != nil {
			log.Print(result.Err) // this device alone
			continue
		}
		fmt.Println(result.Device.Name, result.Request.Subject(), result.Request.Algorithm(), result.Key)
	}
	// Output:
	// device-one CN=device-one p256 [private key]
	// device-two CN=device-two p256 [private key]
}

func ExampleGenerator_All() {
	subject, err := csr.ParsePattern("C=US,ST=WA,O=MyOrg,CN={ThingName},serialNumber={SerialNumber}")
	if err != nil {
		log.Fatal(err)
	}
	g := csr.Generator{Keys: csr.Software(csr.P384), Subject: subject.Subject, Workers: 2, Window: 64}
	for result, err := range g.All(context.Background(), devices("device-one", "device-two", "device-three")) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Index, result.Request.Subject())
	}
	// Output:
	// 0 C=US,ST=WA,O=MyOrg,CN=device-one,serialNumber=001
	// 1 C=US,ST=WA,O=MyOrg,CN=device-two,serialNumber=002
	// 2 C=US,ST=WA,O=MyOrg,CN=device-three,serialNumber=003
}

// A key source for keys that were made before, or that a module keeps: one method.
type module map[string]crypto.Signer

func (m module) Signer(_ context.Context, device string) (crypto.Signer, error) {
	signer, ok := m[device]
	if !ok {
		return nil, errors.New("the module has no key of that name")
	}
	return signer, nil
}

func ExampleKeySource() {
	key, err := csr.Software(csr.P256).Signer(context.Background(), "device-one")
	if err != nil {
		log.Fatal(err)
	}
	g := csr.Generator{Keys: module{"device-one": key}}
	for _, name := range []string{"device-one", "device-two"} {
		result := g.One(context.Background(), csr.Device{Name: name})
		fmt.Println(result.Device.Name, result.Err)
	}
	// Output:
	// device-one <nil>
	// device-two device "device-two": get the key: the module has no key of that name
}

func ExampleParse() {
	const cutShort = `-----BEGIN CERTIFICATE REQUEST-----
MIIBUDCBugIBADARMQ8wDQYDVQQDDAZkZXZpY2UwgZ8wDQYJKoZIhvcNAQEBBQAD
`
	_, err := csr.Parse([]byte(cutShort))
	fmt.Println(err)
	_, err = csr.Parse([]byte("device_one.csr"))
	fmt.Println(err)
	fmt.Println(errors.Is(err, csr.ErrNotCSR))
	// Output:
	// not a certificate signing request: there is no line -----END CERTIFICATE REQUEST-----; the text was cut short or damaged
	// not a certificate signing request: this looks like the name of a file; read the file and give its content
	// true
}

func ExampleParseSubject() {
	for _, text := range []string{"/C=US/ST=WA/L=Seattle/O=MyOrg/CN=MyDept", `O=Acme\, Inc., CN=a`, "CN=a,C=USA"} {
		subject, err := csr.ParseSubject(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(subject)
	}
	// Output:
	// C=US,ST=WA,L=Seattle,O=MyOrg,CN=MyDept
	// O=Acme\, Inc.,CN=a
	// subject not valid: C "USA" is not a country code; it is exactly two letters of ISO 3166, such as US (at byte 7)
}

func ExamplePattern_Subject() {
	pattern, err := csr.ParsePattern("CN={ThingName},O=MyOrg")
	if err != nil {
		log.Fatal(err)
	}
	subject, _ := pattern.Subject(csr.Device{Row: map[string]string{"ThingName": "a,O=Evil"}})
	fmt.Println(len(subject), subject)
	_, err = pattern.Subject(csr.Device{Row: map[string]string{"SerialNumber": "001"}})
	fmt.Println(err)
	// Output:
	// 2 CN=a\,O=Evil,O=MyOrg
	// field "ThingName" is missing in the row; the subject needs it for CN
}

func ExamplePublicKeySHA256() {
	result := new(csr.Generator).One(context.Background(), csr.Device{Name: "device-one"})
	digest, err := csr.PublicKeySHA256(result.Key.Public())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(digest == result.Request.PublicKeySHA256())
	// Output: true
}
