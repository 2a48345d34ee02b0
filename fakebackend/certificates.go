package fakebackend

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Certificates: CreateCertificateFromCsr, CreateKeysAndCertificate, RegisterCertificate, RegisterCertificateWithoutCA,
// DescribeCertificate, ListCertificates, UpdateCertificate, DeleteCertificate.
//
// Models: real X.509 certificates signed for the key of the CSR; certificates of registered CAs; statuses; the order in
// which a certificate has to be taken out of use. Not modelled: transfers between accounts, revocation lists.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_CreateCertificateFromCsr.html

// CreateCertificateFromCsrInput is the request of CreateCertificateFromCsr.
type CreateCertificateFromCsrInput struct {
	CertificateSigningRequest string `json:"certificateSigningRequest"`
	SetAsActive               bool   `json:"setAsActive,omitempty"`
}

// CreateCertificateFromCsrOutput is the answer to CreateCertificateFromCsr.
type CreateCertificateFromCsrOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
	CertificatePem string `json:"certificatePem"`
}

// CreateCertificateFromCsr makes a certificate for the key in a signing request: another one each time.
func (b *IoT) CreateCertificateFromCsr(ctx context.Context, in *CreateCertificateFromCsrInput) (*CreateCertificateFromCsrOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("certificateSigningRequest", in.CertificateSigningRequest, shapeCSR)
	}
	return invoke(ctx, b, "CreateCertificateFromCsr", "", check, func(now time.Time) (*CreateCertificateFromCsrOutput, *task.Error) {
		c, err := b.issue(in.CertificateSigningRequest, now, activeOr(in.SetAsActive, statusInactive))
		if err != nil {
			return nil, err
		}
		return &CreateCertificateFromCsrOutput{b.certificateARN(c), c.id.String(), c.pem()}, nil
	})
}

// CreateKeysAndCertificateInput is the request of CreateKeysAndCertificate.
type CreateKeysAndCertificateInput struct {
	SetAsActive bool `json:"setAsActive,omitempty"`
}

// CreateKeysAndCertificateOutput is the answer to CreateKeysAndCertificate.
type CreateKeysAndCertificateOutput struct {
	CertificateARN string   `json:"certificateArn"`
	CertificateID  string   `json:"certificateId"`
	CertificatePem string   `json:"certificatePem"`
	KeyPair        *KeyPair `json:"keyPair"`
}

// CreateKeysAndCertificate makes an RSA-2048 key and a certificate for it. The key is not kept.
func (b *IoT) CreateKeysAndCertificate(ctx context.Context, in *CreateKeysAndCertificateInput) (*CreateKeysAndCertificateOutput, error) {
	in = orZero(in)
	return invoke(ctx, b, "CreateKeysAndCertificate", "", nil, func(now time.Time) (*CreateKeysAndCertificateOutput, *task.Error) {
		made, err := b.keys.Load().issuer.Create(now)
		if err != nil {
			return nil, refuse(codeInternalFailure, "%v", err)
		}
		c := b.addCertificate(made.DER, sha256.Sum256(made.DER), now, activeOr(in.SetAsActive, statusInactive), nil)
		return &CreateKeysAndCertificateOutput{
			CertificateARN: b.certificateARN(c), CertificateID: c.id.String(), CertificatePem: c.pem(),
			KeyPair: newKeyPair(made.PublicKeyPEM, made.PrivateKeyPEM()),
		}, nil
	})
}

// RegisterCertificateInput is the request of RegisterCertificate.
type RegisterCertificateInput struct {
	CertificatePem   string `json:"certificatePem"`
	CACertificatePem string `json:"caCertificatePem,omitempty"`
	SetAsActive      bool   `json:"setAsActive,omitempty"`
	Status           string `json:"status,omitempty"`
}

// RegisterCertificateOutput is the answer to RegisterCertificate.
type RegisterCertificateOutput struct {
	CertificateARN string `json:"certificateArn"`
	CertificateID  string `json:"certificateId"`
}

