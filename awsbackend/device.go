package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/seed1ff6f450/iotfleet/task"
)

// ReadDevice implements [task.DeviceReader]: the thing, its groups, and every certificate attached to it with its PEM
// and the policies attached to it. Other principals, such as Cognito identities, are left out, and so is a certificate
// that is deleted while it is being read.
//
// Needs iot:DescribeThing, iot:ListThingPrincipals, iot:ListThingGroupsForThing, iot:DescribeCertificate and
// iot:ListAttachedPolicies. It costs three calls and two more for each certificate; AWS takes 10 a second of some of
// them by default, and the SDK waits when it is throttled.
func (b *Backend) ReadDevice(ctx context.Context, thingName string) (*task.Device, error) {
	d, err := b.readDevice(ctx, thingName)
	if err != nil {
		return nil, fmt.Errorf("read thing %q: %w", thingName, err)
	}
	return d, nil
}

func (b *Backend) readDevice(ctx context.Context, name string) (*task.Device, error) {
	if name == "" {
		return nil, &task.InputError{Member: "thingName", Problem: "is empty"}
	}
	thing, err := b.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String(name)}, b.markIoT)
	if err != nil {
		return nil, b.fault(ctx, "iot", "DescribeThing", err)
	}
	d := &task.Device{
		ThingName:     aws.ToString(thing.ThingName),
		ThingARN:      aws.ToString(thing.ThingArn),
		ThingTypeName: aws.ToString(thing.ThingTypeName),
		Attributes:    thing.Attributes,
		BillingGroup:  aws.ToString(thing.BillingGroupName),
	}
	if d.ThingGroups, err = b.groupsOf(ctx, name); err != nil {
		return nil, err
	}
	principals, err := b.principalsOf(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, arn := range principals {
		id := certificateID(arn)
		if id == "" {
			continue
		}
		cert, err := b.certificate(ctx, id)
		if errors.Is(err, task.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", id, err)
		}
		d.Certificates = append(d.Certificates, *cert)
	}
	return d, nil
}

// ListCertificates implements [task.CertificateLister] with ListCertificates, which gives the newest first. Reading ends
// with the page in which the first older certificate stands, so a recent since is cheap in an account of any size. A zero
// since lists all. Needs iot:ListCertificates.
func (b *Backend) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	const op = "ListCertificates"
	return func(yield func(*task.Certificate, error) bool) {
		stopped := false
		err := pages(op, func(marker *string) (*string, error) {
			out, err := b.iot.ListCertificates(ctx,
				&iot.ListCertificatesInput{Marker: marker, PageSize: aws.Int32(250)}, b.markIoT)
			if err != nil {
				return nil, b.fault(ctx, "iot", op, err)
			}
			next := out.NextMarker
			for _, c := range out.Certificates {
				created := instant(c.CreationDate)
				if created.Before(since) {
					next = nil
					continue
				}
				cert := &task.Certificate{
					ID: aws.ToString(c.CertificateId), ARN: aws.ToString(c.CertificateArn), Status: string(c.Status), Created: created,
				}
				if !yield(cert, nil) {
					stopped = true
					return nil, nil
				}
			}
			return next, nil
		})
		if err != nil && !stopped {
			yield(nil, err)
		}
	}
}

// ReadCertificate implements [task.CertificateLister]: one certificate with its PEM and the names of its policies. Needs
// iot:DescribeCertificate and iot:ListAttachedPolicies.
func (b *Backend) ReadCertificate(ctx context.Context, certificateID string) (*task.Certificate, error) {
	if certificateID == "" {
		return nil, fmt.Errorf("read certificate: %w", &task.InputError{Member: "certificateId", Problem: "is empty"})
	}
	cert, err := b.certificate(ctx, certificateID)
	if err != nil {
		return nil, fmt.Errorf("read certificate %s: %w", certificateID, err)
	}
	return cert, nil
}

