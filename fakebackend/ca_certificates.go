package fakebackend

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/task"
)

// CA certificates of the customer's own: GetRegistrationCode, DeleteRegistrationCode, RegisterCACertificate,
// DescribeCACertificate, UpdateCACertificate, DeleteCACertificate, ListCACertificates.
//
// Models: the verification certificate with the registration code as its common name; CAs in SNI_ONLY mode without one;
// at most ten CAs with one subject. Not modelled: registration at a device's first connection, transfers.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterCACertificate.html

// casWithOneSubject is how many CAs of an account can have the same subject.
const casWithOneSubject = 10

// The modes of a CA certificate.
const (
	modeDefault = "DEFAULT"
	modeSNIOnly = "SNI_ONLY"
)

// GetRegistrationCodeInput is the request of GetRegistrationCode.
type GetRegistrationCodeInput struct{}

// GetRegistrationCodeOutput is the answer to GetRegistrationCode.
type GetRegistrationCodeOutput struct {
	RegistrationCode string `json:"registrationCode"`
}

// GetRegistrationCode gives the account's registration code.
func (b *IoT) GetRegistrationCode(ctx context.Context, _ *GetRegistrationCodeInput) (*GetRegistrationCodeOutput, error) {
	return invoke(ctx, b, "GetRegistrationCode", "", nil, func(time.Time) (*GetRegistrationCodeOutput, *task.Error) {
		return &GetRegistrationCodeOutput{b.registrationCode()}, nil
	})
}

func (b *IoT) registrationCode() string {
	return fmt.Sprintf("%x", b.digest("registration code", b.st.codes))
}

// DeleteRegistrationCodeInput is the request of DeleteRegistrationCode.
type DeleteRegistrationCodeInput struct{}

// DeleteRegistrationCodeOutput is the answer to DeleteRegistrationCode.
type DeleteRegistrationCodeOutput struct{}

// DeleteRegistrationCode makes the next registration code another one.
func (b *IoT) DeleteRegistrationCode(ctx context.Context, _ *DeleteRegistrationCodeInput) (*DeleteRegistrationCodeOutput, error) {
	return invoke(ctx, b, "DeleteRegistrationCode", "", nil, func(time.Time) (*DeleteRegistrationCodeOutput, *task.Error) {
		b.st.codes++
		return &DeleteRegistrationCodeOutput{}, nil
	})
}

// RegistrationConfig says how devices with certificates of a CA are registered when they first connect. It is kept and
// given back.
type RegistrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty"`
	RoleARN      string `json:"roleArn,omitempty"`
	TemplateName string `json:"templateName,omitempty"`
}

func (r *RegistrationConfig) clone() *RegistrationConfig {
	if r == nil {
		return nil
	}
	return new(*r)
}

func (c *checker) registrationConfig(r *RegistrationConfig) {
	if r != nil {
		c.may("registrationConfig.templateBody", r.TemplateBody, shapeTemplateBody)
		c.may("registrationConfig.roleArn", r.RoleARN, shapeRoleARN)
		c.may("registrationConfig.templateName", r.TemplateName, shapeTemplateName)
	}
}

// RegisterCACertificateInput is the request of RegisterCACertificate.
type RegisterCACertificateInput struct {
	CACertificate           string              `json:"caCertificate"`
	VerificationCertificate string              `json:"verificationCertificate,omitempty"`
	SetAsActive             bool                `json:"setAsActive,omitempty"`
	AllowAutoRegistration   bool                `json:"allowAutoRegistration,omitempty"`
	RegistrationConfig      *RegistrationConfig `json:"registrationConfig,omitempty"`
	Tags                    []Tag               `json:"tags,omitempty"`
	CertificateMode         string              `json:"certificateMode,omitempty"`
}

// RegisterCACertificateOutput is the answer to RegisterCACertificate.
type RegisterCACertificateOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

// RegisterCACertificate registers a CA. In DEFAULT mode the caller proves to hold its key by a certificate for the
// registration code.
func (b *IoT) RegisterCACertificate(ctx context.Context, in *RegisterCACertificateInput) (*RegisterCACertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("caCertificate", in.CACertificate, shapePEM)
		c.may("verificationCertificate", in.VerificationCertificate, shapePEM)
		c.registrationConfig(in.RegistrationConfig)
		c.tags(in.Tags)
		c.oneOf("certificateMode", in.CertificateMode, modeDefault, modeSNIOnly)
	}
	return invoke(ctx, b, "RegisterCACertificate", "", check, func(now time.Time) (*RegisterCACertificateOutput, *task.Error) {
		ca, err := issuer.ParseCertificate(in.CACertificate)
		switch {
		case err != nil:
			return nil, refuse(codeCertificateInvalid, "The CA certificate could not be parsed: %v", err)
		case !ca.IsCA || !ca.BasicConstraintsValid:
			return nil, refuse(codeCertificateInvalid, "The certificate is not a CA certificate")
		case now.After(ca.NotAfter):
			return nil, refuse(codeCertificateInvalid, "The CA certificate has expired")
		}
		id := certificateID(sha256.Sum256(ca.Raw))
		if old, ok := b.st.cas.get(id); ok {
			return nil, withResource(refuse(codeAlreadyExists, "The CA certificate is registered already: %s", id), old.id.String(), b.caARN(old))
		}
		if in.CertificateMode != modeSNIOnly {
			if err := b.proves(in.VerificationCertificate, ca); err != nil {
				return nil, err
			}
		}
		same := 0
		for other := range b.st.cas.all() {
			if parsed, err := x509.ParseCertificate(other.der); err == nil && slices.Equal(parsed.RawSubject, ca.RawSubject) {
				same++
			}
		}
		if same >= casWithOneSubject {
			return nil, refuse(codeLimitExceeded, "The maximum number of CA certificates with the same subject is %d", casWithOneSubject)
		}
		c := &caCertificate{
			id: id, der: ca.Raw, active: in.SetAsActive, auto: in.AllowAutoRegistration, mode: modeDefault, config: in.RegistrationConfig.clone(),
			created: stamp(now), modified: stamp(now), version: 1,
		}
		if in.CertificateMode != "" {
			c.mode = in.CertificateMode
		}
		b.st.cas.add(id, c)
		b.setTags(b.caARN(c), in.Tags)
		return &RegisterCACertificateOutput{b.caARN(c), c.id.String()}, nil
	})
}

