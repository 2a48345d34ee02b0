package fakegateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

// A device connects with a certificate of the account, and may do what its policy allows. Why something was refused is in
// the account's events.
func Example() {
	ctx := context.Background()
	fake, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	gateway, err := fakegateway.NewServer(fake, fakegateway.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer gateway.Close()

	device, err := registered(ctx, fake, `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:us-east-1:123456789012:client/device-one"},
		{"Effect": "Allow", "Action": "iot:Publish", "Resource": "arn:aws:iot:us-east-1:123456789012:topic/dt/device-one/*"}]}`)
	if err != nil {
		fmt.Println(err)
		return
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(fake.RootCA())
	conn, err := tls.Dial("tcp", gateway.Endpoint, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{device}})
	if err != nil {
		fmt.Println(err)
		return
	}
	client := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn), ClientID: "device-one"})
	if _, err := client.Connect(ctx, &paho.Connect{ClientID: "device-one", CleanStart: true, KeepAlive: 30}); err != nil {
		fmt.Println(err)
		return
	}
	for _, topic := range []string{"dt/device-one/hello", "dt/device-two/hello"} {
		ack, _ := client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte("hello")})
		fmt.Printf("%s: %#x\n", topic, ack.ReasonCode)
	}
	for e := range fake.Events(ctx) {
		fmt.Println(e.Kind, e.Text)
		if e.Kind == fakebackend.EventRefused {
			break
		}
	}
	_ = client.Disconnect(&paho.Disconnect{})
	// Output:
	// dt/device-one/hello: 0x0
	// dt/device-two/hello: 0x87
	// connected MQTT 5
	// refused iot:Publish on topic/dt/device-two/hello: no statement of the policy devices allows it
}

// registered makes a certificate with a policy, and its key.
func registered(ctx context.Context, fake *fakebackend.Backend, document string) (tls.Certificate, error) {
	aws := iot.NewFromConfig(fakeaws.Config(fake))
	name := "devices"
	if _, err := aws.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: &name, PolicyDocument: &document}); err != nil {
		return tls.Certificate{}, err
	}
	made, err := aws.CreateKeysAndCertificate(ctx, &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		return tls.Certificate{}, err
	}
	if _, err := aws.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: &name, Target: made.CertificateArn}); err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair([]byte(*made.CertificatePem), []byte(*made.KeyPair.PrivateKey))
}
