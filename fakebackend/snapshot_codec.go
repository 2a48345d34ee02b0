package fakebackend

import (
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// snapshotWriter turns the records into numbers.
type snapshotWriter struct {
	b        *account
	d        *snapshotData
	policies map[*policy]int
	certs    map[*certificate]int
	things   map[*thing]int
	goneCAs  map[*caCertificate]bool // CAs that are written although they are gone, since certificates name them
	// Records found by way of others, waiting to be written.
	morePolicies []*policy
	moreCerts    []*certificate
	moreThings   []*thing
}

func (w *snapshotWriter) write() {
	b, d, st := w.b, w.d, &w.b.st
	d.Region, d.Account = b.opts.Region, b.opts.Account
	d.Seed, d.Issued = b.keys.Load().seed, b.keys.Load().issuer.Issued()
	d.Roles, d.Objects = b.roles.Snapshot(), b.objects.Snapshot()
	d.Starts, d.Codes = st.starts, st.codes
	for i, n := range st.last() {
		d.Last[i] = *n
	}
	d.Tags = make(map[string][]tag, len(st.tags))
	for arn, tags := range st.tags {
		d.Tags[arn] = slices.Clone(tags)
	}
	w.policies, w.certs, w.things, w.goneCAs = map[*policy]int{}, map[*certificate]int{}, map[*thing]int{}, map[*caCertificate]bool{}
	for p := range st.policies.all() {
		w.policy(p)
	}
	for c := range st.certificates.all() {
		w.cert(c)
	}
	for t := range st.things.all() {
		w.thing(t)
	}
	for t := range st.thingTypes.all() {
		d.Types = append(d.Types, typeData{t.number(), t.name, t.properties, t.created, t.deprecated})
	}
	for g := range st.thingGroups.all() {
		out := groupData{N: g.number(), Name: g.name, Description: g.description, Attributes: pairs(g.attributes), Version: g.version, Created: g.created}
		if g.parent != nil {
			out.Parent = g.parent.name
		}
		for _, p := range g.policies {
			out.Policies = append(out.Policies, w.policy(p))
		}
		d.Groups = append(d.Groups, out)
	}
	for g := range st.billingGroups.all() {
		d.Billing = append(d.Billing, billingData{g.number(), g.name, g.description, g.version, g.created})
	}
	for c := range st.cas.all() {
		d.CAs = append(d.CAs, caOut(c))
	}
	for t := range st.templates.all() {
		d.Templates = append(d.Templates, templateOut(t))
	}
	for c := range st.claims.all() {
		created := time.UnixMilli(c.certificate.created).UTC()
		d.Claims = append(d.Claims, claimData{c.number(), c.certificate.der, c.template, created, c.expires})
	}
	for o := range st.ownerships.all() {
		d.Ownerships = append(d.Ownerships, ownershipData{o.number(), w.cert(o.certificate), o.claim.String(), o.expires, o.provisioned})
	}
	for r := range st.tasks.all() {
		d.Tasks = append(d.Tasks, w.task(r))
	}
	// Writing one record can turn up others.
	for len(w.morePolicies)+len(w.moreCerts)+len(w.moreThings) > 0 {
		policies, certs, things := w.morePolicies, w.moreCerts, w.moreThings
		w.morePolicies, w.moreCerts, w.moreThings = nil, nil, nil
		for _, p := range policies {
			w.d.Policies[w.policies[p]] = policyOut(p)
		}
		for _, c := range certs {
			w.d.Certificates[w.certs[c]] = w.certOut(c)
		}
		for _, t := range things {
			w.d.Things[w.things[t]] = w.thingOut(t)
		}
	}
}

// policy, cert and thing return a record's number, and see to it that it is written.
func (w *snapshotWriter) policy(p *policy) int {
	return numberIn(w.policies, p, &w.morePolicies, &w.d.Policies)
}
func (w *snapshotWriter) cert(c *certificate) int {
	return numberIn(w.certs, c, &w.moreCerts, &w.d.Certificates)
}
func (w *snapshotWriter) thing(t *thing) int {
	return numberIn(w.things, t, &w.moreThings, &w.d.Things)
}

func numberIn[R comparable, D any](numbers map[R]int, record R, more *[]R, out *[]D) int {
	i, ok := numbers[record]
	if !ok {
		i = len(*out)
		numbers[record] = i
		*more = append(*more, record)
		*out = append(*out, *new(D))
	}
	return i
}

func policyOut(p *policy) policyData {
	out := policyData{N: p.number(), Gone: p.gone(), Name: p.name, Created: p.created, Modified: p.modified, Standard: p.standard, Next: p.next}
	for _, v := range p.versions {
		out.Versions = append(out.Versions, versionData{v.id, v.document, v.created})
	}
	return out
}

func templateOut(t *provisioningTemplate) templateData {
	out := templateData{N: t.number(), Name: t.name, Description: t.description, Type: t.kind, Role: t.role, Enabled: t.enabled,
		Hook: t.hook, Created: t.created, Modified: t.modified, Standard: t.standard, Next: t.next}
	for _, v := range t.versions {
		out.Versions = append(out.Versions, templateVersionData{v.id, v.body, v.created})
	}
	return out
}

func caOut(c *caCertificate) caData {
	return caData{c.number(), c.gone(), c.der, c.active, c.auto, c.mode, c.config, c.created, c.modified, c.version}
}

func (w *snapshotWriter) certOut(c *certificate) certificateData {
	out := certificateData{N: c.number(), Gone: c.gone(), DER: c.der, Created: c.created, Modified: c.modified, Status: c.status,
		Exclusive: c.exclusive, SNIOnly: c.sniOnly, CustomerVersion: c.version}
	if c.ca != nil {
		out.CA = c.ca.id.String()
		if c.ca.gone() && !w.goneCAs[c.ca] {
			w.goneCAs[c.ca] = true
			w.d.CAs = append(w.d.CAs, caOut(c.ca))
		}
	}
	for _, p := range c.policies {
		out.Policies = append(out.Policies, w.policy(p))
	}
	for _, t := range c.things {
		out.Things = append(out.Things, w.thing(t))
	}
	return out
}

func (w *snapshotWriter) thingOut(t *thing) thingData {
	out := thingData{N: t.number(), Gone: t.gone(), Name: t.name, Version: t.version, Type: t.typeName(), Billing: t.billingName(),
		Attributes: pairs(t.attributes)}
	for _, g := range t.groups {
		out.Groups = append(out.Groups, g.name)
	}
	for _, c := range t.certificates {
		out.Certificates = append(out.Certificates, w.cert(c))
	}
	return out
}

func (w *snapshotWriter) task(r *registration) taskData {
	out := taskData{
		N: r.number(), ID: r.id, Template: r.templateBody, Bucket: r.bucket, Key: r.key, Role: r.roleARN, Status: r.status, Message: r.message,
		Created: r.created, Modified: r.modified, Ended: r.ended, Stopped: r.stopped, Shift: r.shift, Met: map[int]bool{}, Total: r.total,
		Next: r.next, Failure: r.failure,
	}
	maps.Copy(out.Met, r.met)
	for _, f := range r.failed {
		out.Failed = append(out.Failed, failedData{f.line, f.code, f.message})
	}
	rests := map[*outcomeRest]int{}
	for l := range r.succeeded.all() {
		i, ok := rests[l.rest]
		if !ok {
			i = len(out.Rests)
			rests[l.rest] = i
			out.Rests = append(out.Rests, w.rest(l.rest))
		}
		done := [4]int64{l.line, 0, 0, int64(i)}
		if l.thing != nil {
			done[1] = int64(w.thing(l.thing)) + 1
		}
		if l.certificate != nil {
			done[2] = int64(w.cert(l.certificate)) + 1
		}
		out.Done = append(out.Done, done)
	}
	if r.file != nil {
		out.Data, _ = io.ReadAll(r.file.Reader()) // reading memory does not fail
	}
	if r.session != nil {
		out.Session = new(r.session.State())
	}
	return out
}

func (w *snapshotWriter) rest(r *outcomeRest) restData {
	out := restData{Thing: r.thingName, Certificate: r.certificateName, PolicyNames: r.policyNames, MoreNames: r.moreNames}
	for _, p := range r.policies {
		out.Policies = append(out.Policies, w.policy(p))
	}
	for _, t := range r.moreThings {
		out.MoreThings = append(out.MoreThings, w.thing(t))
	}
	return out
}

func pairs(attributes []attribute) (out [][2]string) {
	for _, a := range attributes {
		out = append(out, [2]string{a.name, a.value})
	}
	return out
}

// snapshotReader turns numbers into records. A snapshot may have been tampered with: every number is checked.
type snapshotReader struct {
	b        *account
	d        *snapshotData
	st       state
	policies []*policy
	cas      map[certificateID]*caCertificate // also those that are gone
	certs    []*certificate
	things   []*thing
	err      error
}

func (r *snapshotReader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf(format, args...)
	}
}

