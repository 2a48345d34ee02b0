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

// RetireCertificate implements [task.Remover]: it detaches the certificate from the thing and, when no other thing has
// it, deactivates it, detaches its policies and deletes it. AWS detaches with some delay: it returns when the
// detachment is seen, and tries a refused deletion again for about 30 s.
//
// Needs iot:DescribeCertificate, iot:ListPrincipalThings, iot:DetachThingPrincipal, iot:ListAttachedPolicies,
// iot:DetachPolicy, iot:UpdateCertificate and iot:DeleteCertificate. AWS takes 10 a second of most of them by default.
func (b *Backend) RetireCertificate(ctx context.Context, thingName, certificateID string) (others []string, err error) {
	if others, err = b.retireCertificate(ctx, thingName, certificateID); err != nil {
		return nil, fmt.Errorf("retire certificate %s of thing %q: %w", certificateID, thingName, err)
	}
	return others, nil
}

func (b *Backend) retireCertificate(ctx context.Context, thing, id string) (others []string, err error) {
	switch {
	case thing == "":
		return nil, &task.InputError{Member: "thingName", Problem: "is empty"}
	case id == "":
		return nil, &task.InputError{Member: "certificateId", Problem: "is empty"}
	}
	cert, err := b.certificate(ctx, id)
	if err != nil {
		return nil, unlessGone(err)
	}
	things, err := b.thingsOf(ctx, cert.ARN)
	if err != nil {
		return nil, unlessGone(err)
	}
	_, err = call(ctx, b, b.iot.DetachThingPrincipal,
		&iot.DetachThingPrincipalInput{ThingName: aws.String(thing), Principal: aws.String(cert.ARN)})
	if unlessGone(err) != nil {
		return nil, err
	}
	if others = except(things, thing); len(others) > 0 {
		if len(others) < len(things) {
			others, err = b.awaitDetached(ctx, thing, cert.ARN)
		}
		return others, err
	}
	if cert.Status != "INACTIVE" && cert.Status != "REVOKED" {
		_, err := call(ctx, b, b.iot.UpdateCertificate,
			&iot.UpdateCertificateInput{CertificateId: aws.String(id), NewStatus: "INACTIVE"})
		if unlessGone(err) != nil {
			return nil, err
		}
	}
	for _, policy := range cert.Policies {
		_, err := call(ctx, b, b.iot.DetachPolicy,
			&iot.DetachPolicyInput{PolicyName: aws.String(policy), Target: aws.String(cert.ARN)})
		if unlessGone(err) != nil {
			return nil, fmt.Errorf("detach policy %s: %w", policy, err)
		}
	}
	return nil, b.insist(ctx, func() error {
		_, err := call(ctx, b, b.iot.DeleteCertificate, &iot.DeleteCertificateInput{CertificateId: aws.String(id)})
		return err
	})
}

// awaitDetached waits until a certificate that other things use is not seen at a thing any more. It returns the others.
func (b *Backend) awaitDetached(ctx context.Context, thing, certARN string) (others []string, err error) {
	err = b.await(ctx, "the end of attachments", func() (again bool, err error) {
		things, err := b.thingsOf(ctx, certARN)
		if err != nil {
			return false, unlessGone(err)
		}
		if others = except(things, thing); len(others) < len(things) {
			return true, fmt.Errorf("%w: the certificate is still attached to the thing", task.ErrConflict)
		}
		return false, nil
	})
	return others, err
}

// except returns the names without one of them.
func except(names []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name })
}

// RemoveThing implements [task.Remover]. AWS refuses to delete a thing while a detachment is on its way; that is tried
// again for about 30 s. Needs iot:ListThingPrincipals and iot:DeleteThing.
func (b *Backend) RemoveThing(ctx context.Context, thingName string) (principals []string, err error) {
	if principals, err = b.removeThing(ctx, thingName); err != nil {
		return nil, fmt.Errorf("remove thing %q: %w", thingName, err)
	}
	return principals, nil
}

