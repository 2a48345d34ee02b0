package fakebackend

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/restjson"
	"github.com/seed1ff6f450/iotfleet/internal/lenientx509"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Certificates: CreateCertificateFromCsr, CreateKeysAndCertificate, RegisterCertificate, RegisterCertificateWithoutCA,
// DescribeCertificate, ListCertificates, UpdateCertificate, DeleteCertificate.
//
// Models: real X.509 certificates signed for the key of the CSR; certificates of registered CAs; statuses; the order in
// which a certificate has to be taken out of use. Not modelled: transfers between accounts, revocation lists.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html

var certificateOperations = []*operation{
	operationOf("CreateCertificateFromCsr", "POST /certificates", (*account).createCertificateFromCsr),
	operationOf("CreateKeysAndCertificate", "POST /keys-and-certificate", (*account).createKeysAndCertificate),
	operationOf("RegisterCertificate", "POST /certificate/register", (*account).registerCertificate),
	operationOf("RegisterCertificateWithoutCA", "POST /certificate/register-no-ca", (*account).registerCertificateWithoutCA),
	operationOf("DescribeCertificate", "GET /certificates/{certificateId}", (*account).describeCertificate),
	listOf("ListCertificates", "GET /certificates", "certificates", (*account).listCertificates),
	listOf("ListCertificatesByCA", "GET /certificates-by-ca/{caCertificateId}", "certificates", (*account).listCertificatesByCA),
	operationOf("UpdateCertificate", "PUT /certificates/{certificateId}", (*account).updateCertificate),
	operationOf("DeleteCertificate", "DELETE /certificates/{certificateId}", (*account).deleteCertificate),
}

type createCertificateFromCsrInput struct {
	CertificateSigningRequest string `json:"certificateSigningRequest" is:"CertificateSigningRequest" required:"true"`
	SetAsActive               bool   `query:"setAsActive"`
}

type createCertificateFromCsrOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
	CertificatePem string `json:"certificatePem"`
}

// createCertificateFromCsr makes a certificate for the key in a signing request: another one each time.
func (b *account) createCertificateFromCsr(now time.Time, in *createCertificateFromCsrInput) (*createCertificateFromCsrOutput, *task.Error) {
	c, err := b.issue(in.CertificateSigningRequest, now, activeOr(in.SetAsActive, statusInactive))
	if err != nil {
		return nil, err
	}
	return &createCertificateFromCsrOutput{b.certificateARN(c), c.id.String(), c.pem()}, nil
}

type createKeysAndCertificateInput struct {
	SetAsActive bool `query:"setAsActive"`
}

type createKeysAndCertificateOutput struct {
	CertificateARN string  `json:"certificateArn"`
	CertificateID  string  `json:"certificateId"`
	CertificatePem string  `json:"certificatePem"`
	KeyPair        keyPair `json:"keyPair"`
}

// keyPair is a key made by AWS, as PEM.
type keyPair struct {
	PublicKey  string          `json:"PublicKey"`
	PrivateKey restjson.Secret `json:"PrivateKey"`
}

// createKeysAndCertificate makes an RSA-2048 key and a certificate for it. The key is not kept.
func (b *account) createKeysAndCertificate(now time.Time, in *createKeysAndCertificateInput) (*createKeysAndCertificateOutput, *task.Error) {
	made, err := b.keys.Load().issuer.Create(now)
	if err != nil {
		return nil, refuse(codeInternalFailure, "%v", err)
	}
	c := b.addCertificate(made.DER, sha256.Sum256(made.DER), now, activeOr(in.SetAsActive, statusInactive))
	return &createKeysAndCertificateOutput{
		CertificateARN: b.certificateARN(c), CertificateID: c.id.String(), CertificatePem: c.pem(),
		KeyPair: keyPair{made.PublicKeyPEM, restjson.NewSecret(made.PrivateKeyPEM())},
	}, nil
}

type registerCertificateInput struct {
	CertificatePem   string `json:"certificatePem" is:"CertificatePem" required:"true"`
	CACertificatePem string `json:"caCertificatePem" is:"CertificatePem"`
	SetAsActive      bool   `query:"setAsActive"`
	Status           string `json:"status" is:"CertificateStatus"`
}

type registerCertificateOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