// at picks a record by its number.
func at[T any](r *snapshotReader, all []T, i int, what string) (v T) {
	if i < 0 || i >= len(all) {
		r.fail("there is no %s %d", what, i)
		return v
	}
	return all[i]
}

func (r *snapshotReader) read() (*state, error) {
	d, st := r.d, &r.st
	r.cas = make(map[certificateID]*caCertificate)
	for name, role := range d.Roles.Roles {
		if role == nil {
			r.fail("the role %s is empty", name)
		}
	}
	for arn, policy := range d.Roles.Policies {
		if policy == nil {
			r.fail("the managed policy %s is empty", arn)
		}
	}
	for _, t := range d.Types {
		put(r, &st.thingTypes, t.Name, &thingType{name: t.Name, properties: t.Properties, created: t.Created, deprecated: t.Deprecated}, t.N)
	}
	for _, p := range d.Policies {
		policy := &policy{name: p.Name, created: p.Created, modified: p.Modified, standard: p.Standard, next: p.Next}
		for _, v := range p.Versions {
			policy.versions = append(policy.versions, policyVersion{v.ID, v.Document, v.Created})
		}
		if policy.version(p.Standard) == nil {
			r.fail("policy %s has no default version", p.Name)
		}
		r.policies = append(r.policies, policy)
		keep(r, &st.policies, p.Name, policy, p.N, p.Gone)
	}
	for _, g := range d.Groups {
		group := &thingGroup{name: g.Name, description: g.Description, attributes: attributesIn(r, g.Attributes), version: g.Version, created: g.Created}
		if g.Parent != "" {
			if group.parent, _ = st.thingGroups.get(g.Parent); group.parent == nil {
				r.fail("thing group %s has no parent %s", g.Name, g.Parent)
			} else {
				group.parent.children++
			}
		}
		for _, i := range g.Policies {
			r.attach(&group.policies, i)
		}
		put(r, &st.thingGroups, g.Name, group, g.N)
	}
	for _, g := range d.Billing {
		put(r, &st.billingGroups, g.Name, &billingGroup{name: g.Name, description: g.Description, version: g.Version, created: g.Created}, g.N)
	}
	for _, c := range d.CAs {
		ca := &caCertificate{id: sha256.Sum256(c.DER), der: c.DER, active: c.Active, auto: c.Auto, mode: c.Mode, config: c.Config,
			created: c.Created, modified: c.Modified, version: c.CustomerVersion}
		keep(r, &st.cas, ca.id, ca, c.N, c.Gone)
		if r.cas[ca.id] == nil { // those that are registered come first
			r.cas[ca.id] = ca
		}
	}
	for i := range d.Templates {
		r.template(&d.Templates[i])
	}
	r.registry()
	r.claims()
	for i := range d.Tasks {
		r.task(&d.Tasks[i])
	}
	for i, n := range st.last() {
		*n = max(*n, d.Last[i])
	}
	st.starts, st.codes = d.Starts, d.Codes
	if len(d.Tags) > 0 {
		st.tags = make(map[string][]tag, len(d.Tags))
		for arn, tags := range d.Tags {
			st.tags[arn] = slices.Clone(tags)
		}
	}
	return st, r.err
}

