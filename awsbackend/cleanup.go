package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/seed1ff6f450/iotfleet/task"
)

// RemoveCertificate implements [task.CertificateRemover]: it detaches the certificate from its things and policies,
// deactivates and deletes it. AWS detaches with some delay, so a refused deletion is tried again for about 30 s. Parts
// that are gone already are passed over; a repeat after an error goes on where it stopped.
//
// Needs iot:DescribeCertificate, iot:ListPrincipalThings, iot:DetachThingPrincipal, iot:ListAttachedPolicies,
// iot:DetachPolicy, iot:UpdateCertificate and iot:DeleteCertificate.
func (b *Backend) RemoveCertificate(ctx context.Context, certificateID string) error {
	if err := b.removeCertificate(ctx, certificateID); err != nil {
		return fmt.Errorf("remove certificate %s: %w", certificateID, err)
	}
	return nil
}

func (b *Backend) removeCertificate(ctx context.Context, id string) error {
	if id == "" {
		return &task.InputError{Member: "certificateId", Problem: "is empty"}
	}
	cert, err := b.certificate(ctx, id)
	if err != nil {
		return unlessGone(err)
	}
	things, err := b.thingsOf(ctx, cert.ARN)
	if err != nil {
		return unlessGone(err)
	}
	for _, thing := range things {
		if err := b.detachThing(ctx, thing, cert.ARN); err != nil {
			return err
		}
	}
	for _, policy := range cert.Policies {
		_, err := call(ctx, b, b.iot.DetachPolicy,
			&iot.DetachPolicyInput{PolicyName: aws.String(policy), Target: aws.String(cert.ARN)})
		if unlessGone(err) != nil {
			return fmt.Errorf("detach policy %s: %w", policy, err)
		}
	}
	if cert.Status != "INACTIVE" && cert.Status != "REVOKED" {
		_, err := call(ctx, b, b.iot.UpdateCertificate,
			&iot.UpdateCertificateInput{CertificateId: aws.String(id), NewStatus: "INACTIVE"})
		if unlessGone(err) != nil {
			return err
		}
	}
	return b.insist(ctx, "DeleteCertificate", func() error {
		_, err := call(ctx, b, b.iot.DeleteCertificate, &iot.DeleteCertificateInput{CertificateId: aws.String(id)})
		return err
	})
}

func (b *Backend) detachThing(ctx context.Context, thing, certARN string) error {
	_, err := call(ctx, b, b.iot.DetachThingPrincipal,
		&iot.DetachThingPrincipalInput{ThingName: aws.String(thing), Principal: aws.String(certARN)})
	if unlessGone(err) != nil {
		return fmt.Errorf("detach from thing %s: %w", thing, err)
	}
	return nil
}

// RemoveDevice implements [task.DeviceRemover]: it removes the thing's certificates as RemoveCertificate does, detaches
// other principals, and deletes the thing. A certificate that another thing uses as well is only detached: deleting it
// would cut that other device off. Needs iot:ListThingPrincipals and iot:DeleteThing beside what RemoveCertificate
// needs.
func (b *Backend) RemoveDevice(ctx context.Context, thingName string) error {
	if err := b.removeDevice(ctx, thingName); err != nil {
		return fmt.Errorf("remove thing %q: %w", thingName, err)
	}
	return nil
}

func (b *Backend) removeDevice(ctx context.Context, name string) error {
	if name == "" {
		return &task.InputError{Member: "thingName", Problem: "is empty"}
	}
	principals, err := b.principalsOf(ctx, name)
	if err != nil {
		return unlessGone(err)
	}
	for _, arn := range principals {
		id := certificateID(arn)
		shared := id == ""
		if !shared {
			things, err := b.thingsOf(ctx, arn)
			if unlessGone(err) != nil {
				return err
			}
			shared = slices.ContainsFunc(things, func(t string) bool { return t != name })
		}
		if shared {
			err = b.detachThing(ctx, name, arn)
		} else {
			err = b.RemoveCertificate(ctx, id)
		}
		if err != nil {
			return err
		}
	}
	return b.insist(ctx, "DeleteThing", func() error {
		_, err := call(ctx, b, b.iot.DeleteThing, &iot.DeleteThingInput{ThingName: aws.String(name)})
		return err
	})
}

// unlessGone passes over a not-found error: what should be removed is removed.
func unlessGone(err error) error {
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	return err
}

// insist repeats a deletion that AWS refuses because an attachment has not ended yet: as a conflict, or (DeleteThing)
// as an invalid request.
func (b *Backend) insist(ctx context.Context, op string, remove func() error) error {
	return b.await(ctx, "the end of attachments", func() (again bool, err error) {
		err = unlessGone(remove())
		e, ok := errors.AsType[*task.Error](err)
		return ok && (errors.Is(e.Kind, task.ErrConflict) || op == "DeleteThing" && errors.Is(e.Kind, task.ErrInvalidRequest)), err
	})
}
