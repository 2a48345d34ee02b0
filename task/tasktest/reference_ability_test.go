package tasktest_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"iter"
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// The abilities.

func (r *reference) Identity(context.Context) (*task.Identity, error) {
	return &task.Identity{Partition: "aws", Account: "123456789012", Region: "eu-west-1", Fake: true}, nil
}

func (r *reference) DataEndpoint(context.Context) (string, error) {
	return "reference-ats.iot.eu-west-1.amazonaws.com", nil
}

// RootCAs returns a certificate of the reference's own key.
func (r *reference) RootCAs(context.Context, string) ([]byte, error) {
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "root"}, NotAfter: time.Now().AddDate(1, 0, 0),
		BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, root, root, &r.key.PublicKey, r.key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

func (r *reference) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if id := in.Parameters["CertificateId"]; id != "" {
		return r.share(in.Parameters["ThingName"], id)
	}
	got, err := r.register(in.Parameters, 0)
	if err == nil && r.faults[tasktest.DropRegisterAfter] {
		return nil, errDropped
	}
	return got, err
}

// share puts a certificate that is there on one more thing.
func (r *reference) share(thing, id string) (*task.Registration, error) {
	i := slices.IndexFunc(r.certificates, func(c task.Certificate) bool { return c.ID == id })
	if i < 0 {
		return nil, refuse("ResourceNotFoundException", "no certificate "+id)
	}
	r.things[thing] = &task.Device{ThingName: thing, ThingARN: referenceAccount + "thing/" + thing, Certificates: r.certificates[i : i+1 : i+1]}
	return &task.Registration{CertificatePEM: r.certificates[i].PEM}, nil
}

func (r *reference) ReadDevice(ctx context.Context, name string) (*task.Device, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if r.things[name] == nil {
		return nil, refuse("ResourceNotFoundException", "no thing "+name)
	}
	device := *r.things[name]
	device.Certificates = slices.Clone(device.Certificates)
	return &device, nil
}

func (r *reference) HasThing(ctx context.Context, name string) (bool, error) {
	if err := r.enter(ctx); err != nil {
		return false, err
	}
	defer r.mu.Unlock()
	return r.things[name] != nil, nil
}

func (r *reference) RetireCertificate(ctx context.Context, thing, id string) (others []string, err error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	r.detach(thing, id)
	if others = r.others(thing, id); len(others) == 0 {
		r.certificates = slices.DeleteFunc(r.certificates, func(c task.Certificate) bool { return c.ID == id })
	}
	return others, nil
}

func (r *reference) detach(thing, id string) {
	if d := r.things[thing]; d != nil {
		d.Certificates = slices.DeleteFunc(d.Certificates, func(c task.Certificate) bool { return c.ID == id })
	}
}

// others are the other things that have a certificate.
func (r *reference) others(thing, id string) (names []string) {
	for name, d := range r.things {
		if name != thing && slices.ContainsFunc(d.Certificates, func(c task.Certificate) bool { return c.ID == id }) {
			names = append(names, name)
		}
	}
	return names
}

func (r *reference) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		if err := r.enter(ctx); err != nil {
			yield(nil, err)
			return
		}
		all := slices.Clone(r.certificates)
		r.mu.Unlock()
		slices.SortFunc(all, func(a, b task.Certificate) int { return b.Created.Compare(a.Created) })
		for _, c := range all {
			if c.PEM, c.Policies = "", nil; !c.Created.Before(since) && !yield(&c, nil) {
				return
			}
		}
	}
}

func (r *reference) ReadCertificate(ctx context.Context, id string) (*task.Certificate, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	for _, c := range r.certificates {
		if c.ID == id {
			return &c, nil
		}
	}
	return nil, refuse("ResourceNotFoundException", "no certificate "+id)
}

func (r *reference) RemoveThing(ctx context.Context, name string) (principals []string, err error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if principals = r.principals(name); len(principals) == 0 {
		delete(r.things, name)
	}
	return principals, nil
}

func (r *reference) principals(thing string) (arns []string) {
	if d := r.things[thing]; d != nil {
		for _, c := range d.Certificates {
			arns = append(arns, c.ARN)
		}
	}
	return arns
}

func (r *reference) RemovePolicy(ctx context.Context, name, document string) (targets []string, err error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if !strings.Contains(document, "iot:Connect") { // as the policy of every case
		return nil, &task.Error{Op: "RemovePolicy", Code: "DeleteConflictException", Status: 409, Kind: task.ErrConflict}
	}
	if targets = r.targets(name); len(targets) == 0 {
		delete(r.resources, name)
	}
	return targets, nil
}