func (r *snapshotReader) template(t *templateData) {
	out := &provisioningTemplate{name: t.Name, description: t.Description, kind: t.Type, role: t.Role, enabled: t.Enabled, hook: t.Hook,
		created: t.Created, modified: t.Modified, standard: t.Standard, next: t.Next}
	for _, v := range t.Versions {
		out.versions = append(out.versions, templateVersion{v.ID, v.Body, v.Created})
	}
	if templateKinds[t.Type] == "" {
		r.fail("provisioning template %s has no type %q", t.Name, t.Type)
	}
	if out.version(t.Standard) == nil {
		r.fail("provisioning template %s has no default version", t.Name)
	}
	put(r, &r.st.templates, t.Name, out, t.N)
}

// claims reads temporary claims, and which certificates were asked for with which claim.
func (r *snapshotReader) claims() {
	for _, c := range r.d.Claims {
		claim := &temporaryClaim{certificate: r.b.claimCertificate(c.DER, c.Created, c.Template), template: c.Template, expires: c.Expires}
		put(r, &r.st.claims, claim.certificate.id, claim, c.N)
	}
	for _, o := range r.d.Ownerships {
		claim, ok := parseCertificateID(o.Claim)
		c := at(r, r.certs, o.Certificate, "certificate")
		if !ok || c == nil {
			r.fail("ownership %d has no certificate or no claim", o.N)
			continue
		}
		put(r, &r.st.ownerships, c.id, &ownership{certificate: c, claim: claim, expires: o.Expires, provisioned: o.Provisioned}, o.N)
	}
}