// RegisterCertificate registers a certificate that one of the account's CAs has signed.
func (b *IoT) RegisterCertificate(ctx context.Context, in *RegisterCertificateInput) (*RegisterCertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("certificatePem", in.CertificatePem, shapePEM)
		c.may("caCertificatePem", in.CACertificatePem, shapePEM)
		c.oneOf("status", in.Status, certStatuses[:]...)
	}
	return invoke(ctx, b, "RegisterCertificate", "", check, func(now time.Time) (*RegisterCertificateOutput, *task.Error) {
		signed, err := b.readDeviceCertificate(in.CertificatePem, in.CACertificatePem)
		if err != nil {
			return nil, err
		}
		if signed.ca == nil {
			return nil, refuse(codeCertificateInvalid, "CA certificate was not found for the certificate")
		}
		return b.register(signed, now, in.Status, in.SetAsActive)
	})
}

// RegisterCertificateWithoutCAInput is the request of RegisterCertificateWithoutCA.
type RegisterCertificateWithoutCAInput struct {
	CertificatePem string `json:"certificatePem"`
	Status         string `json:"status,omitempty"`
}

// RegisterCertificateWithoutCA registers a certificate of any CA.
func (b *IoT) RegisterCertificateWithoutCA(ctx context.Context, in *RegisterCertificateWithoutCAInput) (*RegisterCertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("certificatePem", in.CertificatePem, shapePEM)
		c.oneOf("status", in.Status, certStatuses[:]...)
	}
	return invoke(ctx, b, "RegisterCertificateWithoutCA", "", check, func(now time.Time) (*RegisterCertificateOutput, *task.Error) {
		cert, err := readCertificate(in.CertificatePem)
		if err != nil {
			return nil, err
		}
		return b.register(&signedCertificate{der: cert.Raw, id: sha256.Sum256(cert.Raw)}, now, in.Status, false)
	})
}

func (b *IoT) register(signed *signedCertificate, now time.Time, status string, setActive bool) (*RegisterCertificateOutput, *task.Error) {
	if old, ok := b.st.certificates.get(signed.id); ok {
		return nil, withResource(certificateExists(old.id), old.id.String(), b.certificateARN(old))
	}
	as := activeOr(setActive, statusInactive)
	if status != "" {
		as, _ = parseCertStatus(status)
		if as != statusActive && as != statusInactive && as != statusRevoked {
			return nil, refuse(codeCertificateState, "A certificate cannot be registered as %s", status)
		}
	}
	c := b.addCertificate(signed.der, signed.id, now, as, signed.ca)
	return &RegisterCertificateOutput{b.certificateARN(c), c.id.String()}, nil
}

// DescribeCertificateInput is the request of DescribeCertificate.
type DescribeCertificateInput struct {
	CertificateID string `json:"certificateId"`
}

// DescribeCertificateOutput is the answer to DescribeCertificate.
type DescribeCertificateOutput struct {
	CertificateDescription *CertificateDescription `json:"certificateDescription"`
}

// CertificateDescription is a certificate as DescribeCertificate shows it.
type CertificateDescription struct {
	CertificateARN   string               `json:"certificateArn"`
	CertificateID    string               `json:"certificateId"`
	CaCertificateID  string               `json:"caCertificateId,omitempty"`
	Status           string               `json:"status"`
	CertificatePem   string               `json:"certificatePem"`
	OwnedBy          string               `json:"ownedBy"`
	CreationDate     time.Time            `json:"creationDate"`
	LastModifiedDate time.Time            `json:"lastModifiedDate"`
	CustomerVersion  int32                `json:"customerVersion"`
	TransferData     *TransferData        `json:"transferData"`
	GenerationID     string               `json:"generationId"`
	Validity         *CertificateValidity `json:"validity"`
	CertificateMode  string               `json:"certificateMode"`
}

// TransferData is empty, since the fake knows no transfers.
type TransferData struct{}

// CertificateValidity is the time in which a certificate is good.
type CertificateValidity struct {
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// DescribeCertificate reads a certificate with its PEM text.
func (b *IoT) DescribeCertificate(ctx context.Context, in *DescribeCertificateInput) (*DescribeCertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("certificateId", in.CertificateID, shapeCertificateID) }
	return invoke(ctx, b, "DescribeCertificate", "", check, func(time.Time) (*DescribeCertificateOutput, *task.Error) {
		c, err := b.findCertificate(in.CertificateID)
		if err != nil {
			return nil, err
		}
		d := &CertificateDescription{
			CertificateARN: b.certificateARN(c), CertificateID: c.id.String(), Status: c.status.String(), CertificatePem: c.pem(),
			OwnedBy: b.opts.Account, CreationDate: time.UnixMilli(c.created).UTC(), LastModifiedDate: time.UnixMilli(c.modified).UTC(),
			CustomerVersion: c.version, TransferData: &TransferData{}, GenerationID: b.uuid("certificate", c.number()), CertificateMode: "DEFAULT",
		}
		if c.ca != nil {
			d.CaCertificateID = c.ca.id.String()
		}
		if parsed, err := x509.ParseCertificate(c.der); err == nil {
			d.Validity = &CertificateValidity{parsed.NotBefore, parsed.NotAfter}
		}
		return &DescribeCertificateOutput{d}, nil
	})
}

