package tasktest_test

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
)

// The abilities of the inner backend are found by task.As; a wrapper that has one itself comes first.

type (
	wrongRegion   struct{ hooks }
	wrongEndpoint struct {
		hooks
		change func(host string) string
	}
	wrongRoots struct {
		hooks
		change func(pem []byte) []byte
	}
	register struct {
		hooks
		do func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error)
	}
	reader struct {
		hooks
		change func(d *task.Device, err error) (*task.Device, error)
	}
	finder struct {
		hooks
		change func(has bool, err error) (bool, error)
	}
	remover struct {
		hooks
		certificate func(ctx context.Context, r *fakebackend.Backend, thing, id string) ([]string, error)
		thing       func(ctx context.Context, r *fakebackend.Backend, name string) ([]string, error)
		policy      func(ctx context.Context, r *fakebackend.Backend, name, document string) ([]string, error)
	}
	bucket struct{ hooks }
	lister struct {
		hooks
		list func(all []*task.Certificate, since time.Time) []*task.Certificate
		read func(c *task.Certificate, err error) (*task.Certificate, error)
		of   func(names []string, err error) ([]string, error)
	}
	roles struct {
		hooks
		calls int
		again func(arn string) (string, error)
	}
	resources struct {
		hooks
		do func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error
	}
	policies struct {
		hooks
		read  func(document string, err error) (string, error)
		group func(names []string, err error) ([]string, error)
	}
	preflight struct {
		hooks
		change func(f *finding.Finding)
	}
)

// inner returns an ability of the wrapped backend.
func inner[T any](h *hooks) T {
	t, ok := task.As[T](h.Backend)
	if !ok {
		panic("the fake has every ability")
	}
	return t
}

func (w *wrongRegion) Identity(ctx context.Context) (*task.Identity, error) {
	id, err := inner[task.Identifier](&w.hooks).Identity(ctx)
	id.Region = "us-west-2"
	return id, err
}

func (w *wrongEndpoint) DataEndpoint(ctx context.Context) (string, error) {
	host, err := inner[task.Endpointer](&w.hooks).DataEndpoint(ctx)
	return w.change(host), err
}

func (w *wrongRoots) RootCAs(ctx context.Context, endpoint string) ([]byte, error) {
	roots, err := inner[task.RootLister](&w.hooks).RootCAs(ctx, endpoint)
	return w.change(roots), err
}

func (r *register) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	return r.do(ctx, inner[task.Registrar](&r.hooks), in)
}

func (r *reader) ReadDevice(ctx context.Context, name string) (*task.Device, error) {
	return r.change(inner[task.DeviceReader](&r.hooks).ReadDevice(ctx, name))
}

func (r *remover) RetireCertificate(ctx context.Context, thing, id string) ([]string, error) {
	inner := r.Backend.(*fakebackend.Backend)
	if r.certificate == nil {
		return inner.RetireCertificate(ctx, thing, id)
	}
	return r.certificate(ctx, inner, thing, id)
}

func (r *remover) RemoveThing(ctx context.Context, name string) ([]string, error) {
	inner := r.Backend.(*fakebackend.Backend)
	if r.thing == nil {
		return inner.RemoveThing(ctx, name)
	}
	return r.thing(ctx, inner, name)
}

func (r *remover) RemovePolicy(ctx context.Context, name, document string) ([]string, error) {
	inner := r.Backend.(*fakebackend.Backend)
	if r.policy == nil {
		return inner.RemovePolicy(ctx, name, document)
	}
	return r.policy(ctx, inner, name, document)
}

func (b *bucket) EnsureBucket(context.Context) error {
	return &task.Error{Op: "CreateBucket", Code: "BucketAlreadyOwnedByYou", Status: 409, Kind: task.ErrConflict}
}

