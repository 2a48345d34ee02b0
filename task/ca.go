package task

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

// CAInput describes a CA of the user's own that is to be registered, so that AWS IoT takes certificates that it issues.
type CAInput struct {
	CertificatePEM string // the CA's certificate
	// Prove returns a certificate in PEM, signed with the CA's key, whose common name is the account's registration code:
	// csr.CA.VerificationCertificate. It is required, except with SNIOnly.
	Prove func(registrationCode string) (certificatePEM string, err error)
	// SNIOnly registers the CA in SNI_ONLY mode, without a proof: several accounts of a region can have it then, and devices
	// must name the endpoint in the TLS handshake. Otherwise it is in DEFAULT mode.
	SNIOnly bool
	// AutoRegister registers a certificate of the CA that the account does not have when a device first connects with it.
	AutoRegister bool
	// TemplateBody and RoleARN make devices that first connect provisioned at once (just-in-time provisioning). Both or none,
	// and only with AutoRegister; without them, a rule on the event of a registration has to do it (just-in-time
	// registration).
	TemplateBody, RoleARN string
}

// CA is a CA of the user's own as the account holds it.
type CA struct {
	ID                    string // lower-case hex SHA-256 of the certificate's DER
	ARN                   string
	Active                bool // certificates of it can be registered
	AutoRegister, SNIOnly bool
	TemplateName          string // of just-in-time provisioning, where it is by name
	TemplateBody, RoleARN string
}

// CAEnsurer is the ability to register CAs of the user's own: AWS's RegisterCACertificate.
type CAEnsurer interface {
	// EnsureCA registers the CA as active if the account does not have it. It must be idempotent, leave one that is
	// registered as it is, and return [ErrConflict] for one that [CAInput.Suits] refuses.
	EnsureCA(ctx context.Context, in *CAInput) (*CA, error)
	// ReadCA returns a registered CA, given by its certificate. It must return [ErrNotFound] when the account does not have
	// it.
	ReadCA(ctx context.Context, certificatePEM string) (*CA, error)
}

// Check returns an [ErrInvalidRequest] if the input can't be right.
func (in *CAInput) Check() error {
	switch {
	case in == nil:
		return &InputError{Member: "input", Problem: "is nil"}
	case in.Prove == nil && !in.SNIOnly:
		return &InputError{Member: "Prove", Problem: "is missing; the CA's key has to sign the account's registration code, except in SNI_ONLY mode"}
	case (in.TemplateBody == "") != (in.RoleARN == ""):
		return &InputError{Member: "TemplateBody", Problem: "and RoleARN belong together: give both or none"}
	case in.TemplateBody != "" && !in.AutoRegister:
		return &InputError{Member: "TemplateBody", Problem: "is for devices that first connect; set AutoRegister, too"}
	}
	_, err := CertificateID(in.CertificatePEM)
	return err
}

// Suits returns an [ErrConflict] that tells what to do if a registered CA can't be used as the input wants it. The mode
// is not compared, since a device that names its endpoint is served in either.
func (in *CAInput) Suits(ca *CA) error {
	problem := ""
	switch {
	case !ca.Active:
		problem = "is INACTIVE, so that no certificate of it is taken: find out who deactivated it and why, then activate it (UpdateCACertificate with newStatus ACTIVE)"
	case in.AutoRegister && !ca.AutoRegister:
		problem = "does not register devices that first connect: switch that on (UpdateCACertificate with newAutoRegistrationStatus ENABLE)"
	case in.AutoRegister && in.TemplateBody == "" && ca.TemplateBody+ca.TemplateName != "":
		problem = "provisions devices that first connect with a template, and none was asked for: give that template, or take it off the CA (UpdateCACertificate)"
	case in.TemplateBody != "" && !jsonline.Same(in.TemplateBody, ca.TemplateBody):
		problem = "has another template, or none, for devices that first connect: give that one, or change it there (UpdateCACertificate with registrationConfig)"
	case in.TemplateBody != "" && in.RoleARN != ca.RoleARN:
		problem = "runs its template with the role " + ca.RoleARN + ": give that one, or change it there (UpdateCACertificate with registrationConfig)"
	}
	if problem == "" {
		return nil
	}
	return fmt.Errorf("%w: the CA %s is registered, and %s", ErrConflict, ca.ID, problem)
}

// CertificateID returns the id that AWS IoT gives the first certificate in a PEM text: the SHA-256 of its DER in
// lower-case hex. A text without one is an [ErrInvalidRequest].
func CertificateID(certificatePEM string) (string, error) {
	for rest := []byte(certificatePEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return "", &InputError{Member: "CertificatePEM", Problem: "has no PEM block CERTIFICATE"}
		}
		if block.Type == "CERTIFICATE" {
			sum := sha256.Sum256(block.Bytes)
			return hex.EncodeToString(sum[:]), nil
		}
	}
}
