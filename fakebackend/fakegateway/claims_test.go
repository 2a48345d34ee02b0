package fakegateway_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/eclipse/paho.golang/paho"
	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
)

// claimPolicy lets a claim do what provisioning by the template "fleet" needs.
const claimPolicy = `{"Version": "2012-10-17", "Statement": [
	{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"},
	{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": [
		"arn:aws:iot:*:*:topic/$aws/certificates/create*", "arn:aws:iot:*:*:topic/$aws/provisioning-templates/fleet/provision/*"]},
	{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": [
		"arn:aws:iot:*:*:topicfilter/$aws/certificates/create*", "arn:aws:iot:*:*:topicfilter/$aws/provisioning-templates/fleet/provision/*"]}]}`

const fleetTemplate = `{
	"Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
	"Resources": {
		"thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["-", ["device", {"Ref": "SerialNumber"}]]}}},
		"certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
		"policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "own"}}
	},
	"DeviceConfiguration": {"color": "blue"}
}`

// claimLab is an account with the template "fleet", a gateway, and a claim.
func claimLab(t testing.TB) (*lab, *device) {
	t.Helper()
	l := newLab(t, fakegateway.Options{ConnectTimeout: 5 * time.Minute}) // for the tests that connect many at once
	l.policy("claim", claimPolicy)
	role, err := l.fake.EnsureRole(t.Context(), &task.RoleInput{Name: "fleet"})
	require.NoError(t, err)
	_, err = l.aws.CreateProvisioningTemplate(t.Context(), &iot.CreateProvisioningTemplateInput{
		TemplateName: new("fleet"), TemplateBody: new(fleetTemplate), ProvisioningRoleArn: &role, Enabled: new(true)})
	require.NoError(t, err)
	return l, l.device("claim")
}

const (
	createTopic    = "$aws/certificates/create/"
	csrTopic       = "$aws/certificates/create-from-csr/"
	provisionTopic = "$aws/provisioning-templates/fleet/provision/"
)

// codec is a format as a device uses it.
type codec struct {
	name      string
	marshal   func(any) ([]byte, error)
	unmarshal func([]byte, any) error
}

var codecs = []codec{{"json", json.Marshal, json.Unmarshal}, {"cbor", cbor.Marshal, cbor.Unmarshal}}

// answer is any answer of provisioning by claim.
type answer struct {
	CertificateID             string            `json:"certificateId"`
	CertificatePEM            string            `json:"certificatePem"`
	PrivateKey                string            `json:"privateKey"`
	CertificateOwnershipToken string            `json:"certificateOwnershipToken"`
	DeviceConfiguration       map[string]string `json:"deviceConfiguration"`
	ThingName                 string            `json:"thingName"`
	StatusCode                int               `json:"statusCode"`
	ErrorCode                 string            `json:"errorCode"`
	ErrorMessage              string            `json:"errorMessage"`
}

// claimant is a device that is connected by claim, and has subscribed to all answers.
type claimant struct {
	*lab
	*client
	codec
}

func (l *lab) claimant(claim *device, id string, f codec) *claimant {
	l.t.Helper()
	c := &claimant{l, l.connect(claim, id), f}
	for _, topic := range []string{createTopic, csrTopic, provisionTopic} {
		l.subscribe(c.client, topic+f.name+"/accepted", topic+f.name+"/rejected")
	}
	return c
}

// send publishes a request.
func (c *claimant) send(topic string, request any) {
	c.t.Helper()
	payload, err := c.marshal(request)
	require.NoError(c.t, err)
	require.Zero(c.t, c.lab.publish(c.client, topic+c.name, string(payload)))
}

// ask sends a request, and returns the answer.
func (c *claimant) ask(topic string, request any, outcome string) (a answer) {
	c.t.Helper()
	c.send(topic, request)
	m := c.lab.next(c.client)
	require.Equal(c.t, topic+c.name+"/"+outcome, m.Topic, "%s", m.Payload)
	require.NoError(c.t, c.unmarshal(m.Payload, &a))
	return a
}

// csr makes a key and a signing request for it.
func csr() (*ecdsa.PrivateKey, string) {
	key := certtest.Key()
	return key, certtest.Request(key, pkix.Name{})
}