// proves checks a verification certificate: signed by the CA, with the registration code as its common name.
func (b *IoT) proves(verification string, ca *x509.Certificate) *task.Error {
	if verification == "" {
		return refuse(codeInvalidRequest, "A verification certificate is required for a CA certificate in DEFAULT mode")
	}
	cert, err := issuer.ParseCertificate(verification)
	if err != nil {
		return refuse(codeCertificateInvalid, "The verification certificate could not be parsed: %v", err)
	}
	if err := cert.CheckSignatureFrom(ca); err != nil {
		return refuse(codeCertificateInvalid, "The verification certificate is not signed by the CA certificate")
	}
	if cert.Subject.CommonName != b.registrationCode() {
		return refuse(codeRegistrationCode, "The common name of the verification certificate is not the registration code")
	}
	return nil
}

// CACertificateInput names a CA certificate: the request of DescribeCACertificate and DeleteCACertificate.
type CACertificateInput struct {
	CertificateID string `json:"certificateId"`
}

func (in *CACertificateInput) check(c *checker) {
	c.need("certificateId", in.CertificateID, shapeCertificateID)
}

// DescribeCACertificateOutput is the answer to DescribeCACertificate.
type DescribeCACertificateOutput struct {
	CertificateDescription *CACertificateDescription `json:"certificateDescription"`
	RegistrationConfig     *RegistrationConfig       `json:"registrationConfig,omitempty"`
}

// CACertificateDescription is a CA certificate as DescribeCACertificate shows it.
type CACertificateDescription struct {
	CertificateARN         string               `json:"certificateArn"`
	CertificateID          string               `json:"certificateId"`
	Status                 string               `json:"status"`
	CertificatePem         string               `json:"certificatePem"`
	OwnedBy                string               `json:"ownedBy"`
	CreationDate           time.Time            `json:"creationDate"`
	AutoRegistrationStatus string               `json:"autoRegistrationStatus"`
	LastModifiedDate       time.Time            `json:"lastModifiedDate"`
	CustomerVersion        int32                `json:"customerVersion"`
	GenerationID           string               `json:"generationId"`
	Validity               *CertificateValidity `json:"validity"`
	CertificateMode        string               `json:"certificateMode"`
}

// DescribeCACertificate reads a CA certificate.
func (b *IoT) DescribeCACertificate(ctx context.Context, in *CACertificateInput) (*DescribeCACertificateOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "DescribeCACertificate", "", in.check, func(time.Time) (*DescribeCACertificateOutput, *task.Error) {
		c, err := b.findCA(in.CertificateID)
		if err != nil {
			return nil, err
		}
		d := &CACertificateDescription{
			CertificateARN: b.caARN(c), CertificateID: c.id.String(), Status: c.status(), CertificatePem: issuer.EncodePEM(c.der),
			OwnedBy: b.opts.Account, CreationDate: c.created, AutoRegistrationStatus: map[bool]string{true: "ENABLE", false: "DISABLE"}[c.auto],
			LastModifiedDate: c.modified, CustomerVersion: c.version, GenerationID: b.uuid("ca", c.number()), CertificateMode: c.mode,
		}
		if parsed, err := x509.ParseCertificate(c.der); err == nil {
			d.Validity = &CertificateValidity{parsed.NotBefore, parsed.NotAfter}
		}
		return &DescribeCACertificateOutput{d, c.config.clone()}, nil
	})
}

func (c *caCertificate) status() string {
	if c.active {
		return "ACTIVE"
	}
	return "INACTIVE"
}

// UpdateCACertificateInput is the request of UpdateCACertificate.
type UpdateCACertificateInput struct {
	CertificateID             string              `json:"certificateId"`
	NewStatus                 string              `json:"newStatus,omitempty"`
	NewAutoRegistrationStatus string              `json:"newAutoRegistrationStatus,omitempty"`
	RegistrationConfig        *RegistrationConfig `json:"registrationConfig,omitempty"`
	RemoveAutoRegistration    bool                `json:"removeAutoRegistration,omitempty"`
}

