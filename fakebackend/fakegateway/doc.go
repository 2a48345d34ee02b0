// Package fakegateway is AWS IoT's device gateway and message broker for a fake account: MQTT 3.1.1 and 5 over TLS with
// client certificates, and messages published over HTTPS. Devices of a test connect to it as they do to AWS, and are let
// in or refused by the certificates and policies that package fakebackend holds.
//
//	fake, err := fakebackend.New(fakebackend.Options{})
//	…
//	gateway, err := fakegateway.NewServer(fake, fakegateway.Options{})
//	…
//	defer gateway.Close()
//
// A device is pointed at gateway.Endpoint, which is "localhost:PORT", and trusts fake.RootCA(). It should use that name
// and no IP address: then it sends the name in the TLS handshake, which a certificate in SNI_ONLY mode needs. What
// happens, and why something was refused, is in fake.Events.
//
// Two gateways of one account are two brokers: a message does not cross from one to the other, nor does a client id that
// connects to one end the connection with the other.
//
// In a testing/synctest bubble, and wherever no port is wanted, a device connects in process:
//
//	gateway := fakegateway.NewUnstartedServer(fake, fakegateway.Options{})
//	defer gateway.Close()
//	network, err := gateway.Dial(ctx)
//	…
//	conn := tls.Client(network, &tls.Config{ServerName: "localhost", RootCAs: roots, Certificates: []tls.Certificate{device}})
//
// # What is modelled
//
// The rules are those of AWS's developer guide, with the code that MQTT 5 returns for each; docs/fidelity.md lists them
// with their sources. The topics that begin with $aws/ are those of presence and subscription events, of just-in-time
// registration and of provisioning by claim. Device shadows, jobs and MQTT over WebSocket are not modelled: they are
// refused, and an event tells so. Rates are not limited.
//
// # The broker
//
// Sessions, retained messages, wills and shared subscriptions are those of github.com/mochi-mqtt/server/v2, which is
// imported here and nowhere else. It is taken because it is embedded in a program as a library with hooks, speaks both
// versions of MQTT, and brings three small modules with it; other brokers in Go are programs first, or speak 3.1.1 only.
// It has no idea of AWS's rules and is not made for hostile clients, so each packet passes through this package before it
// gets there, and what it writes is queued here, with a bound, so that a client that does not read holds nobody up.
//
// AWS: https://docs.aws.amazon.com/iot/latest/developerguide/mqtt.html
package fakegateway