// registerCertificate registers a certificate that one of the account's CAs has signed.
func (b *account) registerCertificate(now time.Time, in *registerCertificateInput) (*registerCertificateOutput, *task.Error) {
	if err := b.registered(in.CertificatePem); err != nil { // whatever became of its CA
		return nil, err
	}
	signed, err := b.readDeviceCertificate(in.CertificatePem, in.CACertificatePem)
	if err != nil {
		return nil, err
	}
	if signed.ca == nil {
		return nil, refuse(codeCertificateInvalid, "CA certificate was not found for the certificate")
	}
	return b.register(signed, now, in.Status, in.SetAsActive)
}

type registerCertificateWithoutCAInput struct {
	CertificatePem string `json:"certificatePem" is:"CertificatePem" required:"true"`
	Status         string `json:"status" is:"CertificateStatus"`
}

// registerCertificateWithoutCA registers a certificate of any CA.
func (b *account) registerCertificateWithoutCA(now time.Time, in *registerCertificateWithoutCAInput) (*registerCertificateOutput, *task.Error) {
	if err := b.registered(in.CertificatePem); err != nil {
		return nil, err
	}
	cert, err := readCertificate(in.CertificatePem)
	if err != nil {
		return nil, err
	}
	return b.register(&signedCertificate{der: cert.Raw, id: sha256.Sum256(cert.Raw)}, now, in.Status, false)
}

func (b *account) register(signed *signedCertificate, now time.Time, status string, setActive bool) (*registerCertificateOutput, *task.Error) {
	as := activeOr(setActive, statusInactive)
	if status != "" {
		as, _ = parseCertStatus(status)
		if as != statusActive && as != statusInactive && as != statusRevoked {
			return nil, refuse(codeCertificateState, "Not allowed to register certificate with %s status", status)
		}
	}
	c := b.addSigned(signed, now, as)
	return &registerCertificateOutput{b.certificateARN(c), c.id.String()}, nil
}

// registered refuses a certificate that the account has already.
func (b *account) registered(text string) *task.Error {
	cert, err := readCertificate(text)
	if err != nil {
		return err
	}
	old, ok := b.st.certificates.get(sha256.Sum256(cert.Raw))
	if !ok {
		return nil
	}
	return withResource(certificateExists(), old.id.String(), b.certificateARN(old))
}

type describeCertificateInput struct {
	CertificateID string `path:"certificateId" is:"CertificateId"`
}

type describeCertificateOutput struct {
	CertificateDescription *certificateDescription `json:"certificateDescription"`
}

// certificateDescription is a certificate as DescribeCertificate shows it.
type certificateDescription struct {
	CertificateARN   string               `json:"certificateArn"`
	CertificateID    string               `json:"certificateId"`
	CaCertificateID  string               `json:"caCertificateId,omitempty"`
	Status           string               `json:"status"`
	CertificatePem   string               `json:"certificatePem"`
	OwnedBy          string               `json:"ownedBy"`
	CreationDate     time.Time            `json:"creationDate"`
	LastModifiedDate time.Time            `json:"lastModifiedDate"`
	CustomerVersion  int32                `json:"customerVersion"`
	TransferData     *transferData        `json:"transferData"`
	GenerationID     string               `json:"generationId"`
	Validity         *certificateValidity `json:"validity"`
	CertificateMode  string               `json:"certificateMode"`
}

// transferData is empty, since the fake knows no transfers.
type transferData struct{}

