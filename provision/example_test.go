package provision_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// account is a fake account with a service role.
func account(ctx context.Context) (*fakebackend.Backend, string) {
	fake, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		log.Fatal(err)
	}
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration"})
	if err != nil {
		log.Fatal(err)
	}
	return fake, role
}

// printResults prints what became of each device.
func printResults(ctx context.Context, run *provision.Run) {
	for d, err := range run.Results(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(strings.TrimSuffix(strings.Join([]string{d.Name, string(d.Verdict), d.Message}, ": "), ": "))
	}
}

// pumps is a template for certificates that AWS issues from a CSR. Devices may connect as themselves, and have a place.
func pumps() *template.Template {
	policy := template.Policy{PolicyDocument: template.OwnTopics("aws", "us-east-1", "123456789012")}
	return template.FromCSR(policy, "Place")
}

// Two devices of a CSV become things with certificates; the third has a name that AWS does not take, and costs the
// others nothing.
func ExampleRun_Run() {
	ctx := context.Background()
	fake, role := account(ctx)
	dir, err := os.MkdirTemp("", "devices-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	run, err := provision.New(provision.Options{
		Backend:    fake,
		Template:   template.Walkthrough(),
		RoleARN:    role,
		Credential: &provision.MakeCSR{Store: keys},
		Output:     provision.Folder(keys),
	})
	if err != nil {
		log.Fatal(err)
	}
	list := "ThingName,SerialNumber\npump-1,001\npump-2,002\npump 3,003\n"
	summary, err := run.Run(ctx, provision.FromCSV(strings.NewReader(list), "pumps.csv", nil))
	fmt.Println(summary)
	fmt.Println("all of them:", !errors.Is(err, provision.ErrIncomplete))
	for d, err := range run.Results(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s (%s): %s\n", d.Name, d.Source, d.Verdict)
	}
	// Output:
	// 2 of 3 devices provisioned, 1 failed; causes: invalid-record 1
	// all of them: false
	// pump-1 (pumps.csv:2): provisioned
	// pump-2 (pumps.csv:3): provisioned
	// pump 3 (pumps.csv:4): failed
}