// certificate reads one certificate and the names of its policies.
func (b *Backend) certificate(ctx context.Context, id string) (*task.Certificate, error) {
	out, err := b.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(id)}, b.markIoT)
	if err != nil {
		return nil, b.fault(ctx, "iot", "DescribeCertificate", err)
	}
	desc := out.CertificateDescription
	if desc == nil {
		return nil, fmt.Errorf("DescribeCertificate: %w: the answer has no description", task.ErrUnavailable)
	}
	cert := &task.Certificate{
		ID:      aws.ToString(desc.CertificateId),
		ARN:     aws.ToString(desc.CertificateArn),
		PEM:     aws.ToString(desc.CertificatePem),
		Status:  string(desc.Status),
		Created: instant(desc.CreationDate),
	}
	cert.Policies, err = b.policiesOf(ctx, cert.ARN)
	if err != nil {
		return nil, err
	}
	return cert, nil
}

// certificateID returns the id in a certificate's ARN, "" for any other principal.
func certificateID(arn string) string {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) != 6 || parts[2] != "iot" {
		return ""
	}
	id, ok := strings.CutPrefix(parts[5], "cert/")
	if !ok {
		return ""
	}
	return id
}

func (b *Backend) groupsOf(ctx context.Context, thing string) (names []string, err error) {
	const op = "ListThingGroupsForThing"
	err = pages(op, func(token *string) (*string, error) {
		out, err := b.iot.ListThingGroupsForThing(ctx,
			&iot.ListThingGroupsForThingInput{ThingName: aws.String(thing), NextToken: token}, b.markIoT)
		if err != nil {
			return nil, b.fault(ctx, "iot", op, err)
		}
		for _, g := range out.ThingGroups {
			names = append(names, aws.ToString(g.GroupName))
		}
		return out.NextToken, nil
	})
	return names, err
}

// principalsOf lists the ARNs of everything attached to a thing.
func (b *Backend) principalsOf(ctx context.Context, thing string) (arns []string, err error) {
	const op = "ListThingPrincipals"
	err = pages(op, func(token *string) (*string, error) {
		out, err := b.iot.ListThingPrincipals(ctx,
			&iot.ListThingPrincipalsInput{ThingName: aws.String(thing), NextToken: token}, b.markIoT)
		if err != nil {
			return nil, b.fault(ctx, "iot", op, err)
		}
		arns = append(arns, out.Principals...)
		return out.NextToken, nil
	})
	return arns, err
}

func (b *Backend) thingsOf(ctx context.Context, certARN string) (names []string, err error) {
	const op = "ListPrincipalThings"
	err = pages(op, func(token *string) (*string, error) {
		out, err := b.iot.ListPrincipalThings(ctx,
			&iot.ListPrincipalThingsInput{Principal: aws.String(certARN), NextToken: token}, b.markIoT)
		if err != nil {
			return nil, b.fault(ctx, "iot", op, err)
		}
		names = append(names, out.Things...)
		return out.NextToken, nil
	})
	return names, err
}

func (b *Backend) policiesOf(ctx context.Context, certARN string) (names []string, err error) {
	const op = "ListAttachedPolicies"
	err = pages(op, func(marker *string) (*string, error) {
		out, err := b.iot.ListAttachedPolicies(ctx,
			&iot.ListAttachedPoliciesInput{Target: aws.String(certARN), Marker: marker}, b.markIoT)
		if err != nil {
			return nil, b.fault(ctx, "iot", op, err)
		}
		for _, p := range out.Policies {
			names = append(names, aws.ToString(p.PolicyName))
		}
		return out.NextMarker, nil
	})
	return names, err
}

// pages asks for page after page. A token that comes back as it went would ask for ever, so it ends in an error.
func pages(op string, page func(token *string) (next *string, err error)) error {
	var token *string
	for {
		next, err := page(token)
		if err != nil || aws.ToString(next) == "" {
			return err
		}
		if aws.ToString(next) == aws.ToString(token) {
			return fmt.Errorf("%s: %w: the same page token came twice", op, task.ErrUnavailable)
		}
		token = next
	}
}
