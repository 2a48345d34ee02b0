package wire

import (
	"context"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
)

// Claims is provisioning by claim as a device gateway sees it: the operations that devices call over MQTT. It is safe
// for concurrent use.
//
// The error of each is a *[ClaimError], which is the answer to the device. After any other error the connection ends
// without an answer: a fault has cut it, or the context has ended.
type Claims interface {
	// CreateKeysAndCertificate makes a key and a certificate for it.
	CreateKeysAndCertificate(ctx context.Context, d Device) (*Issued, error)
	// CreateCertificateFromCSR makes a certificate for the key of a signing request in PEM.
	CreateCertificateFromCSR(ctx context.Context, d Device, csr string) (*Issued, error)
	// ProvisionThing runs a provisioning template, given by its name, for the certificate that a token proves ownership of.
	ProvisionThing(ctx context.Context, d Device, template, token string, parameters map[string]string) (*Provisioned, error)
}

// Issued is a certificate that a device got by its claim. It is PENDING_ACTIVATION.
type Issued struct {
	CertificateID  string
	CertificatePEM string
	PrivateKey     restjson.Secret // PEM; of CreateKeysAndCertificate
	Token          restjson.Secret // certificateOwnershipToken
}

// Provisioned is a device that was provisioned.
type Provisioned struct {
	ThingName           string            // "" if the template makes no thing
	DeviceConfiguration map[string]string // never nil
}

// ClaimError is the answer to a device whose request was refused.
type ClaimError struct {
	Status  int    // statusCode, as in HTTP
	Code    string // errorCode, such as InvalidCertificateOwnershipToken
	Message string // errorMessage
	Detail  string // for people, not for the device: why a hook has not allowed it
}

// Error returns code and message, and the detail if there is one.
func (e *ClaimError) Error() string {
	text := e.Code + ": " + e.Message
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}