// UpdateCACertificateOutput is the answer to UpdateCACertificate.
type UpdateCACertificateOutput struct{}

// UpdateCACertificate changes a CA certificate's status or its automatic registration.
func (b *IoT) UpdateCACertificate(ctx context.Context, in *UpdateCACertificateInput) (*UpdateCACertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("certificateId", in.CertificateID, shapeCertificateID)
		c.oneOf("newStatus", in.NewStatus, "ACTIVE", "INACTIVE")
		c.oneOf("newAutoRegistrationStatus", in.NewAutoRegistrationStatus, "ENABLE", "DISABLE")
		c.registrationConfig(in.RegistrationConfig)
	}
	return invoke(ctx, b, "UpdateCACertificate", "", check, func(now time.Time) (*UpdateCACertificateOutput, *task.Error) {
		c, err := b.findCA(in.CertificateID)
		if err != nil {
			return nil, err
		}
		if in.RegistrationConfig != nil && in.RegistrationConfig.TemplateBody != "" {
			if _, err := b.compile(in.RegistrationConfig.TemplateBody); err != nil {
				return nil, refuse(codeInvalidRequest, "%s", err)
			}
		}
		if in.NewStatus != "" {
			c.active = in.NewStatus == "ACTIVE"
		}
		if in.NewAutoRegistrationStatus != "" {
			c.auto = in.NewAutoRegistrationStatus == "ENABLE"
		}
		if in.RegistrationConfig != nil {
			c.config = in.RegistrationConfig.clone()
		}
		if in.RemoveAutoRegistration {
			c.config, c.auto = nil, false
		}
		c.modified = stamp(now)
		return &UpdateCACertificateOutput{}, nil
	})
}

// DeleteCACertificateOutput is the answer to DeleteCACertificate.
type DeleteCACertificateOutput struct{}

// DeleteCACertificate removes a CA certificate that is not active. Certificates it signed stay registered.
func (b *IoT) DeleteCACertificate(ctx context.Context, in *CACertificateInput) (*DeleteCACertificateOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "DeleteCACertificate", "", in.check, func(time.Time) (*DeleteCACertificateOutput, *task.Error) {
		c, err := b.findCA(in.CertificateID)
		if err != nil {
			return nil, err
		}
		if c.active {
			return nil, refuse(codeCertificateState, "CA certificate must be deactivated (not ACTIVE) before deletion.")
		}
		b.st.cas.remove(c.id)
		delete(b.st.tags, b.caARN(c))
		return &DeleteCACertificateOutput{}, nil
	})
}

// ListCACertificatesInput is the request of ListCACertificates.
type ListCACertificatesInput struct {
	PageSize       *int32 `json:"pageSize,omitempty"`
	Marker         string `json:"marker,omitempty"`
	AscendingOrder bool   `json:"ascendingOrder,omitempty"`
	TemplateName   string `json:"templateName,omitempty"`
}

// ListCACertificatesOutput is the answer to ListCACertificates.
type ListCACertificatesOutput struct {
	Certificates []CACertificate `json:"certificates"`
	NextMarker   string          `json:"nextMarker,omitempty"`
}

// CACertificate is a CA certificate in a list.
type CACertificate struct {
	CertificateARN string    `json:"certificateArn"`
	CertificateID  string    `json:"certificateId"`
	Status         string    `json:"status"`
	CreationDate   time.Time `json:"creationDate"`
}

// ListCACertificates lists CA certificates, newest first unless asked for the ascending order.
func (b *IoT) ListCACertificates(ctx context.Context, in *ListCACertificatesInput) (*ListCACertificatesOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.page("pageSize", in.PageSize)
		c.may("marker", in.Marker, shapeMarker)
		c.may("templateName", in.TemplateName, shapeTemplateName)
	}
	return invoke(ctx, b, "ListCACertificates", "", check, func(time.Time) (*ListCACertificatesOutput, *task.Error) {
		from, err := numberOf(in.Marker, "marker")
		if err != nil {
			return nil, err
		}
		rows := b.st.cas.before(from)
		if in.AscendingOrder {
			rows = b.st.cas.after(from)
		}
		page, next := pageOf(filter(rows, func(c *caCertificate) bool {
			return in.TemplateName == "" || c.config != nil && c.config.TemplateName == in.TemplateName
		}), b.size(in.PageSize))
		out := &ListCACertificatesOutput{Certificates: make([]CACertificate, 0, len(page)), NextMarker: next}
		for _, c := range page {
			out.Certificates = append(out.Certificates, CACertificate{b.caARN(c), c.id.String(), c.status(), c.created})
		}
		return out, nil
	})
}

func (b *IoT) findCA(id string) (*caCertificate, *task.Error) {
	if key, ok := parseCertificateID(id); ok {
		if c, ok := b.st.cas.get(key); ok {
			return c, nil
		}
	}
	return nil, refuse(codeNotFound, "CA certificate id %s does not exist", cutValue(id))
}
