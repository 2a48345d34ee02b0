package provision_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// field is where the devices of a seed are that is left to their first connections. They connect to the fake's gateway with
// what was delivered for them: at random moments while a process runs, between two, or never. The account then provisions
// them by a template, or registers them, and somebody's rule makes their things step by step.
type field struct {
	rule     bool // just-in-time registration
	gateway  *fakegateway.Server
	moving   sync.Mutex // held while they do something
	rng      *rand.Rand
	stays    map[string]bool // those that never connect
	ruleSeen map[string]int  // how many steps of the rule were done for those that have connected
}

// simFirstConnection has what the devices need to connect.
const simFirstConnection = `{"Parameters":{"AWS::IoT::Certificate::Id":{"Type":"String"},"AWS::IoT::Certificate::CommonName":{"Type":"String"}},
	"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"AWS::IoT::Certificate::CommonName"}}},
	"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":{"Ref":"AWS::IoT::Certificate::Id"},"Status":"ACTIVE"}},
	"policy":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"hello"}}}}`

// drawField leaves the devices to their first connections.
func (s *sim) drawField(ctx context.Context, rng *rand.Rand) error {
	s.field = &field{rule: rng.IntN(2) == 0, rng: rng, stays: map[string]bool{}, ruleSeen: map[string]int{}}
	s.steps, s.extra, s.disk = false, false, false
	_, err := awsIoT(s.fake).CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: new("hello"), PolicyDocument: new(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)})
	if err != nil {
		return err
	}
	ca, err := s.ca()
	if err != nil {
		return err
	}
	in := &task.CAInput{CertificatePEM: ca.PEM(), Prove: ca.VerificationCertificate, AutoRegister: true}
	if !s.field.rule {
		in.TemplateBody, in.RoleARN = simFirstConnection, s.role
	}
	if _, err := s.fake.EnsureCA(ctx, in); err != nil {
		return err
	}
	s.field.gateway = fakegateway.NewUnstartedServer(s.fake, fakegateway.Options{})
	return nil
}

// drawStays draws who never connects. A type that does not exist makes no device fail, since no line names it.
func (f *field) drawStays(s *sim) {
	for i, d := range s.devices {
		if s.want[i] == provision.CauseTypeMissing {
			s.want[i] = provision.CauseNone
		}
		if f.rng.IntN(4) == 0 {
			f.stays[d.Row["ThingName"]] = true
		}
	}
}

// move lets a device do something, or none. Whoever is moving already goes on alone.
func (f *field) move(s *sim) {
	if f == nil || !f.moving.TryLock() {
		return
	}
	defer f.moving.Unlock()
	if there := f.delivered(s); len(there) > 0 && f.rng.IntN(6) == 0 {
		f.step(s, there[f.rng.IntN(len(there))])
	}
}

// moveAll lets all that ever connect do so, until they are registered.
func (f *field) moveAll(s *sim) {
	f.moving.Lock()
	defer f.moving.Unlock()
	for _, d := range f.delivered(s) {
		for range 8 {
			f.step(s, d)
		}
	}
}

// delivered are the devices that have what they connect with, apart from those that never do.
func (f *field) delivered(s *sim) (list []provision.Delivery) {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(s.out.durable)) {
		if !f.stays[name] {
			list = append(list, s.out.durable[name])
		}
	}
	return list
}

// step lets a device connect, and the rule do one thing for it.
func (f *field) step(s *sim, d provision.Delivery) {
	connected, err := f.connect(s, d)
	if err == nil && !connected && f.rule {
		err = f.runRule(s, d)
	}
	if err != nil {
		s.violated("%s connects: %v", d.ThingName, err)
	}
}