func (b *Backend) removeThing(ctx context.Context, name string) (principals []string, err error) {
	if name == "" {
		return nil, &task.InputError{Member: "thingName", Problem: "is empty"}
	}
	principals, err = b.principalsOf(ctx, name)
	if err != nil || len(principals) > 0 {
		return principals, unlessGone(err)
	}
	return nil, b.insist(ctx, func() error {
		_, err := call(ctx, b, b.iot.DeleteThing, &iot.DeleteThingInput{ThingName: aws.String(name)})
		if errors.Is(err, task.ErrInvalidRequest) { // how this operation words that the thing is still attached
			return fmt.Errorf("%w: %w", task.ErrConflict, err)
		}
		return err
	})
}

// RemovePolicy implements [task.Remover]. A policy is ready to be deleted up to five minutes after it was detached; the
// deletion is tried again for that long. Needs iot:GetPolicy, iot:ListTargetsForPolicy, iot:ListPolicyVersions and
// iot:DeletePolicy.
func (b *Backend) RemovePolicy(ctx context.Context, policyName, document string) (targets []string, err error) {
	if targets, err = b.removePolicy(ctx, policyName, document); err != nil {
		return nil, fmt.Errorf("remove policy %s: %w", policyName, err)
	}
	return targets, nil
}

func (b *Backend) removePolicy(ctx context.Context, name, document string) (targets []string, err error) {
	switch {
	case name == "":
		return nil, &task.InputError{Member: "policyName", Problem: "is empty"}
	case document == "":
		return nil, &task.InputError{Member: "policyDocument", Problem: "is empty"}
	}
	if err := b.seePolicy(ctx, name, document); err != nil {
		return nil, unlessGone(err)
	}
	targets, err = b.targetsOf(ctx, name)
	if err != nil || len(targets) > 0 {
		return targets, unlessGone(err)
	}
	versions, err := call(ctx, b, b.iot.ListPolicyVersions, &iot.ListPolicyVersionsInput{PolicyName: aws.String(name)})
	if err != nil {
		return nil, unlessGone(err)
	}
	if n := len(versions.PolicyVersions); n > 1 {
		return nil, fmt.Errorf("%w: it has %d versions: somebody has edited it", task.ErrConflict, n)
	}
	const sixMinutes = 48 // attempts
	return nil, b.awaitLonger(ctx, "the end of attachments", sixMinutes, refusedAsAttached(func() error {
		_, err := call(ctx, b, b.iot.DeletePolicy, &iot.DeletePolicyInput{PolicyName: aws.String(name)})
		return err
	}))
}

// targetsOf lists the ARNs of everything that a policy is attached to.
func (b *Backend) targetsOf(ctx context.Context, policy string) (arns []string, err error) {
	err = pages("ListTargetsForPolicy", maxPages, func(marker *string) (int, *string, error) {
		out, err := call(ctx, b, b.iot.ListTargetsForPolicy, &iot.ListTargetsForPolicyInput{PolicyName: aws.String(policy), Marker: marker})
		if err != nil {
			return 0, nil, err
		}
		arns = append(arns, out.Targets...)
		return len(out.Targets), out.NextMarker, nil
	})
	return arns, err
}

// unlessGone passes over a not-found error: what should be removed is removed.
func unlessGone(err error) error {
	if errors.Is(err, task.ErrNotFound) {
		return nil
	}
	return err
}

// insist repeats a deletion that AWS refuses because an attachment has not ended yet.
func (b *Backend) insist(ctx context.Context, remove func() error) error {
	return b.await(ctx, "the end of attachments", refusedAsAttached(remove))
}

// refusedAsAttached reports a deletion that was refused as one to be tried again.
func refusedAsAttached(remove func() error) func() (again bool, err error) {
	return func() (again bool, err error) {
		err = unlessGone(remove())
		return errors.Is(err, task.ErrConflict), err
	}
}