// registry reads things and certificates, and ties them to each other.
func (r *snapshotReader) registry() {
	st := &r.st
	for _, c := range r.d.Certificates {
		if int(c.Status) >= len(certStatuses) {
			r.fail("certificate %d has no status", c.N)
			c.Status = statusInactive
		}
		cert := &certificate{id: sha256.Sum256(c.DER), der: c.DER, created: c.Created, modified: c.Modified, status: c.Status,
			exclusive: c.Exclusive, sniOnly: c.SNIOnly, version: c.CustomerVersion}
		if id, ok := parseCertificateID(c.CA); ok {
			cert.ca = r.cas[id]
		}
		for _, i := range c.Policies {
			r.attach(&cert.policies, i)
		}
		r.certs = append(r.certs, cert)
		keep(r, &st.certificates, cert.id, cert, c.N, c.Gone)
	}
	for _, t := range r.d.Things {
		thing := &thing{name: t.Name, version: t.Version, attributes: attributesIn(r, t.Attributes)}
		thing.kind, _ = st.thingTypes.get(t.Type)
		thing.billing, _ = st.billingGroups.get(t.Billing)
		for _, name := range t.Groups {
			if g, ok := st.thingGroups.get(name); ok {
				thing.groups = append(thing.groups, g)
			}
		}
		for _, i := range t.Certificates {
			thing.certificates = append(thing.certificates, at(r, r.certs, i, "certificate"))
		}
		r.things = append(r.things, thing)
		keep(r, &st.things, t.Name, thing, t.N, t.Gone)
	}
	for n, c := range r.d.Certificates {
		for _, i := range c.Things {
			r.certs[n].things = append(r.certs[n].things, at(r, r.things, i, "thing"))
		}
	}
}