// keyed returns the certificate of an answer with its key.
func keyed(t testing.TB, a answer, key *ecdsa.PrivateKey) *device {
	t.Helper()
	block, _ := pem.Decode([]byte(a.CertificatePEM))
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.True(t, key.PublicKey.Equal(cert.PublicKey), "a certificate of another device's key")
	return &device{Certificate: tls.Certificate{Certificate: [][]byte{block.Bytes}, PrivateKey: key}, id: a.CertificateID}
}

type object = map[string]any

func TestADeviceProvisionsItselfByClaimInJSONAndCBOR(t *testing.T) {
	for _, f := range codecs {
		t.Run(f.name, func(t *testing.T) {
			l, claim := claimLab(t)
			c := l.claimant(claim, "anything", f)
			issued := c.ask(createTopic, object{}, "accepted")
			pair, err := tls.X509KeyPair([]byte(issued.CertificatePEM), []byte(issued.PrivateKey))
			require.NoError(t, err)
			own := &device{Certificate: pair, id: issued.CertificateID}
			_, err = l.mqtt5(l.dial(own), "device-1")
			require.Error(t, err, "not before it is provisioned")
			made := c.ask(provisionTopic, object{"certificateOwnershipToken": issued.CertificateOwnershipToken, "parameters": object{"SerialNumber": "1"}}, "accepted")
			assert.Equal(t, answer{ThingName: "device-1", DeviceConfiguration: map[string]string{"color": "blue"}}, made)
			l.connect(own, "device-1")

			key, request := csr()
			issued = c.ask(csrTopic, object{"certificateSigningRequest": request}, "accepted")
			assert.Empty(t, issued.PrivateKey)
			c.ask(provisionTopic, object{"certificateOwnershipToken": issued.CertificateOwnershipToken, "parameters": object{"SerialNumber": "2"}}, "accepted")
			l.connect(keyed(t, issued, key), "device-2")
		})
	}
}

func TestAClaimsRefusalSaysWhyAsAWSDoes(t *testing.T) {
	for _, f := range codecs {
		t.Run(f.name, func(t *testing.T) {
			l, claim := claimLab(t)
			c := l.claimant(claim, "anything", f)
			assert.Equal(t, answer{StatusCode: 400, ErrorCode: "InvalidCertificateOwnershipToken", ErrorMessage: "Certificate ownership token cannot be empty."},
				c.ask(provisionTopic, object{}, "rejected"))
			refused := c.ask(provisionTopic, object{"certificateOwnershipToken": 1}, "rejected")
			assert.Equal(t, []any{400, "InvalidParameters"}, []any{refused.StatusCode, refused.ErrorCode})
			assert.Contains(t, refused.ErrorMessage, "certificateOwnershipToken: it must be a string")
			l.refusal("payload")
			refused = c.ask(csrTopic, []string{"pem"}, "rejected")
			assert.Equal(t, 400, refused.StatusCode)
			refused = c.ask(csrTopic, object{"certificateSigningRequest": "no PEM"}, "rejected")
			assert.Equal(t, []any{400, "InvalidParameters"}, []any{refused.StatusCode, refused.ErrorCode})
			_, err := l.fake.AddFault(fakebackend.Fault{Operation: "ClaimCreateKeysAndCertificate", Do: fakebackend.Throttle})
			require.NoError(t, err)
			assert.Equal(t, answer{StatusCode: 429, ErrorCode: "Throttling", ErrorMessage: "Rate exceeded"}, c.ask(createTopic, object{}, "rejected"))

			_, request := csr()
			issued := c.ask(csrTopic, object{"certificateSigningRequest": request}, "accepted")
			refused = c.ask(provisionTopic, object{"certificateOwnershipToken": issued.CertificateOwnershipToken}, "rejected")
			assert.Equal(t, answer{StatusCode: 400, ErrorCode: "InvalidParameters", ErrorMessage: "Cannot resolve reference value: SerialNumber"}, refused)
			l.fake.Advance(time.Hour)
			refused = c.ask(provisionTopic, object{"certificateOwnershipToken": issued.CertificateOwnershipToken, "parameters": object{"SerialNumber": "1"}}, "rejected")
			assert.Equal(t, "InvalidCertificateOwnershipToken", refused.ErrorCode)
		})
	}
}