func (r *reference) targets(policy string) (arns []string) {
	for _, c := range r.certificates {
		if slices.Contains(c.Policies, policy) {
			arns = append(arns, c.ARN)
		}
	}
	return arns
}

func (r *reference) EnsureBucket(context.Context) error { return nil }

func (r *reference) EnsureRole(ctx context.Context, in *task.RoleInput) (string, error) {
	if err := r.enter(ctx); err != nil {
		return "", err
	}
	defer r.mu.Unlock()
	arn := "arn:aws:iam::123456789012:role/" + in.Name
	r.roles[arn] = true
	return arn, nil
}

func (r *reference) EnsureResources(ctx context.Context, in *task.ResourcesInput) error {
	if err := r.enter(ctx); err != nil {
		return err
	}
	defer r.mu.Unlock()
	made := maps.Clone(r.resources)
	for name, doc := range in.Policies {
		old, ok := made[name]
		switch {
		case !ok && doc == "":
			return &task.InputError{Member: "Policies", Problem: "no document for " + name}
		case ok && doc != "" && doc != old:
			return &task.Error{Op: "CreatePolicy", Code: "ResourceAlreadyExistsException", Status: 409, Kind: task.ErrConflict}
		case !ok:
			made[name] = doc
		}
	}
	for _, name := range slices.Concat(in.ThingTypes, in.BillingGroups) {
		made[name] = ""
	}
	for _, g := range in.ThingGroups {
		if old, ok := made[g.Name]; ok && g.Parent != "" && old != g.Parent {
			return &task.Error{Op: "CreateThingGroup", Code: "ResourceAlreadyExistsException", Status: 409, Kind: task.ErrConflict}
		} else if !ok {
			made[g.Name] = g.Parent
		}
	}
	r.resources = made
	return nil
}

func (r *reference) ReadPolicy(ctx context.Context, name string) (string, error) {
	if err := r.enter(ctx); err != nil {
		return "", err
	}
	defer r.mu.Unlock()
	document, ok := r.resources[name]
	if !ok {
		return "", &task.Error{Op: "GetPolicy", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
	}
	return document, nil
}

func (r *reference) GroupPolicies(ctx context.Context, name string) ([]string, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if _, ok := r.resources[name]; !ok {
		return nil, &task.Error{Op: "ListAttachedPolicies", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
	}
	return nil, nil // nothing here attaches one
}

func (r *reference) Preflight(ctx context.Context, in *task.PreflightInput) (finding.List, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	if in.RoleARN != referenceRole {
		return nil, errors.New("not modelled")
	}
	findings := finding.List{{Rule: "role", Resource: in.RoleARN, Severity: finding.OK}}
	for _, kind := range []struct {
		rule  finding.Rule
		names []string
	}{{"thing-type", in.ThingTypes}, {"thing-group", in.ThingGroups}, {"billing-group", in.BillingGroups}, {"policy", in.Policies}} {
		for _, name := range kind.names {
			f := finding.Finding{Rule: kind.rule, Resource: name, Severity: finding.OK}
			if _, ok := r.resources[name]; !ok {
				f.Severity, f.Message = finding.Error, "there is none: create it first"
			}
			findings = append(findings, f)
		}
	}
	return findings, nil
}

func (r *reference) ReadCA(ctx context.Context, text string) (*task.CA, error) {
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	ca, ok := r.cas[text]
	if !ok {
		return nil, &task.Error{Op: "DescribeCACertificate", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
	}
	return &ca, nil
}

func (r *reference) EnsureCA(ctx context.Context, in *task.CAInput) (*task.CA, error) {
	if err := in.Check(); err != nil {
		return nil, err
	}
	if err := r.enter(ctx); err != nil {
		return nil, err
	}
	defer r.mu.Unlock()
	ca, ok := r.cas[in.CertificatePEM]
	if !ok {
		id, err := task.CertificateID(in.CertificatePEM)
		if err != nil {
			return nil, err
		}
		ca = task.CA{ID: id, Active: true, AutoRegister: in.AutoRegister}
		if r.cas == nil {
			r.cas = map[string]task.CA{}
		}
		r.cas[in.CertificatePEM] = ca
	}
	return &ca, in.Suits(&ca)
}
