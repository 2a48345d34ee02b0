package fakebackend

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/task"
)

// EnsureCA registers a CA of the user's own. See [task.CAEnsurer].
func (b *Backend) EnsureCA(ctx context.Context, in *task.CAInput) (*task.CA, error) {
	if err := in.Check(); err != nil {
		return nil, err
	}
	ca, err := b.ReadCA(ctx, in.CertificatePEM)
	if errors.Is(err, task.ErrNotFound) {
		if err = b.registerCA(ctx, in); err == nil {
			ca, err = b.ReadCA(ctx, in.CertificatePEM)
		}
	}
	if err != nil {
		return nil, err
	}
	return ca, in.Suits(ca)
}

func (b *Backend) registerCA(ctx context.Context, in *task.CAInput) error {
	register := &registerCACertificateInput{
		CACertificate: in.CertificatePEM, SetAsActive: true, AllowAutoRegistration: in.AutoRegister,
	}
	if in.SNIOnly {
		register.CertificateMode = modeSNIOnly
	} else {
		code, err := call[getRegistrationCodeOutput](ctx, b.account, "GetRegistrationCode", &nothing{})
		if err != nil {
			return err
		}
		if register.VerificationCertificate, err = in.Prove(code.RegistrationCode); err != nil {
			return fmt.Errorf("the verification certificate: %w", err)
		}
	}
	if in.TemplateBody != "" {
		register.RegistrationConfig = &registrationConfig{TemplateBody: in.TemplateBody, RoleARN: in.RoleARN}
	}
	_, err := call[registerCACertificateOutput](ctx, b.account, "RegisterCACertificate", register)
	return err
}

// ReadCA reads a registered CA. See [task.CAEnsurer].
func (b *Backend) ReadCA(ctx context.Context, certificatePEM string) (*task.CA, error) {
	id, err := task.CertificateID(certificatePEM)
	if err != nil {
		return nil, err
	}
	out, err := call[describeCACertificateOutput](ctx, b.account, "DescribeCACertificate", &caCertificateInput{id})
	if err != nil {
		return nil, err
	}
	d := out.CertificateDescription
	ca := &task.CA{
		ID: d.CertificateID, ARN: d.CertificateARN, Active: d.Status == "ACTIVE", AutoRegister: d.AutoRegistrationStatus == "ENABLE",
		SNIOnly: d.CertificateMode == modeSNIOnly,
	}
	if c := out.RegistrationConfig; c != nil {
		ca.TemplateName, ca.TemplateBody, ca.RoleARN = c.TemplateName, c.TemplateBody, c.RoleARN
	}
	return ca, nil
}