func TestPoliciesDecideAboutTheTopicsOfClaims(t *testing.T) {
	l, _ := claimLab(t)
	l.policy("keys", strings.ReplaceAll(claimPolicy, "create*", "create/*"))
	l.policy("mute", strings.ReplaceAll(claimPolicy, `["iot:Publish", "iot:Receive"]`, `"iot:Publish"`))
	c := l.connect(l.device("keys"), "anything")
	assert.Equal(t, []byte{1, 0x87}, l.subscribe(c, createTopic+"json/accepted", csrTopic+"json/accepted").Reasons)
	assert.EqualValues(t, 0x87, l.publish(c, csrTopic+"json", "{}"))
	mute := l.connect(l.device("mute"), "mute")
	l.subscribe(mute, createTopic+"json/accepted")
	assert.Zero(t, l.publish(mute, createTopic+"json", ""))
	e := l.await("a refusal to receive", func(e fakebackend.Event) bool { return e.Action == "iot:Receive" })
	assert.Equal(t, "mute", e.ClientID)
	assert.Empty(t, mute.messages)
}

func TestAnAnswerReachesTheDeviceThatAskedAlone(t *testing.T) {
	l, claim := claimLab(t)
	nosy := l.connect(l.device("anything"), "nosy")
	l.subscribe(nosy, "#", "$aws/#", "$aws/certificates/#", createTopic+"json/accepted", csrTopic+"+/+", provisionTopic+"#")
	deaf := l.connect(claim, "deaf")
	assert.Zero(t, l.publish(deaf, createTopic+"json", ""), "it is done, though nobody learns of it")
	devices := 1000
	if testing.Short() {
		devices = 40
	}
	var wg sync.WaitGroup
	for i := range devices {
		wg.Go(func() {
			c := l.claimant(claim, fmt.Sprint("claim-", i), codecs[i%2])
			key, request := csr()
			issued := c.ask(csrTopic, object{"certificateSigningRequest": request}, "accepted")
			own := keyed(t, issued, key)
			made := c.ask(provisionTopic, object{"certificateOwnershipToken": issued.CertificateOwnershipToken, "parameters": object{"SerialNumber": fmt.Sprint(i)}}, "accepted")
			assert.Equal(t, fmt.Sprint("device-", i), made.ThingName)
			assert.NoError(t, c.Disconnect(&paho.Disconnect{}))
			l.connect(own, made.ThingName)
			assert.Empty(t, c.messages)
		})
	}
	wg.Wait()
	for m := nosy.messages; len(m) > 0; {
		assert.NotContains(t, (<-m).Topic, "certificates/create")
	}
	assert.Empty(t, deaf.messages)
	assert.Equal(t, devices, l.fake.Counts().Things)
	for thing := range l.fake.Things() {
		assert.Len(t, thing.Certificates, 1)
	}
}

// A connection that a fault cuts ends without an answer, and what the device asks for once more is not there twice.
func TestADeviceThatIsCutOffDuringAClaimGoesOn(t *testing.T) {
	for _, effect := range []fakebackend.Effect{fakebackend.DropBefore, fakebackend.DropAfter} {
		t.Run(string(effect), func(t *testing.T) {
			l, claim := claimLab(t)
			c := l.claimant(claim, "anything", codecs[0])
			key, request := csr()
			issued := c.ask(csrTopic, object{"certificateSigningRequest": request}, "accepted")
			provision := object{"certificateOwnershipToken": issued.CertificateOwnershipToken, "parameters": object{"SerialNumber": "1"}}
			_, err := l.fake.AddFault(fakebackend.Fault{Operation: "ClaimRegisterThing", Do: effect})
			require.NoError(t, err)
			payload, err := json.Marshal(provision)
			require.NoError(t, err)
			_, _ = c.Publish(t.Context(), &paho.Publish{Topic: provisionTopic + "json", QoS: 1, Payload: payload})
			<-c.Done()
			assert.Empty(t, c.messages)

			c = l.claimant(claim, "anything", codecs[1])
			c.ask(provisionTopic, provision, "accepted")
			l.connect(keyed(t, issued, key), "device-1")
			for thing := range l.fake.Things() {
				require.Len(t, thing.Certificates, 1)
				assert.Equal(t, issued.CertificateID, thing.Certificates[0].ID)
			}
		})
	}
}