// ListCertificatesInput is the request of ListCertificates.
type ListCertificatesInput struct {
	PageSize       *int32 `json:"pageSize,omitempty"`
	Marker         string `json:"marker,omitempty"`
	AscendingOrder bool   `json:"ascendingOrder,omitempty"`
}

// ListCertificatesOutput is the answer to ListCertificates.
type ListCertificatesOutput struct {
	Certificates []CertificateSummary `json:"certificates"`
	NextMarker   string               `json:"nextMarker,omitempty"`
}

// CertificateSummary is a certificate in a list.
type CertificateSummary struct {
	CertificateARN  string    `json:"certificateArn"`
	CertificateID   string    `json:"certificateId"`
	Status          string    `json:"status"`
	CertificateMode string    `json:"certificateMode"`
	CreationDate    time.Time `json:"creationDate"`
}

// ListCertificates lists certificates, newest first unless asked for the ascending order.
func (b *IoT) ListCertificates(ctx context.Context, in *ListCertificatesInput) (*ListCertificatesOutput, error) {
	in = orZero(in)
	return b.listCertificates(ctx, "ListCertificates", in, func(*certificate) bool { return true }, nil)
}

// ListCertificatesByCAInput is the request of ListCertificatesByCA.
type ListCertificatesByCAInput struct {
	CaCertificateID string `json:"caCertificateId"`
	PageSize        *int32 `json:"pageSize,omitempty"`
	Marker          string `json:"marker,omitempty"`
	AscendingOrder  bool   `json:"ascendingOrder,omitempty"`
}

// ListCertificatesByCA lists the certificates that a registered CA has signed.
func (b *IoT) ListCertificatesByCA(ctx context.Context, in *ListCertificatesByCAInput) (*ListCertificatesOutput, error) {
	in = orZero(in)
	list := &ListCertificatesInput{in.PageSize, in.Marker, in.AscendingOrder}
	keep := func(c *certificate) bool {
		return c.ca != nil && c.ca.id.String() == strings.ToLower(in.CaCertificateID)
	}
	return b.listCertificates(ctx, "ListCertificatesByCA", list, keep, func(c *checker) {
		c.need("caCertificateId", in.CaCertificateID, shapeCertificateID)
	})
}

func (b *IoT) listCertificates(ctx context.Context, op string, in *ListCertificatesInput, keep func(*certificate) bool,
	also func(*checker)) (*ListCertificatesOutput, error) {
	check := func(c *checker) {
		if also != nil {
			also(c)
		}
		c.page("pageSize", in.PageSize)
		c.may("marker", in.Marker, shapeMarker)
	}
	return invoke(ctx, b, op, "", check, func(time.Time) (*ListCertificatesOutput, *task.Error) {
		from, err := numberOf(in.Marker, "marker")
		if err != nil {
			return nil, err
		}
		rows := b.st.certificates.before(from)
		if in.AscendingOrder {
			rows = b.st.certificates.after(from)
		}
		page, next := pageOf(filter(rows, keep), b.size(in.PageSize))
		out := &ListCertificatesOutput{Certificates: make([]CertificateSummary, 0, len(page)), NextMarker: next}
		for _, c := range page {
			out.Certificates = append(out.Certificates, CertificateSummary{
				b.certificateARN(c), c.id.String(), c.status.String(), "DEFAULT", time.UnixMilli(c.created).UTC(),
			})
		}
		return out, nil
	})
}

// UpdateCertificateInput is the request of UpdateCertificate.
type UpdateCertificateInput struct {
	CertificateID string `json:"certificateId"`
	NewStatus     string `json:"newStatus"`
}

// UpdateCertificateOutput is the answer to UpdateCertificate.
type UpdateCertificateOutput struct{}