// certificateValidity is the time in which a certificate is good.
type certificateValidity struct {
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// describeCertificate reads a certificate with its PEM text.
func (b *account) describeCertificate(_ time.Time, in *describeCertificateInput) (*describeCertificateOutput, *task.Error) {
	c, err := b.findCertificate(in.CertificateID)
	if err != nil {
		return nil, err
	}
	d := &certificateDescription{
		CertificateARN: b.certificateARN(c), CertificateID: c.id.String(), Status: c.status.String(), CertificatePem: c.pem(),
		OwnedBy: b.opts.Account, CreationDate: time.UnixMilli(c.created).UTC(), LastModifiedDate: time.UnixMilli(c.modified).UTC(),
		CustomerVersion: c.version, TransferData: &transferData{}, GenerationID: b.uuid("certificate", c.number()), CertificateMode: c.mode(),
	}
	if c.ca != nil {
		d.CaCertificateID = c.ca.id.String()
	}
	if parsed, _, err := lenientx509.Certificate(c.der); err == nil {
		d.Validity = &certificateValidity{parsed.NotBefore, parsed.NotAfter}
	}
	return &describeCertificateOutput{d}, nil
}

type listCertificatesInput struct {
	byMarker
	AscendingOrder bool `query:"ascendingOrder=isAscendingOrder"`
}

// certificateSummary is a certificate in a list.
type certificateSummary struct {
	CertificateARN  string    `json:"certificateArn"`
	CertificateID   string    `json:"certificateId"`
	Status          string    `json:"status"`
	CertificateMode string    `json:"certificateMode"`
	CreationDate    time.Time `json:"creationDate"`
}

// listCertificates lists certificates, newest first unless asked for the ascending order.
func (b *account) listCertificates(in *listCertificatesInput, p *page) ([]certificateSummary, *task.Error) {
	return b.certificatesWhere(in, p, func(*certificate) bool { return true }), nil
}

type listCertificatesByCAInput struct {
	CaCertificateID string `path:"caCertificateId" is:"CertificateId"`
	listCertificatesInput
}

// listCertificatesByCA lists the certificates that a registered CA has signed.
func (b *account) listCertificatesByCA(in *listCertificatesByCAInput, p *page) ([]certificateSummary, *task.Error) {
	return b.certificatesWhere(&in.listCertificatesInput, p, func(c *certificate) bool {
		return c.ca != nil && c.ca.id.String() == strings.ToLower(in.CaCertificateID)
	}), nil
}

func (b *account) certificatesWhere(in *listCertificatesInput, p *page, keep func(*certificate) bool) []certificateSummary {
	rows := inOrder(&b.st.certificates, p, in.AscendingOrder)
	return rowsOf(p, filter(rows, keep), func(c *certificate) certificateSummary {
		return certificateSummary{b.certificateARN(c), c.id.String(), c.status.String(), c.mode(), time.UnixMilli(c.created).UTC()}
	})
}

type updateCertificateInput struct {
	CertificateID string `path:"certificateId" is:"CertificateId"`
	NewStatus     string `query:"newStatus" is:"CertificateStatus" required:"true"`
}

// updateCertificate changes a certificate's status to ACTIVE, INACTIVE or REVOKED.
func (b *account) updateCertificate(now time.Time, in *updateCertificateInput) (*nothing, *task.Error) {
	c, err := b.findCertificate(in.CertificateID)
	if err != nil {
		return nil, err
	}
	status, _ := parseCertStatus(in.NewStatus)
	switch status {
	case statusActive, statusInactive, statusRevoked:
	default:
		return nil, refuse(codeInvalidRequest, "A certificate cannot be set to %s by UpdateCertificate", in.NewStatus)
	}
	c.status, c.modified = status, now.UnixMilli()
	return nil, nil
}

type deleteCertificateInput struct {
	CertificateID string `path:"certificateId" is:"CertificateId"`
	ForceDelete   bool   `query:"forceDelete"`
}

// deleteCertificate removes a certificate that is not active and has no things. Policies are in the way too, unless the
// deletion is forced.
func (b *account) deleteCertificate(_ time.Time, in *deleteCertificateInput) (*nothing, *task.Error) {
	c, err := b.findCertificate(in.CertificateID)
	switch {
	case err != nil:
		return nil, err
	case c.status == statusActive:
		return nil, refuse(codeCertificateState, "Certificate must be deactivated (not ACTIVE) before deletion. Id: %s", c.id)
	case len(c.things) > 0:
		return nil, refuse(codeDeleteConflict, "Things must be detached before deletion (arn: %s)", b.certificateARN(c))
	case len(c.policies) > 0 && !in.ForceDelete:
		return nil, refuse(codeDeleteConflict, "Certificate policies must be detached before deletion (arn: %s)", b.certificateARN(c))
	}
	b.forgetCertificate(c)
	return nil, nil
}

// issue signs a certificate for a CSR and adds it.
func (b *account) issue(csr string, now time.Time, status certStatus) (*certificate, *task.Error) {
	if b.opts.RefuseFlatCSR && !strings.Contains(strings.TrimSpace(csr), "\n") {
		return nil, refuse(codeInvalidRequest, "The certificate signing request has no line breaks")
	}
	made, err := b.keys.Load().issuer.Issue(csr, now)
	if refusal, ok := errors.AsType[*issuer.Refusal](err); ok {
		return nil, refuse(codeInvalidRequest, "%s", refusal.Error())
	}
	if err != nil {
		return nil, refuse(codeInternalFailure, "%v", err)
	}
	return b.addCertificate(made.DER, sha256.Sum256(made.DER), now, status), nil
}

// addCertificate adds a certificate whose id is new. The DER is kept, without spare capacity.
func (b *account) addCertificate(der []byte, id certificateID, now time.Time, status certStatus) *certificate {
	c := &certificate{id: id, der: slices.Clip(der), created: now.UnixMilli(), modified: now.UnixMilli(), status: status, version: 1}
	b.st.certificates.add(id, c)
	return c
}

// addSigned adds a certificate that somebody else has signed. Its mode is that of its CA, and SNI_ONLY when it is
// registered without one.
func (b *account) addSigned(signed *signedCertificate, now time.Time, status certStatus) *certificate {
	c := b.addCertificate(signed.der, signed.id, now, status)
	c.ca, c.sniOnly = signed.ca, signed.ca == nil || signed.ca.mode == modeSNIOnly
	return c
}

// mode is the certificate's mode, as AWS names it.
func (c *certificate) mode() string {
	if c.sniOnly {
		return modeSNIOnly
	}
	return modeDefault
}

// forgetCertificate removes a certificate with everything it is attached to.
func (b *account) forgetCertificate(c *certificate) {
	for _, t := range slices.Clone(c.things) {
		b.detachCertificate(t, c)
	}
	for _, p := range slices.Clone(c.policies) {
		b.detachPolicyFrom(p, &c.policies)
	}
	b.st.certificates.remove(c.id)
	b.st.ownerships.remove(c.id)
}

func (b *account) findCertificate(id string) (*certificate, *task.Error) {
	if key, ok := parseCertificateID(id); ok {
		if c, ok := b.st.certificates.get(key); ok {
			return c, nil
		}
	}
	return nil, refuse(codeNotFound, "Certificate id %s does not exist", restjson.Cut(id))
}

func (c *certificate) pem() string { return issuer.EncodePEM(c.der) }

func certificateExists() *task.Error {
	return refuse(codeAlreadyExists, "The certificate is already provisioned or registered")
}

func activeOr(active bool, otherwise certStatus) certStatus {
	if active {
		return statusActive
	}
	return otherwise
}

// signedCertificate is a certificate that somebody else has signed.
type signedCertificate struct {
	der []byte
	id  certificateID
	ca  *caCertificate // the account's CA that has signed it; nil if none has
}

func readCertificate(text string) (*x509.Certificate, *task.Error) {
	cert, err := issuer.ParseCertificate(text)
	if err != nil {
		return nil, refuse(codeCertificateInvalid, "The certificate could not be parsed: %v", err)
	}
	return cert, nil
}

// readDeviceCertificate reads a certificate and finds the registered CA that signed it. A caText allows no other CA.
// Of several with one key and subject it is the first that is active; it is an error when none is.
func (b *account) readDeviceCertificate(text, caText string) (*signedCertificate, *task.Error) {
	cert, refusal := readCertificate(text)
	if refusal != nil {
		return nil, refusal
	}
	signed := &signedCertificate{der: cert.Raw, id: sha256.Sum256(cert.Raw)}
	var only *x509.Certificate
	if caText != "" {
		var err error
		if only, err = issuer.ParseCertificate(caText); err != nil {
			return nil, refuse(codeCertificateInvalid, "The CA certificate could not be parsed: %v", err)
		}
	}
	var inactive *caCertificate
	for ca := range b.signersOf(cert) {
		if only != nil && !slices.Equal(ca.der, only.Raw) {
			continue
		}
		if !ca.active {
			inactive = ca
			continue
		}
		signed.ca = ca
		break
	}
	if signed.ca == nil && inactive != nil {
		return nil, refuse(codeCertificateInvalid, "The CA certificate %s is not active", inactive.id)
	}
	if only != nil && signed.ca == nil {
		return nil, refuse(codeCertificateInvalid, "The certificate is not signed by the given CA, or the CA is not registered")
	}
	return signed, nil
}

// signersOf yields the registered CAs whose key has signed a certificate, oldest first.
func (b *account) signersOf(cert *x509.Certificate) iter.Seq[*caCertificate] {
	return func(yield func(*caCertificate) bool) {
		for ca := range b.st.cas.all() {
			parsed, _, err := lenientx509.Certificate(ca.der)
			if err != nil || !slices.Equal(parsed.RawSubject, cert.RawIssuer) || cert.CheckSignatureFrom(parsed) != nil {
				continue
			}
			if !yield(ca) {
				return
			}
		}
	}
}
