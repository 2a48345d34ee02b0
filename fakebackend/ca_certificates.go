package fakebackend

import (
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// CA certificates of the customer's own: GetRegistrationCode, DeleteRegistrationCode, RegisterCACertificate,
// DescribeCACertificate, UpdateCACertificate, DeleteCACertificate, ListCACertificates.
//
// Models: the verification certificate with the registration code as its common name; CAs in SNI_ONLY mode without one;
// at most ten CAs with one subject; registration at a device's first connection (jit.go). Not modelled: transfers.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterCACertificate.html

var caOperations = []*operation{
	operationOf("GetRegistrationCode", "GET /registrationcode", (*account).getRegistrationCode),
	operationOf("DeleteRegistrationCode", "DELETE /registrationcode", (*account).deleteRegistrationCode),
	operationOf("RegisterCACertificate", "POST /cacertificate", (*account).registerCACertificate),
	operationOf("DescribeCACertificate", "GET /cacertificate/{caCertificateId}", (*account).describeCACertificate),
	operationOf("UpdateCACertificate", "PUT /cacertificate/{caCertificateId}", (*account).updateCACertificate),
	operationOf("DeleteCACertificate", "DELETE /cacertificate/{caCertificateId}", (*account).deleteCACertificate),
	listOf("ListCACertificates", "GET /cacertificates", "certificates", (*account).listCACertificates),
}

// casWithOneSubject is how many CAs of an account can have the same subject.
const casWithOneSubject = 10

// The modes of a CA certificate.
const (
	modeDefault = "DEFAULT"
	modeSNIOnly = "SNI_ONLY"
)

type getRegistrationCodeOutput struct {
	RegistrationCode string `json:"registrationCode"`
}

// getRegistrationCode returns the account's registration code.
func (b *account) getRegistrationCode(_ time.Time, _ *nothing) (*getRegistrationCodeOutput, *task.Error) {
	return &getRegistrationCodeOutput{b.registrationCode()}, nil
}

func (b *account) registrationCode() string {
	return fmt.Sprintf("%x", b.digest("registration code", b.st.codes))
}

// deleteRegistrationCode makes the next registration code another one.
func (b *account) deleteRegistrationCode(_ time.Time, _ *nothing) (*nothing, *task.Error) {
	b.st.codes++
	return nil, nil
}

// registrationConfig is how devices with certificates of a CA are provisioned when they first connect: by a template, and
// with the permissions of a role. A provisioning template, given by its name, has a role of its own.
type registrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty" is:"TemplateBody"`
	RoleARN      string `json:"roleArn,omitempty" is:"RoleArn"`
	TemplateName string `json:"templateName,omitempty" is:"TemplateName"`
}

type registerCACertificateInput struct {
	CACertificate           string              `json:"caCertificate" is:"CertificatePem" required:"true"`
	VerificationCertificate string              `json:"verificationCertificate" is:"CertificatePem"`
	SetAsActive             bool                `query:"setAsActive"`
	AllowAutoRegistration   bool                `query:"allowAutoRegistration"`
	RegistrationConfig      *registrationConfig `json:"registrationConfig"`
	Tags                    []tag               `json:"tags"`
	CertificateMode         string              `json:"certificateMode" is:"CertificateMode"`
}

type registerCACertificateOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

// registerCACertificate registers a CA. In DEFAULT mode the caller proves to hold its key by a certificate for the
// registration code.
func (b *account) registerCACertificate(now time.Time, in *registerCACertificateInput) (*registerCACertificateOutput, *task.Error) {
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	ca, err := issuer.ParseCertificate(in.CACertificate)
	switch {
	case err != nil:
		return nil, refuse(codeCertificateInvalid, "The CA certificate could not be parsed: %v", err)
	case !ca.IsCA || !ca.BasicConstraintsValid:
		return nil, refuse(codeCertificateInvalid, "The certificate is not a CA certificate")
	case now.After(ca.NotAfter):
		return nil, refuse(codeCertificateInvalid, "The CA certificate has expired")
	}
	if err := b.checkConfig(in.RegistrationConfig); err != nil {
		return nil, err
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
		if parsed, _, err := lenientx509.Certificate(other.der); err == nil && slices.Equal(parsed.RawSubject, ca.RawSubject) {
			same++
		}
	}
	if same >= casWithOneSubject {
		return nil, refuse(codeLimitExceeded, "The maximum number of CA certificates with the same subject is %d", casWithOneSubject)
	}
	c := &caCertificate{
		id: id, der: ca.Raw, active: in.SetAsActive, auto: in.AllowAutoRegistration, mode: modeDefault, config: in.RegistrationConfig,
		created: stamp(now), modified: stamp(now), version: 1,
	}
	if in.CertificateMode != "" {
		c.mode = in.CertificateMode
	}
	b.st.cas.add(id, c)
	b.setTags(b.caARN(c), in.Tags)
	return &registerCACertificateOutput{b.caARN(c), c.id.String()}, nil
}

// checkConfig refuses a configuration that could provision no device. Nil is none.
func (b *account) checkConfig(c *registrationConfig) *task.Error {
	switch {
	case c == nil:
		return nil
	case c.TemplateBody != "" && c.TemplateName != "":
		return refuse(codeInvalidRequest, "A registration configuration has a templateBody or a templateName, not both")
	case c.TemplateBody != "":
		if c.RoleARN == "" {
			return refuse(codeInvalidRequest, "A registration configuration with a templateBody must have a roleArn")
		}
		if _, err := b.compileAs(template.JITP, c.TemplateBody); err != nil {
			return refuse(codeInvalidRequest, "%s", err)
		}
	case c.TemplateName != "":
		t, err := b.findTemplate(c.TemplateName)
		if err != nil {
			return err
		}
		if t.kind != typeJITP {
			return refuse(codeInvalidRequest, "The provisioning template %s is of type %s, not %s", t.name, t.kind, typeJITP)
		}
	}
	return nil
}