// Keys that never leave a hardware module: the run asks the module for a signer for each device, and keeps no key.
func ExampleMakeCSR_hardware() {
	ctx := context.Background()
	fake, role := account(ctx)
	run, err := provision.New(provision.Options{
		Backend:  fake,
		Template: pumps(),
		RoleARN:  role,
		Credential: &provision.MakeCSR{
			Keys:    &module{slots: map[string]*slot{}},
			Store:   keystore.None(), // a Folder, or a Store of package sqlitekeys, opened with KeysElsewhere keeps the requests
			Workers: 1,               // sessions that the module has
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	summary, err := run.Run(ctx, provision.Rows(
		map[string]string{"ThingName": "pump-1", "Place": "hall-1"},
		map[string]string{"ThingName": "pump-2", "Place": "hall-1"},
	))
	fmt.Println(summary, err)
	// Output: 2 of 2 devices provisioned <nil>
}

// module stands for a hardware module. It gives a device the same key whenever it is asked, so that a run that goes on
// after an interruption makes no second one. With several Workers it must be safe for concurrent use.
type module struct{ slots map[string]*slot }

func (m *module) Signer(_ context.Context, device string) (crypto.Signer, error) {
	if s, ok := m.slots[device]; ok {
		return s, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	m.slots[device] = &slot{key}
	return m.slots[device], nil
}

// slot is a key in the module: it signs, and there is no way to read it.
type slot struct{ inside *ecdsa.PrivateKey }

func (s *slot) Public() crypto.PublicKey { return s.inside.Public() }

func (s *slot) Sign(random io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.inside.Sign(random, digest, opts)
}

// Certificate signing requests that the devices or their vendor made come with the list.
func ExampleGivenCSR() {
	ctx := context.Background()
	fake, role := account(ctx)
	run, err := provision.New(provision.Options{
		Backend: fake, Template: pumps(), RoleARN: role, Credential: &provision.GivenCSR{},
	})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // on the device
	if err != nil {
		log.Fatal(err)
	}
	request, err := csr.Create(key, csr.CommonName("pump-1"))
	if err != nil {
		log.Fatal(err)
	}
	_, err = run.Run(ctx, provision.Rows(
		map[string]string{"ThingName": "pump-1", "Place": "hall-1", "CSR": request.PEM()},
		map[string]string{"ThingName": "pump-2", "Place": "hall-1", "CSR": request.PEM()},
	))
	fmt.Println(err)
	printResults(ctx, run)
	// Output:
	// 1 of 2 devices provisioned, 1 failed; causes: invalid-record 1
	// pump-1: provisioned
	// pump-2: failed: it comes with the request or certificate of "pump-1", which is record 1; give each device its own
}

// pumpsCA is a CA of one's own. Its key may rest in an HSM: any crypto.Signer will do.
func pumpsCA() *csr.CA {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Pumps CA"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(20, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, root, root, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		log.Fatal(err)
	}
	ca, err := csr.NewCA(root, key, csr.Profile{Validity: 10 * 365 * 24 * time.Hour})
	if err != nil {
		log.Fatal(err)
	}
	return ca
}

// The run makes the keys, and one's own CA the certificates. The account must know the CA.
func ExampleIssueCertificate() {
	ctx := context.Background()
	fake, role := account(ctx)
	ca := pumpsCA()
	if _, err := fake.EnsureCA(ctx, &task.CAInput{CertificatePEM: ca.PEM(), Prove: ca.VerificationCertificate}); err != nil {
		log.Fatal(err)
	}
	policy := template.Policy{PolicyDocument: template.OwnTopics("aws", "us-east-1", "123456789012")}
	run, err := provision.New(provision.Options{
		Backend: fake, Template: template.FromOwnCA(policy), RoleARN: role,
		Credential: &provision.IssueCertificate{CA: ca, Store: keystore.Memory()}, // a Folder, or a Store of package sqlitekeys, for real keys
	})
	if err != nil {
		log.Fatal(err)
	}
	summary, err := run.Run(ctx, provision.Rows(map[string]string{"ThingName": "pump-1"}))
	fmt.Println(summary, err)
	// Output: 1 of 1 device provisioned <nil>
}

// Certificates that were made elsewhere come with the list. Their CA is not registered in the account here, which the role
// must allow.
func ExampleGivenCertificate() {
	ctx := context.Background()
	fake, _ := account(ctx)
	role, err := fake.EnsureRole(ctx, &task.RoleInput{Name: "registration", RegisterWithoutCA: true})
	if err != nil {
		log.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // on the device
	if err != nil {
		log.Fatal(err)
	}
	certificate, err := pumpsCA().Issue(key.Public(), csr.CommonName("pump-1"))
	if err != nil {
		log.Fatal(err)
	}
	policy := template.Policy{PolicyDocument: template.OwnTopics("aws", "us-east-1", "123456789012")}
	run, err := provision.New(provision.Options{
		Backend: fake, Template: template.FromCertificatePEM(policy), RoleARN: role, Credential: &provision.GivenCertificate{},
	})
	if err != nil {
		log.Fatal(err)
	}
	summary, err := run.Run(ctx, provision.Rows(map[string]string{"ThingName": "pump-1", "CertificatePem": certificate}))
	fmt.Println(summary, err)
	// Output: 1 of 1 device provisioned <nil>
}

// A board is swapped: its device gets a new key and certificate at once, and the old certificate is taken out of service.
func ExampleRun_Register() {
	ctx := context.Background()
	fake, role := account(ctx)
	list := provision.Rows(map[string]string{"ThingName": "pump-1", "Place": "hall-1"})
	for _, existing := range []provision.Existing{provision.RefuseExisting, provision.ReplaceExisting} {
		run, err := provision.New(provision.Options{
			Backend: fake, Template: pumps(), RoleARN: role, Credential: &provision.MakeCSR{Store: keystore.Memory()}, Existing: existing,
		})
		if err != nil {
			log.Fatal(err)
		}
		for device := range list {
			result, err := run.Register(ctx, device)
			if err != nil {
				log.Fatal(err)
			}
			fmt.Println(result.Verdict, len(result.Existing))
		}
	}
	device, _ := fake.Thing("pump-1")
	fmt.Println(len(device.Certificates), "certificate")
	// Output:
	// provisioned 0
	// provisioned 1
	// 1 certificate
}

// A factory's own list: semicolons, other names, and columns that the template has no parameter for. A row may hold
// parameters of the template only, so the columns to keep are named.
func ExampleFromCSV() {
	list := "Serial No.;Colour;Hall\npump-1;red;hall-1\npump-2;blue; hall-2\n"
	devices := provision.FromCSV(strings.NewReader(list), "pumps.csv", &datafile.CSVOptions{
		Comma:     ';',
		Rename:    map[string]string{"Serial No.": "ThingName", "Hall": "Place"},
		Columns:   []string{"ThingName", "Place"},
		TrimSpace: true,
	})
	for d, err := range devices {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(d.Source, d.Row)
	}
	// Output:
	// pumps.csv:2 map[Place:hall-1 ThingName:pump-1]
	// pumps.csv:3 map[Place:hall-2 ThingName:pump-2]
}

// Look at a list before anything is sent.
func ExampleRun_Check() {
	ctx := context.Background()
	fake, role := account(ctx)
	run, err := provision.New(provision.Options{
		Backend: fake, Template: pumps(), RoleARN: role, Credential: &provision.MakeCSR{Store: keystore.None()},
	})
	if err != nil {
		log.Fatal(err)
	}
	list := "ThingName,Place\npump-1,hall-1\npump-2,hall 2\n"
	report, err := run.Check(ctx, provision.FromCSV(strings.NewReader(list), "pumps.csv", nil))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("all well:", report.OK())
	fmt.Println("the first would get", report.Samples[0].Creates.Things[0].Attributes)
	for _, p := range report.Refusals {
		fmt.Printf("%s: %s: %s\n", p.Source, p.Cause, p.Message)
	}
	// Output:
	// all well: false
	// the first would get map[Place:hall-1]
	// pumps.csv:3: invalid-record: parameter "Place": /Resources/thing/Properties/AttributePayload/Place: attribute value "hall 2" has ' ' at byte 4; AWS allows [a-zA-Z0-9_.,@/:#=\[\]-]* [attribute-value]
}

// What failed is written as CSV, mended by somebody, and given back to the same run.
func ExampleRun_Amend() {
	ctx := context.Background()
	fake, role := account(ctx)
	dir, err := os.MkdirTemp("", "devices-")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	keys, err := keystore.OpenFolder(dir, nil)
	if err != nil {
		log.Fatal(err)
	}
	run, err := provision.New(provision.Options{
		Backend: fake, Template: pumps(), RoleARN: role, Credential: &provision.MakeCSR{Store: keys}, Output: provision.Folder(keys),
	})
	if err != nil {
		log.Fatal(err)
	}
	list := "ThingName,Place\npump-1,hall-1\npump-2,hall 2\n"
	_, err = run.Run(ctx, provision.FromCSV(strings.NewReader(list), "pumps.csv", nil))
	fmt.Println(err)

	var failures strings.Builder
	if err := run.WriteFailures(ctx, &failures); err != nil {
		log.Fatal(err)
	}
	mended := strings.ReplaceAll(failures.String(), ",hall 2,", ",hall-2,")
	summary, err := run.Amend(ctx, provision.FromCSV(strings.NewReader(mended), "failures.csv", nil))
	fmt.Println(summary, err)
	// Output:
	// 1 of 2 devices provisioned, 1 failed; causes: invalid-record 1
	// 2 of 2 devices provisioned <nil>
}