// connect sends the CONNECT of MQTT 3.1.1 and reports whether it was accepted.
func (f *field) connect(s *sim, d provision.Delivery) (accepted bool, err error) {
	ctx := context.Background()
	s.keys.mu.Lock()
	rec, ok := s.keys.durable[d.ThingName]
	s.keys.mu.Unlock()
	if !ok {
		return false, errors.New("its key is not durable")
	}
	identity := tls.Certificate{PrivateKey: rec.Key.Signer()}
	for rest := []byte(d.CertificatePEM + d.IssuerPEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		identity.Certificate = append(identity.Certificate, block.Bytes)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(s.fake.RootCA())
	raw, err := f.gateway.Dial(ctx)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{RootCAs: roots, ServerName: "localhost", Certificates: []tls.Certificate{identity}})
	if err := conn.HandshakeContext(ctx); err != nil {
		return false, err
	}
	body := append([]byte{0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(d.ClientID))}, d.ClientID...)
	if _, err := conn.Write(append([]byte{0x10, byte(len(body))}, body...)); err != nil {
		return false, err
	}
	var ack [4]byte
	_, err = io.ReadFull(conn, ack[:])
	return err == nil && bytes.Equal(ack[:], []byte{0x20, 2, 0, 0}), nil // closed without one at the first connection
}

// runRule does the next of the steps that a Lambda function would do for a certificate that was registered.
func (f *field) runRule(s *sim, d provision.Delivery) (err error) {
	ctx, client := context.Background(), awsIoT(s.fake)
	id, err := task.CertificateID(d.CertificatePEM)
	if err != nil {
		return err
	}
	switch f.ruleSeen[d.ThingName]++; f.ruleSeen[d.ThingName] {
	case 1:
		_, err = client.CreateThing(ctx, &iot.CreateThingInput{ThingName: new(d.ThingName)})
	case 2:
		_, err = client.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: new(d.ThingName), Principal: new(d.CertificateARN)})
	case 3:
		_, err = client.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: new("hello"), Target: new(d.CertificateARN)})
	case 4:
		_, err = client.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: new(id), NewStatus: types.CertificateStatusActive})
	}
	return err
}

// hasCertificate reports whether the account has a device's thing with an ACTIVE certificate.
func (s *sim) hasCertificate(thing, id string) bool {
	t, ok := s.fake.Thing(thing)
	return ok && slices.ContainsFunc(t.Certificates, func(c task.Certificate) bool { return c.ID == id && c.Status == "ACTIVE" })
}

// checkVerdicts is the promise that nobody is called provisioned before the account has the thing with the certificate.
func (f *field) checkVerdicts(s *sim, devices []*provision.DeviceRecord) {
	if f == nil {
		return
	}
	for _, d := range devices {
		if d.Verdict == provision.Provisioned && !s.hasCertificate(d.Name, d.CertificateID) {
			s.violated("%s is called provisioned, and the account has no thing of it with its certificate ACTIVE", d.Name)
		}
	}
}

// checkIssued is the promise about a device that has not connected: it has its key, and what was delivered is the certificate
// that the ledger has.
func (f *field) checkIssued(s *sim, d *provision.DeviceRecord) {
	if !f.stays[d.Name] {
		s.violated("%s has connected and is %s: %s", d.Name, d.Verdict, d.Message)
	}
	rec := s.keys.durable[d.Name]
	if out := s.out.durable[d.Name]; out.CertificatePEM != d.CertificatePEM || rec.CertificatePEM != d.CertificatePEM || d.CertificatePEM == "" {
		s.violated("%s: its certificate is not the same in the key store, the output and the ledger", d.Name)
	}
}

// checkAccount is the promise that no device has two certificates, and that nobody registers in the run's place.
func (f *field) checkAccount(s *sim) {
	subjects := map[string]int{}
	for c := range s.fake.Certificates() {
		block, _ := pem.Decode([]byte(c.PEM))
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			subjects[cert.Subject.CommonName]++
		}
	}
	for name, n := range subjects {
		if n > 1 || f.stays[name] {
			s.violated("the account has %d certificates of %s (which never connects: %v)", n, name, f.stays[name])
		}
	}
	for d := range s.fake.Tasks() {
		s.violated("a task was started, %s", d.ID)
	}
}