// proves checks a verification certificate: signed by the CA, with the registration code as its common name.
func (b *account) proves(verification string, ca *x509.Certificate) *task.Error {
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

// caCertificateInput names a CA certificate: the request of DescribeCACertificate and DeleteCACertificate.
type caCertificateInput struct {
	CertificateID string `path:"certificateId=caCertificateId" is:"CertificateId"`
}

type describeCACertificateOutput struct {
	CertificateDescription *caCertificateDescription `json:"certificateDescription"`
	RegistrationConfig     *registrationConfig       `json:"registrationConfig,omitempty"`
}

// caCertificateDescription is a CA certificate as DescribeCACertificate shows it.
type caCertificateDescription struct {
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
	Validity               *certificateValidity `json:"validity"`
	CertificateMode        string               `json:"certificateMode"`
}

// describeCACertificate reads a CA certificate.
func (b *account) describeCACertificate(_ time.Time, in *caCertificateInput) (*describeCACertificateOutput, *task.Error) {
	c, err := b.findCA(in.CertificateID)
	if err != nil {
		return nil, err
	}
	d := &caCertificateDescription{
		CertificateARN: b.caARN(c), CertificateID: c.id.String(), Status: c.status(), CertificatePem: issuer.EncodePEM(c.der),
		OwnedBy: b.opts.Account, CreationDate: c.created, AutoRegistrationStatus: c.autoStatus(),
		LastModifiedDate: c.modified, CustomerVersion: c.version, GenerationID: b.uuid("ca", c.number()), CertificateMode: c.mode,
	}
	if parsed, _, err := lenientx509.Certificate(c.der); err == nil {
		d.Validity = &certificateValidity{parsed.NotBefore, parsed.NotAfter}
	}
	return &describeCACertificateOutput{d, c.config}, nil
}

func (c *caCertificate) status() string {
	if c.active {
		return "ACTIVE"
	}
	return "INACTIVE"
}

func (c *caCertificate) autoStatus() string {
	if c.auto {
		return "ENABLE"
	}
	return "DISABLE"
}

type updateCACertificateInput struct {
	CertificateID             string              `path:"certificateId=caCertificateId" is:"CertificateId"`
	NewStatus                 string              `query:"newStatus" is:"CACertificateStatus"`
	NewAutoRegistrationStatus string              `query:"newAutoRegistrationStatus" is:"AutoRegistrationStatus"`
	RegistrationConfig        *registrationConfig `json:"registrationConfig"`
	RemoveAutoRegistration    bool                `json:"removeAutoRegistration"`
}

// updateCACertificate changes a CA certificate's status or its automatic registration.
func (b *account) updateCACertificate(now time.Time, in *updateCACertificateInput) (*nothing, *task.Error) {
	c, err := b.findCA(in.CertificateID)
	if err != nil {
		return nil, err
	}
	if err := b.checkConfig(in.RegistrationConfig); err != nil {
		return nil, err
	}
	if in.NewStatus != "" {
		c.active = in.NewStatus == "ACTIVE"
	}
	if in.NewAutoRegistrationStatus != "" {
		c.auto = in.NewAutoRegistrationStatus == "ENABLE"
	}
	if in.RegistrationConfig != nil {
		c.config = in.RegistrationConfig
	}
	if in.RemoveAutoRegistration {
		c.config, c.auto = nil, false
	}
	c.modified = stamp(now)
	return nil, nil
}

// deleteCACertificate removes a CA certificate that is not active. Certificates it signed stay registered.
func (b *account) deleteCACertificate(_ time.Time, in *caCertificateInput) (*nothing, *task.Error) {
	c, err := b.findCA(in.CertificateID)
	if err != nil {
		return nil, err
	}
	if c.active {
		return nil, refuse(codeCertificateState, "CA certificate must be deactivated (not ACTIVE) before deletion.")
	}
	b.st.cas.remove(c.id)
	delete(b.st.tags, b.caARN(c))
	return nil, nil
}

type listCACertificatesInput struct {
	byMarker
	AscendingOrder bool   `query:"ascendingOrder=isAscendingOrder"`
	TemplateName   string `query:"templateName" is:"TemplateName"`
}

// caCertificateSummary is a CA certificate in a list.
type caCertificateSummary struct {
	CertificateARN string    `json:"certificateArn"`
	CertificateID  string    `json:"certificateId"`
	Status         string    `json:"status"`
	CreationDate   time.Time `json:"creationDate"`
}

// listCACertificates lists CA certificates, newest first unless asked for the ascending order.
func (b *account) listCACertificates(in *listCACertificatesInput, p *page) ([]caCertificateSummary, *task.Error) {
	rows := filter(inOrder(&b.st.cas, p, in.AscendingOrder), func(c *caCertificate) bool {
		return in.TemplateName == "" || c.config != nil && c.config.TemplateName == in.TemplateName
	})
	return rowsOf(p, rows, func(c *caCertificate) caCertificateSummary {
		return caCertificateSummary{b.caARN(c), c.id.String(), c.status(), c.created}
	}), nil
}

func (b *account) findCA(id string) (*caCertificate, *task.Error) {
	if key, ok := parseCertificateID(id); ok {
		if c, ok := b.st.cas.get(key); ok {
			return c, nil
		}
	}
	return nil, refuse(codeNotFound, "CA certificate id %s does not exist", restjson.Cut(id))
}
