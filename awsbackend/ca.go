package awsbackend

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/seed1ff6f450/iotfleet/task"
)

// EnsureCA implements [task.CAEnsurer]. A CA that another account of the region has in DEFAULT mode can't be registered in
// that mode; AWS refuses it.
//
// Needs iot:DescribeCACertificate, iot:GetRegistrationCode and iot:RegisterCACertificate, and iam:PassRole on the role of
// just-in-time provisioning.
func (b *Backend) EnsureCA(ctx context.Context, in *task.CAInput) (*task.CA, error) {
	ca, err := b.ensureCA(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("register the CA: %w", err)
	}
	return ca, nil
}

func (b *Backend) ensureCA(ctx context.Context, in *task.CAInput) (*task.CA, error) {
	if err := in.Check(); err != nil {
		return nil, err
	}
	ca, err := b.ReadCA(ctx, in.CertificatePEM)
	if errors.Is(err, task.ErrNotFound) {
		if err = b.registerCA(ctx, in); err == nil || errors.Is(err, task.ErrConflict) { // somebody else was first
			ca, err = b.ReadCA(ctx, in.CertificatePEM)
		}
	}
	if err != nil {
		return nil, err
	}
	return ca, in.Suits(ca)
}

func (b *Backend) registerCA(ctx context.Context, in *task.CAInput) error {
	register := &iot.RegisterCACertificateInput{
		CaCertificate: aws.String(in.CertificatePEM), SetAsActive: true, AllowAutoRegistration: in.AutoRegister,
	}
	if in.SNIOnly {
		register.CertificateMode = types.CertificateModeSniOnly
	} else {
		code, err := call(ctx, b, b.iot.GetRegistrationCode, &iot.GetRegistrationCodeInput{})
		if err != nil {
			return err
		}
		proof, err := in.Prove(aws.ToString(code.RegistrationCode))
		if err != nil {
			return fmt.Errorf("the verification certificate: %w", err)
		}
		register.VerificationCertificate = aws.String(proof)
	}
	if in.TemplateBody != "" {
		register.RegistrationConfig = &types.RegistrationConfig{TemplateBody: aws.String(in.TemplateBody), RoleArn: aws.String(in.RoleARN)}
	}
	_, err := call(ctx, b, b.iot.RegisterCACertificate, register)
	return err
}

// ReadCA implements [task.CAEnsurer]. It needs iot:DescribeCACertificate.
func (b *Backend) ReadCA(ctx context.Context, certificatePEM string) (*task.CA, error) {
	id, err := task.CertificateID(certificatePEM)
	if err != nil {
		return nil, err
	}
	out, err := call(ctx, b, b.iot.DescribeCACertificate, &iot.DescribeCACertificateInput{CertificateId: aws.String(id)})
	if err != nil {
		return nil, err
	}
	d := out.CertificateDescription
	ca := &task.CA{
		ID: aws.ToString(d.CertificateId), ARN: aws.ToString(d.CertificateArn), Active: d.Status == types.CACertificateStatusActive,
		AutoRegister: d.AutoRegistrationStatus == types.AutoRegistrationStatusEnable,
		SNIOnly:      d.CertificateMode == types.CertificateModeSniOnly,
	}
	if c := out.RegistrationConfig; c != nil {
		ca.TemplateName, ca.TemplateBody, ca.RoleARN = aws.ToString(c.TemplateName), aws.ToString(c.TemplateBody), aws.ToString(c.RoleArn)
	}
	return ca, nil
}