// UpdateCertificate changes a certificate's status to ACTIVE, INACTIVE or REVOKED.
func (b *IoT) UpdateCertificate(ctx context.Context, in *UpdateCertificateInput) (*UpdateCertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("certificateId", in.CertificateID, shapeCertificateID)
		c.given("newStatus", in.NewStatus)
		c.oneOf("newStatus", in.NewStatus, certStatuses[:]...)
	}
	return invoke(ctx, b, "UpdateCertificate", "", check, func(now time.Time) (*UpdateCertificateOutput, *task.Error) {
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
		return &UpdateCertificateOutput{}, nil
	})
}

// DeleteCertificateInput is the request of DeleteCertificate.
type DeleteCertificateInput struct {
	CertificateID string `json:"certificateId"`
	ForceDelete   bool   `json:"forceDelete,omitempty"`
}

// DeleteCertificateOutput is the answer to DeleteCertificate.
type DeleteCertificateOutput struct{}

// DeleteCertificate removes a certificate that is not active and has no things. Policies are in the way too, unless the
// deletion is forced.
func (b *IoT) DeleteCertificate(ctx context.Context, in *DeleteCertificateInput) (*DeleteCertificateOutput, error) {
	in = orZero(in)
	check := func(c *checker) { c.need("certificateId", in.CertificateID, shapeCertificateID) }
	return invoke(ctx, b, "DeleteCertificate", "", check, func(time.Time) (*DeleteCertificateOutput, *task.Error) {
		c, err := b.findCertificate(in.CertificateID)
		switch {
		case err != nil:
			return nil, err
		case c.status == statusActive:
			return nil, refuse(codeCertificateState, "Certificate must be deactivated (not ACTIVE) before deletion.")
		case len(c.things) > 0:
			return nil, refuse(codeDeleteConflict, "Things must be detached before deletion (arn: %s)", b.certificateARN(c))
		case len(c.policies) > 0 && !in.ForceDelete:
			return nil, refuse(codeDeleteConflict, "Certificate policies must be detached before deletion (arn: %s)", b.certificateARN(c))
		}
		b.forgetCertificate(c)
		return &DeleteCertificateOutput{}, nil
	})
}

// issue signs a certificate for a CSR and adds it.
func (b *IoT) issue(csr string, now time.Time, status certStatus) (*certificate, *task.Error) {
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
	return b.addCertificate(made.DER, sha256.Sum256(made.DER), now, status, nil), nil
}

// addCertificate adds a certificate whose id is new. The DER is kept, without spare capacity.
func (b *IoT) addCertificate(der []byte, id certificateID, now time.Time, status certStatus, ca *caCertificate) *certificate {
	c := &certificate{id: id, der: slices.Clip(der), created: now.UnixMilli(), modified: now.UnixMilli(), status: status, version: 1, ca: ca}
	b.st.certificates.add(id, c)
	return c
}

// forgetCertificate removes a certificate with everything it is attached to.
func (b *IoT) forgetCertificate(c *certificate) {
	for _, t := range slices.Clone(c.things) {
		b.detachCertificate(t, c)
	}
	for _, p := range slices.Clone(c.policies) {
		b.detachPolicyFrom(p, &c.policies)
	}
	b.st.certificates.remove(c.id)
}

func (b *IoT) findCertificate(id string) (*certificate, *task.Error) {
	if key, ok := parseCertificateID(id); ok {
		if c, ok := b.st.certificates.get(key); ok {
			return c, nil
		}
	}
	return nil, refuse(codeNotFound, "Certificate id %s does not exist", cutValue(id))
}

func (c *certificate) pem() string { return issuer.EncodePEM(c.der) }

func certificateExists(id certificateID) *task.Error {
	return refuse(codeAlreadyExists, "The certificate is already provisioned or registered: %s", id)
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

// readDeviceCertificate reads a certificate and finds the registered CA that signed it: the given one, if one is given.
// Of several with one key and subject it is the first that is active; it is an error when none is.
func (b *IoT) readDeviceCertificate(text, caText string) (*signedCertificate, *task.Error) {
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
	for ca := range b.st.cas.all() {
		parsed, err := x509.ParseCertificate(ca.der)
		if err != nil || only != nil && !parsed.Equal(only) || !slices.Equal(parsed.RawSubject, cert.RawIssuer) {
			continue
		}
		if cert.CheckSignatureFrom(parsed) != nil {
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
