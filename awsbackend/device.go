package awsbackend

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
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
	thing, err := call(ctx, b, b.iot.DescribeThing, &iot.DescribeThingInput{ThingName: aws.String(name)})
	if err != nil {
		return nil, err
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

// HasThing implements [task.ThingFinder] with DescribeThing. Needs iot:DescribeThing.
func (b *Backend) HasThing(ctx context.Context, thingName string) (bool, error) {
	if thingName == "" {
		return false, fmt.Errorf("look for thing: %w", &task.InputError{Member: "thingName", Problem: "is empty"})
	}
	_, err := call(ctx, b, b.iot.DescribeThing, &iot.DescribeThingInput{ThingName: aws.String(thingName)})
	if errors.Is(err, task.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for thing %q: %w", thingName, err)
	}
	return true, nil
}

// ListCertificates implements [task.CertificateLister] with ListCertificates, which has the newest first. Reading
// ends with the page that has the first older certificate, so a recent since is cheap in an account of any size.
// A zero since lists all. Needs iot:ListCertificates.
func (b *Backend) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	const op = "ListCertificates"
	return func(yield func(*task.Certificate, error) bool) {
		stopped := false
		var first types.Certificate // of the page before
		err := pages(op, math.MaxInt, func(marker *string) (int, *string, error) {
			out, err := call(ctx, b, b.iot.ListCertificates, &iot.ListCertificatesInput{Marker: marker, PageSize: aws.Int32(250)})
			if err != nil {
				return 0, nil, err
			}
			if len(out.Certificates) > 0 {
				c := out.Certificates[0]
				if first.CertificateId != nil && (aws.ToString(c.CertificateId) == *first.CertificateId ||
					instant(c.CreationDate).After(instant(first.CreationDate))) {
					return 0, nil, fmt.Errorf("%s: the pages go round in a circle: certificate %s came again, or is newer than those before it",
						op, aws.ToString(c.CertificateId))
				}
				first = c
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
					return 0, nil, nil
				}
			}
			return len(out.Certificates), next, nil
		})
		if err != nil && !stopped {
			yield(nil, err)
		}
	}
}

// ReadCertificate implements [task.CertificateLister]: one certificate with its PEM and the names of its policies.
// Needs iot:DescribeCertificate and iot:ListAttachedPolicies.
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

// CertificateThings implements [task.CertificateLister] with ListPrincipalThings, of which AWS takes 10 a second by default.
// Needs iot:ListPrincipalThings.
func (b *Backend) CertificateThings(ctx context.Context, certificateARN string) ([]string, error) {
	if certificateARN == "" {
		return nil, fmt.Errorf("list the things of a certificate: %w", &task.InputError{Member: "principal", Problem: "is empty"})
	}
	names, err := b.thingsOf(ctx, certificateARN)
	if err = unlessGone(err); err != nil {
		return nil, fmt.Errorf("list the things of certificate %s: %w", task.ResourceName(certificateARN), err)
	}
	return names, nil
}

// certificate reads one certificate and the names of its policies.
func (b *Backend) certificate(ctx context.Context, id string) (*task.Certificate, error) {
	out, err := call(ctx, b, b.iot.DescribeCertificate, &iot.DescribeCertificateInput{CertificateId: aws.String(id)})
	if err != nil {
		return nil, err
	}
	desc := out.CertificateDescription
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
	if a, ok := partition.ParseARN(arn); ok && a.Service == "iot" {
		if id, ok := strings.CutPrefix(a.Resource, "cert/"); ok {
			return id
		}
	}
	return ""
}

func (b *Backend) groupsOf(ctx context.Context, thing string) (names []string, err error) {
	err = pages("ListThingGroupsForThing", maxPages, func(token *string) (int, *string, error) {
		out, err := call(ctx, b, b.iot.ListThingGroupsForThing, &iot.ListThingGroupsForThingInput{ThingName: aws.String(thing), NextToken: token})
		if err != nil {
			return 0, nil, err
		}
		for _, g := range out.ThingGroups {
			names = append(names, aws.ToString(g.GroupName))
		}
		return len(out.ThingGroups), out.NextToken, nil
	})
	return names, err
}

// principalsOf lists the ARNs of everything attached to a thing.
func (b *Backend) principalsOf(ctx context.Context, thing string) (arns []string, err error) {
	err = pages("ListThingPrincipals", maxPages, func(token *string) (int, *string, error) {
		out, err := call(ctx, b, b.iot.ListThingPrincipals, &iot.ListThingPrincipalsInput{ThingName: aws.String(thing), NextToken: token})
		if err != nil {
			return 0, nil, err
		}
		arns = append(arns, out.Principals...)
		return len(out.Principals), out.NextToken, nil
	})
	return arns, err
}

func (b *Backend) thingsOf(ctx context.Context, certARN string) (names []string, err error) {
	err = pages("ListPrincipalThings", maxPages, func(token *string) (int, *string, error) {
		out, err := call(ctx, b, b.iot.ListPrincipalThings, &iot.ListPrincipalThingsInput{Principal: aws.String(certARN), NextToken: token})
		if err != nil {
			return 0, nil, err
		}
		names = append(names, out.Things...)
		return len(out.Things), out.NextToken, nil
	})
	return names, err
}

func (b *Backend) policiesOf(ctx context.Context, certARN string) (names []string, err error) {
	err = pages("ListAttachedPolicies", maxPages, func(marker *string) (int, *string, error) {
		out, err := call(ctx, b, b.iot.ListAttachedPolicies, &iot.ListAttachedPoliciesInput{Target: aws.String(certARN), Marker: marker})
		if err != nil {
			return 0, nil, err
		}
		for _, p := range out.Policies {
			names = append(names, aws.ToString(p.PolicyName))
		}
		return len(out.Policies), out.NextMarker, nil
	})
	return names, err
}