func (r *snapshotReader) attach(to *[]*policy, i int) {
	if p := at(r, r.policies, i, "policy"); p != nil {
		*to = append(*to, p)
		p.attached++
	}
}

func (r *snapshotReader) task(t *taskData) {
	reg := &registration{
		id: t.ID, templateBody: t.Template, bucket: t.Bucket, key: t.Key, roleARN: t.Role, status: t.Status, message: t.Message,
		created: t.Created, modified: t.Modified, ended: t.Ended, stopped: t.Stopped, shift: t.Shift, met: map[int]bool{},
		total: t.Total, next: t.Next, failure: t.Failure,
	}
	maps.Copy(reg.met, t.Met)
	for _, f := range t.Failed {
		reg.failed = append(reg.failed, failedLine{f.Line, f.Code, f.Message})
	}
	var rests []*outcomeRest
	for _, rest := range t.Rests {
		out := &outcomeRest{thingName: rest.Thing, certificateName: rest.Certificate, policyNames: rest.PolicyNames, moreNames: rest.MoreNames}
		for _, i := range rest.Policies {
			out.policies = append(out.policies, at(r, r.policies, i, "policy"))
		}
		for _, i := range rest.MoreThings {
			out.moreThings = append(out.moreThings, at(r, r.things, i, "thing"))
		}
		if len(out.policyNames) != len(out.policies) || len(out.moreNames) != len(out.moreThings) {
			r.fail("task %s has results without names", t.ID)
		}
		rests = append(rests, out)
	}
	for _, done := range t.Done {
		var o outcome
		o.rest = at(r, rests, int(done[3]), "result")
		if done[1] > 0 {
			o.thing = at(r, r.things, int(done[1])-1, "thing")
		}
		if done[2] > 0 {
			o.certificate = at(r, r.certs, int(done[2])-1, "certificate")
		}
		reg.succeeded.add(done[0], o, r.b.opts.LinesPerReport)
	}
	put(r, &r.st.tasks, t.ID, reg, t.N)
	if reg.status.Done() {
		return
	}
	if r.st.running != nil {
		r.fail("tasks %s and %s are both in progress", r.st.running.id, reg.id)
		return
	}
	reg.file = rawFile(t.Data)
	lines, _ := countLines(reg.file.Reader()) // reading memory does not fail
	if reg.failure == "" && lines != reg.total || reg.next < 0 || reg.next > reg.total {
		r.fail("task %s does not fit its data file", t.ID)
		return
	}
	if err := r.b.resume(reg, t.Session); err != nil {
		r.fail("task %s: %w", t.ID, err)
	}
	r.st.running = reg
}

// put adds a record with its number; keep does so unless it is gone.
func put[K comparable, V interface {
	comparable
	marked() *mark
}](r *snapshotReader, t *table[K, V], key K, v V, n uint64) {
	if _, ok := t.get(key); ok || n <= t.last {
		r.fail("records are doubled or out of order at %v", key)
		return
	}
	t.insert(key, v, n)
}

func keep[K comparable, V interface {
	comparable
	marked() *mark
}](r *snapshotReader, t *table[K, V], key K, v V, n uint64, gone bool) {
	if gone {
		v.marked().n = n<<1 | 1
		return
	}
	put(r, t, key, v, n)
}

func attributesIn(r *snapshotReader, in [][2]string) (out []attribute) {
	for _, p := range in {
		if r.st.names == nil {
			r.st.names = make(map[string]string)
		}
		name, ok := r.st.names[p[0]]
		if !ok {
			name = p[0]
			r.st.names[name] = name
		}
		out = append(out, attribute{name, p[1]})
	}
	if !slices.IsSortedFunc(out, func(a, b attribute) int { return strings.Compare(a.name, b.name) }) {
		r.fail("attributes are out of order")
	}
	return out
}