func (l *lister) ListCertificates(ctx context.Context, since time.Time) iter.Seq2[*task.Certificate, error] {
	return func(yield func(*task.Certificate, error) bool) {
		var all []*task.Certificate
		for c, err := range inner[task.CertificateLister](&l.hooks).ListCertificates(ctx, time.Time{}) {
			if err != nil {
				yield(nil, err)
				return
			}
			all = append(all, c)
		}
		for _, c := range l.list(all, since) {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (l *lister) ReadCertificate(ctx context.Context, id string) (*task.Certificate, error) {
	return l.read(inner[task.CertificateLister](&l.hooks).ReadCertificate(ctx, id))
}

func (l *lister) CertificateThings(ctx context.Context, arn string) ([]string, error) {
	names, err := inner[task.CertificateLister](&l.hooks).CertificateThings(ctx, arn)
	if l.of == nil {
		return names, err
	}
	return l.of(names, err)
}

func breakCertificateThings(of func(names []string, err error) ([]string, error)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &lister{hooks: hooks{Backend: b}, of: of} }
}

func breakLister(list func(all []*task.Certificate, since time.Time) []*task.Certificate) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &lister{hooks: hooks{Backend: b}, list: list} }
}

func breakCertificateReader(read func(c *task.Certificate, err error) (*task.Certificate, error)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &lister{hooks: hooks{Backend: b}, read: read} }
}

// since leaves out the older ones, as it should be.
func since(all []*task.Certificate, t time.Time) []*task.Certificate {
	return slices.DeleteFunc(all, func(c *task.Certificate) bool { return c.Created.Before(t) })
}

func (r *roles) EnsureRole(ctx context.Context, in *task.RoleInput) (string, error) {
	arn, err := inner[task.RoleEnsurer](&r.hooks).EnsureRole(ctx, in)
	if r.calls++; r.calls > 1 && err == nil {
		return r.again(arn)
	}
	return arn, err
}

func (r *resources) EnsureResources(ctx context.Context, in *task.ResourcesInput) error {
	return r.do(ctx, inner[task.ResourceEnsurer](&r.hooks), in)
}

func breakResources(do func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &resources{hooks{Backend: b}, do} }
}

func (p *preflight) Preflight(ctx context.Context, in *task.PreflightInput) (finding.List, error) {
	findings, err := inner[task.Preflighter](&p.hooks).Preflight(ctx, in)
	for i := range findings {
		p.change(&findings[i])
	}
	return findings, err
}

// breakRegister and the like wrap a backend whose ability does otherwise.

func breakRegister(do func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &register{hooks{Backend: b}, do} }
}

func breakEndpoint(change func(host string) string) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &wrongEndpoint{hooks{Backend: b}, change} }
}

func breakRoots(change func(pem []byte) []byte) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &wrongRoots{hooks{Backend: b}, change} }
}

// breakLostRegister has an error of its own where no answer came.
func breakLostRegister(instead error) func(task.Backend) task.Backend {
	return breakRegister(func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error) {
		got, err := r.RegisterThing(ctx, in)
		if err != nil && !task.Refused(err) {
			return &task.Registration{}, instead
		}
		return got, err
	})
}

// otherCertificate is one of another account.
func otherCertificate() string {
	other, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		panic(err)
	}
	return string(other.RootCA())
}

func (w *finder) HasThing(ctx context.Context, name string) (bool, error) {
	return w.change(inner[task.ThingFinder](&w.hooks).HasThing(ctx, name))
}

func breakFinder(change func(has bool, err error) (bool, error)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &finder{hooks{Backend: b}, change} }
}

func (p *policies) ReadPolicy(ctx context.Context, name string) (string, error) {
	document, err := inner[task.PolicyReader](&p.hooks).ReadPolicy(ctx, name)
	if p.read != nil {
		return p.read(document, err)
	}
	return document, err
}

func (p *policies) GroupPolicies(ctx context.Context, name string) ([]string, error) {
	names, err := inner[task.PolicyReader](&p.hooks).GroupPolicies(ctx, name)
	if p.group != nil {
		return p.group(names, err)
	}
	return names, err
}

func breakPolicies(p policies) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		p := p
		p.hooks = hooks{Backend: b}
		return &p
	}
}

// caStore changes what it returns of CAs.
type caStore struct {
	hooks
	read, ensured func(in *task.CAInput, ca *task.CA, err error) (*task.CA, error)
}

func (c *caStore) ReadCA(ctx context.Context, text string) (*task.CA, error) {
	ca, err := inner[task.CAEnsurer](&c.hooks).ReadCA(ctx, text)
	if c.read != nil {
		return c.read(nil, ca, err)
	}
	return ca, err
}

func (c *caStore) EnsureCA(ctx context.Context, in *task.CAInput) (*task.CA, error) {
	ca, err := inner[task.CAEnsurer](&c.hooks).EnsureCA(ctx, in)
	if c.ensured != nil {
		return c.ensured(in, ca, err)
	}
	return ca, err
}

func breakCA(c caStore) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		c := c
		c.hooks = hooks{Backend: b}
		return &c
	}
}

func breakReader(change func(d *task.Device, err error) (*task.Device, error)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &reader{hooks{Backend: b}, change} }
}

// breakRead changes devices that are there.
func breakRead(change func(d *task.Device)) func(task.Backend) task.Backend {
	return breakReader(func(d *task.Device, err error) (*task.Device, error) {
		if err == nil {
			change(d)
		}
		return d, err
	})
}

func breakRemover(r remover) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend {
		r := r
		r.hooks = hooks{Backend: b}
		return &r
	}
}

func breakRole(again func(arn string) (string, error)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &roles{hooks: hooks{Backend: b}, again: again} }
}

func breakPreflight(change func(f *finding.Finding)) func(task.Backend) task.Backend {
	return func(b task.Backend) task.Backend { return &preflight{hooks{Backend: b}, change} }
}

// detach takes a certificate off a thing and leaves it in the account.
func detach(ctx context.Context, b *fakebackend.Backend, thing, id string) error {
	c, err := b.ReadCertificate(ctx, id)
	if err != nil {
		return err
	}
	_, err = iot.NewFromConfig(fakeaws.Config(b)).DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: &thing, Principal: &c.ARN})
	return err
}

// gone makes the second removal of the same thing an error.
func gone() func(name string) error {
	removed := map[string]bool{}
	return func(name string) error {
		if removed[name] {
			return &task.Error{Op: "Delete", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
		}
		removed[name] = true
		return nil
	}
}

var brokenAbilities = []breakage{
	{"resources/ensure", "makes up a document", breakResources(func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error {
		made := *in
		made.Policies = maps.Clone(in.Policies)
		for name, doc := range in.Policies {
			made.Policies[name] = cmp.Or(doc, "{}")
		}
		return r.EnsureResources(ctx, &made)
	})},
	{"resources/ensure", "makes a part before it refuses", breakResources(func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error {
		_ = r.EnsureResources(ctx, &task.ResourcesInput{ThingTypes: in.ThingTypes})
		return r.EnsureResources(ctx, in)
	})},
	{"resources/ensure", "leaves the billing groups out", breakResources(func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error {
		made := *in
		made.BillingGroups = nil
		return r.EnsureResources(ctx, &made)
	})},
	{"resources/ensure", "conflicts are no errors", breakResources(func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error {
		if err := r.EnsureResources(ctx, in); !errors.Is(err, task.ErrConflict) {
			return err
		}
		return nil
	})},
	{"resources/ensure", "groups go by their names only", breakResources(func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error {
		if err := r.EnsureResources(ctx, in); !errors.Is(err, task.ErrConflict) || len(in.ThingGroups) == 0 {
			return err
		}
		return nil
	})},
	{"resources/ensure", "what exists is an error", func(b task.Backend) task.Backend {
		made := map[string]bool{}
		return breakResources(func(ctx context.Context, r task.ResourceEnsurer, in *task.ResourcesInput) error {
			for name, doc := range in.Policies {
				if doc != "" && made[name] {
					return &task.Error{Op: "CreatePolicy", Code: "ResourceAlreadyExistsException", Status: 409, Kind: task.ErrConflict}
				}
				made[name] = made[name] || doc != ""
			}
			return r.EnsureResources(ctx, in)
		})(b)
	}},
	{"identity/arns", "another region", func(b task.Backend) task.Backend { return &wrongRegion{hooks{Backend: b}} }},
	{"endpoint/host", "an address", breakEndpoint(func(host string) string { return "https://" + host + "/mqtt" })},
	{"endpoint/host", "with its port", breakEndpoint(func(host string) string { return host + ":8883" })},
	{"endpoint/host", "nothing", breakEndpoint(func(string) string { return "" })},
	{"endpoint/roots", "a web page", breakRoots(func([]byte) []byte { return []byte("<html>log in</html>\n") })},
	{"endpoint/roots", "text around them", breakRoots(func(pem []byte) []byte { return append([]byte("# roots\n"), pem...) })},
	{"endpoint/roots", "a key beside them", breakRoots(func(roots []byte) []byte {
		return append(roots, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0}})...)
	})},
	{"register/key", "a certificate of another key", breakRegister(
		func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error) {
			got, err := r.RegisterThing(ctx, in)
			if err == nil {
				got.CertificatePEM = otherCertificate()
			}
			return got, err
		})},
	{"register/key", "the ARN of another thing", breakRegister(
		func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error) {
			got, err := r.RegisterThing(ctx, in)
			if err == nil {
				got.ARNs["appliance"] += "-2"
			}
			return got, err
		})},
	{"register/key", "a bad name is a failure of the network", breakRegister(
		func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error) {
			got, err := r.RegisterThing(ctx, in)
			if err != nil {
				err = errOdd
			}
			return got, err
		})},
	{"register/once", "sends again when no answer came", breakRegister(
		func(ctx context.Context, r task.Registrar, in *task.RegisterInput) (*task.Registration, error) {
			got, err := r.RegisterThing(ctx, in)
			if err != nil && !task.Refused(err) {
				got, err = r.RegisterThing(ctx, in)
			}
			return got, err
		})},
	{"register/once", "calls a lost answer a refusal", breakLostRegister(
		&task.Error{Op: "RegisterThing", Code: "RequestError", Status: 400, Kind: task.ErrInvalidRequest})},
	{"register/once", "gives no error when no answer came", breakLostRegister(nil)},
	{"device/read", "another thing's name", breakRead(func(d *task.Device) { d.ThingName += "-2" })},
	{"device/read", "another thing's ARN", breakRead(func(d *task.Device) { d.ThingARN += "-2" })},
	{"device/read", "another certificate's PEM", breakRead(func(d *task.Device) { d.Certificates[0].PEM = otherCertificate() })},
	{"device/read", "another certificate's ARN", breakRead(func(d *task.Device) { d.Certificates[0].ARN = d.ThingARN })},
	{"device/read", "no status", breakRead(func(d *task.Device) { d.Certificates[0].Status = "" })},
	{"device/read", "no certificates", breakRead(func(d *task.Device) { d.Certificates = nil })},
	{"device/read", "a certificate twice", breakRead(func(d *task.Device) { d.Certificates = append(d.Certificates, d.Certificates...) })},
	{"device/read", "no PEM", breakRead(func(d *task.Device) { d.Certificates[0].PEM = "" })},
	{"device/read", "an id in upper case", breakRead(func(d *task.Device) { d.Certificates[0].ID = strings.ToUpper(d.Certificates[0].ID) })},
	{"device/read", "no policies", breakRead(func(d *task.Device) { d.Certificates[0].Policies = nil })},
	{"device/read", "another policy", breakRead(func(d *task.Device) { d.Certificates[0].Policies = []string{"rule-2"} })},
	{"device/read", "a policy too many", breakRead(func(d *task.Device) { d.Certificates[0].Policies = []string{"rule-1", "rule-2"} })},
	{"device/read", "no attributes", breakRead(func(d *task.Device) { d.Attributes = nil })},
	{"device/every-certificate", "only the newest", breakRead(func(d *task.Device) { d.Certificates = d.Certificates[len(d.Certificates)-1:] })},
	{"device/every-certificate", "one of them twice", breakRead(func(d *task.Device) { d.Certificates[1] = d.Certificates[0] })},
	{"device/unknown", "an empty device", breakReader(func(d *task.Device, err error) (*task.Device, error) {
		if err != nil {
			return &task.Device{}, nil
		}
		return d, nil
	})},
	{"policy/read", "an empty document for none", breakPolicies(policies{read: func(document string, _ error) (string, error) { return document, nil }})},
	{"policy/read", "another document", breakPolicies(policies{read: func(document string, err error) (string, error) { return document + " ", err }})},
	{"ca/unknown", "a CA that nobody registered", breakCA(caStore{read: func(_ *task.CAInput, ca *task.CA, err error) (*task.CA, error) { return &task.CA{}, nil }})},
	{"ca/ensure", "a CA without a proof", breakCA(caStore{ensured: func(in *task.CAInput, ca *task.CA, err error) (*task.CA, error) {
		if in.Prove == nil {
			return &task.CA{Active: true}, nil
		}
		return ca, err
	}})},
	{"ca/ensure", "a CA that is not active", breakCA(caStore{ensured: func(_ *task.CAInput, ca *task.CA, err error) (*task.CA, error) {
		if err == nil {
			ca.Active = false
		}
		return ca, err
	}})},
	{"ca/ensure", "a conflict that is none", breakCA(caStore{ensured: func(in *task.CAInput, ca *task.CA, err error) (*task.CA, error) {
		if in.AutoRegister {
			return ca, nil
		}
		return ca, err
	}})},
	{"policy/group", "no policies for no group", breakPolicies(policies{group: func(names []string, _ error) ([]string, error) { return names, nil }})},
	{"policy/group", "policies of another group", breakPolicies(policies{group: func(_ []string, err error) ([]string, error) { return []string{"x"}, err }})},
	{"thing/has", "every name is free", breakFinder(func(_ bool, err error) (bool, error) { return false, err })},
	{"thing/has", "every name is taken", breakFinder(func(_ bool, err error) (bool, error) { return err == nil, err })},
	{"thing/has", "free when it could not look", breakFinder(func(has bool, _ error) (bool, error) { return has, nil })},
	{"certificate/retire", "the second time is an error", func(b task.Backend) task.Backend {
		again := gone()
		return breakRemover(remover{certificate: func(ctx context.Context, r *fakebackend.Backend, thing, id string) ([]string, error) {
			if err := again(id); err != nil {
				return nil, err
			}
			return r.RetireCertificate(ctx, thing, id)
		}})(b)
	}},
	{"certificate/retire", "does nothing", breakRemover(remover{certificate: func(context.Context, *fakebackend.Backend, string, string) ([]string, error) {
		return nil, nil
	}})},
	{"certificate/retire", "does not delete it", breakRemover(remover{certificate: func(ctx context.Context, r *fakebackend.Backend, thing, id string) ([]string, error) {
		return nil, detach(ctx, r, thing, id)
	}})},
	{"certificate/shared", "deletes it", breakRemover(remover{certificate: func(ctx context.Context, r *fakebackend.Backend, thing, id string) ([]string, error) {
		others, err := r.RetireCertificate(ctx, thing, id)
		for _, o := range others {
			if _, err := r.RetireCertificate(ctx, o, id); err != nil {
				return nil, err
			}
		}
		return others, err
	}})},
	{"certificate/shared", "keeps it attached", breakRemover(remover{certificate: func(ctx context.Context, r *fakebackend.Backend, thing, id string) ([]string, error) {
		var others []string
		for d := range r.Things() {
			if d.ThingName != thing && slices.ContainsFunc(d.Certificates, func(c task.Certificate) bool { return c.ID == id }) {
				others = append(others, d.ThingName)
			}
		}
		return others, nil
	}})},
	{"certificate/shared", "reports no others", breakRemover(remover{certificate: func(ctx context.Context, r *fakebackend.Backend, thing, id string) ([]string, error) {
		_, err := r.RetireCertificate(ctx, thing, id)
		return nil, err
	}})},
	{"thing/remove", "detaches what is attached", breakRemover(remover{thing: func(ctx context.Context, r *fakebackend.Backend, name string) ([]string, error) {
		left, err := r.RemoveThing(ctx, name)
		for _, arn := range left {
			err = errors.Join(err, detach(ctx, r, name, task.ResourceName(arn)))
		}
		return left, err
	}})},
	{"thing/remove", "does nothing", breakRemover(remover{thing: func(ctx context.Context, r *fakebackend.Backend, name string) ([]string, error) {
		var principals []string
		if d, ok := r.Thing(name); ok {
			for _, c := range d.Certificates {
				principals = append(principals, c.ARN)
			}
		}
		return principals, nil
	}})},
	{"thing/remove", "the second time is an error", func(b task.Backend) task.Backend {
		again := gone()
		return breakRemover(remover{thing: func(ctx context.Context, r *fakebackend.Backend, name string) ([]string, error) {
			left, err := r.RemoveThing(ctx, name)
			if len(left) == 0 && err == nil {
				err = again(name)
			}
			return left, err
		}})(b)
	}},
	{"policy/remove", "reports no targets", breakRemover(remover{policy: func(ctx context.Context, r *fakebackend.Backend, name, document string) ([]string, error) {
		_, err := r.RemovePolicy(ctx, name, document)
		return nil, err
	}})},
	{"policy/remove", "deletes it from under its targets", breakRemover(remover{policy: func(ctx context.Context, r *fakebackend.Backend, name, document string) ([]string, error) {
		left, err := r.RemovePolicy(ctx, name, document)
		client := iot.NewFromConfig(fakeaws.Config(r))
		for _, target := range left {
			_, e := client.DetachPolicy(ctx, &iot.DetachPolicyInput{PolicyName: &name, Target: &target})
			err = errors.Join(err, e)
		}
		_, e := r.RemovePolicy(ctx, name, document)
		return left, errors.Join(err, e)
	}})},
	{"policy/other", "looks at no document", breakRemover(remover{policy: func(ctx context.Context, r *fakebackend.Backend, name, _ string) ([]string, error) {
		document, err := r.ReadPolicy(ctx, name)
		if errors.Is(err, task.ErrNotFound) {
			return nil, nil
		}
		return r.RemovePolicy(ctx, name, document)
	}})},
	{"policy/remove", "does nothing", breakRemover(remover{policy: func(ctx context.Context, r *fakebackend.Backend, name, document string) ([]string, error) {
		var targets []string
		for c := range r.Certificates() {
			if slices.Contains(c.Policies, name) {
				targets = append(targets, c.ARN)
			}
		}
		return targets, nil
	}})},
	{"policy/remove", "the second time is an error", func(b task.Backend) task.Backend {
		again := gone()
		return breakRemover(remover{policy: func(ctx context.Context, r *fakebackend.Backend, name, document string) ([]string, error) {
			left, err := r.RemovePolicy(ctx, name, document)
			if len(left) == 0 && err == nil {
				err = again(name)
			}
			return left, err
		}})(b)
	}},
	{"certificate/list", "gives the oldest first", breakLister(func(all []*task.Certificate, t time.Time) []*task.Certificate {
		slices.Reverse(all)
		return since(all, t)
	})},
	{"certificate/list", "only the newest", breakLister(func(all []*task.Certificate, t time.Time) []*task.Certificate {
		return since(all, t)[:1]
	})},
	{"certificate/list", "one of them twice", breakLister(func(all []*task.Certificate, t time.Time) []*task.Certificate {
		return append(all[:1:1], since(all, t)...)
	})},
	{"certificate/list", "with their PEM", breakLister(func(all []*task.Certificate, t time.Time) []*task.Certificate {
		for _, c := range all {
			c.PEM = otherCertificate()
		}
		return since(all, t)
	})},
	{"certificate/list", "one that is far older, last", breakLister(func(all []*task.Certificate, t time.Time) []*task.Certificate {
		return append(since(all, t), &task.Certificate{ID: "old", Created: t.Add(-time.Hour)})
	})},
	{"certificate/list", "older ones too", breakLister(func(all []*task.Certificate, _ time.Time) []*task.Certificate { return all })},
	{"certificate/things", "only the first", breakCertificateThings(func(names []string, err error) ([]string, error) {
		return names[:min(1, len(names))], err
	})},
	{"certificate/things", "not found instead of none", breakCertificateThings(func(names []string, err error) ([]string, error) {
		if err == nil && len(names) == 0 {
			err = task.ErrNotFound
		}
		return names, err
	})},
	{"certificate/things", "none instead of an error", breakCertificateThings(func(names []string, _ error) ([]string, error) {
		return names, nil
	})},
	{"certificate/read", "no PEM", breakCertificateReader(func(c *task.Certificate, err error) (*task.Certificate, error) {
		if err == nil {
			c.PEM = ""
		}
		return c, err
	})},
	{"certificate/read", "another certificate's PEM", breakCertificateReader(func(c *task.Certificate, err error) (*task.Certificate, error) {
		if err == nil {
			c.PEM = otherCertificate()
		}
		return c, err
	})},
	{"certificate/read", "no policies", breakCertificateReader(func(c *task.Certificate, err error) (*task.Certificate, error) {
		if err == nil {
			c.Policies = nil
		}
		return c, err
	})},
	{"certificate/read", "another certificate's id", breakCertificateReader(func(c *task.Certificate, err error) (*task.Certificate, error) {
		if err == nil {
			c.ID = strings.ToUpper(c.ID)
		}
		return c, err
	})},
	{"certificate/read", "nothing instead of an error", breakCertificateReader(func(c *task.Certificate, err error) (*task.Certificate, error) {
		return c, nil
	})},
	{"bucket/ensure", "a bucket that is there is an error", func(b task.Backend) task.Backend { return &bucket{hooks{Backend: b}} }},
	{"role/ensure", "does not wait until the role can be assumed", func(b task.Backend) task.Backend {
		ready := time.Now().Add(10 * time.Second)
		return &hooks{Backend: b, start: func(ctx context.Context, in *task.StartInput) (task.ID, error) {
			if in.RoleARN != fakeRole && time.Now().Before(ready) {
				return "", &task.Error{Op: "StartThingRegistrationTask", Code: "InvalidRequestException", Status: 400, Kind: task.ErrInvalidRequest}
			}
			return b.StartTask(ctx, in)
		}}
	}},
	{"role/ensure", "a role that is there is an error", breakRole(func(string) (string, error) {
		return "", &task.Error{Op: "CreateRole", Code: "EntityAlreadyExists", Status: 409, Kind: task.ErrConflict}
	})},
	{"role/ensure", "another role each time", breakRole(func(arn string) (string, error) { return arn + "-2", nil })},
	{"preflight/findings", "all is well", breakPreflight(func(f *finding.Finding) { f.Severity = finding.OK })},
	{"preflight/findings", "a rule of its own", breakPreflight(func(f *finding.Finding) {
		if f.Rule == "policy" {
			f.Rule = "iot-policy"
		}
	})},
	{"preflight/findings", "does not say what to do", breakPreflight(func(f *finding.Finding) { f.Message = "" })},
	{"preflight/findings", "a sound role is a problem", breakPreflight(func(f *finding.Finding) {
		f.Severity, f.Message = finding.Error, "it looks odd"
	})},
}
