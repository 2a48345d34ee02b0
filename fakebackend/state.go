package fakebackend

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	policydoc "github.com/seed1ff6f450/iotfleet/internal/policy"
	"github.com/seed1ff6f450/iotfleet/template"
)

// state is everything an account holds. All of it is guarded by IoT's turn.
//
// Records point at each other: a thing at its certificates and a certificate at its things and policies. What would be
// long, such as all things of a group or all certificates of a policy, is not kept but found by going through the
// table; so a device costs the same whether it has groups or not.
type state struct {
	things        table[string, *thing]
	certificates  table[certificateID, *certificate]
	thingTypes    table[string, *thingType]
	thingGroups   table[string, *thingGroup]
	billingGroups table[string, *billingGroup]
	policies      table[string, *policy]
	cas           table[certificateID, *caCertificate]
	templates     table[string, *provisioningTemplate]
	claims        table[certificateID, *temporaryClaim]
	ownerships    table[certificateID, *ownership] // by the certificate that is owned
	tasks         table[string, *registration]

	running *registration // the task in progress, or being cancelled; nil if there is none
	tags    map[string][]tag
	names   map[string]string // attribute names, each kept once
	starts  uint64            // tasks started, for their ids
	codes   uint64            // registration codes deleted
}

// last are the numbers of the records made last, in the order in which a snapshot has them.
func (st *state) last() [11]*uint64 {
	return [11]*uint64{&st.things.last, &st.certificates.last, &st.thingTypes.last, &st.thingGroups.last, &st.billingGroups.last,
		&st.policies.last, &st.cas.last, &st.tasks.last, &st.templates.last,
		&st.claims.last, &st.ownerships.last}
}

// emptied is a state without records that goes on counting, so that no id comes a second time.
func (st *state) emptied() state {
	out := state{starts: st.starts, codes: st.codes + 1}
	old := st.last()
	for i, n := range out.last() {
		*n = *old[i]
	}
	return out
}

// thing is a registered thing.
type thing struct {
	mark
	name         string
	version      int64
	kind         *thingType
	billing      *billingGroup
	attributes   []attribute // sorted by name
	groups       []*thingGroup
	certificates []*certificate
}

type attribute struct{ name, value string }

// certificateID is the SHA-256 of a certificate's DER.
type certificateID [sha256.Size]byte

func (id certificateID) String() string { return hex.EncodeToString(id[:]) }

// parseCertificateID reads an id in hex, as the model's pattern allows it.
func parseCertificateID(s string) (id certificateID, ok bool) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != len(id) {
		return id, false
	}
	copy(id[:], raw)
	return id, true
}

// certificate is a device certificate.
type certificate struct {
	mark
	id        certificateID
	der       []byte
	created   int64 // Unix milliseconds
	modified  int64
	status    certStatus
	exclusive bool  // attached to its one thing as EXCLUSIVE_THING
	sniOnly   bool  // registered without a CA, or under one in that mode
	version   int32 // customerVersion
	ca        *caCertificate
	policies  []*policy
	things    []*thing
}

// certStatus is a certificate's status, one byte long since there are many.
type certStatus uint8

const (
	statusActive certStatus = iota
	statusInactive
	statusRevoked
	statusPendingTransfer
	statusRegisterInactive
	statusPendingActivation
)

var certStatuses = [...]string{"ACTIVE", "INACTIVE", "REVOKED", "PENDING_TRANSFER", "REGISTER_INACTIVE", "PENDING_ACTIVATION"}

func (s certStatus) String() string { return certStatuses[s] }

func parseCertStatus(s string) (certStatus, bool) {
	for i, name := range certStatuses {
		if s == name {
			return certStatus(i), true
		}
	}
	return 0, false
}

// thingType is a thing type.
type thingType struct {
	mark
	name       string
	properties thingTypeProperties
	created    time.Time
	deprecated time.Time // zero unless it is
}

// thingGroup is a static thing group.
type thingGroup struct {
	mark
	name        string
	description string
	attributes  []attribute
	parent      *thingGroup
	children    int
	version     int64
	created     time.Time
	policies    []*policy
}

// root is the top of the group's hierarchy.
func (g *thingGroup) root() *thingGroup {
	for g.parent != nil {
		g = g.parent
	}
	return g
}

// billingGroup is a billing group.
type billingGroup struct {
	mark
	name        string
	description string
	version     int64
	created     time.Time
}

// policy is an IoT policy with its versions.
type policy struct {
	mark
	name     string
	created  time.Time
	modified time.Time
	versions []policyVersion // oldest first
	standard int             // id of the default version
	next     int             // id of the version made last
	attached int             // to certificates and groups

	parsed        *policydoc.Document // see compiled
	parsedVersion int
}

type policyVersion struct {
	id       int
	document string
	created  time.Time
}

func (p *policy) version(id int) *policyVersion {
	for i := range p.versions {
		if p.versions[i].id == id {
			return &p.versions[i]
		}
	}
	return nil
}

// caCertificate is a customer's own CA.
type caCertificate struct {
	mark
	id       certificateID
	der      []byte
	active   bool
	auto     bool // registers devices at their first connection
	mode     string
	config   *registrationConfig
	created  time.Time
	modified time.Time
	version  int32
}

// provisioningTemplate is a provisioning template with its versions.
type provisioningTemplate struct {
	mark
	name        string
	description string
	kind        string // typeFleet or typeJITP
	enabled     bool
	role        string // its ARN
	hook        *provisioningHook
	created     time.Time
	modified    time.Time
	versions    []templateVersion // oldest first
	standard    int32             // id of the default version
	next        int32             // id of the version made last

	program *template.Program // of the default version; see programOf
}

type templateVersion struct {
	id      int32
	body    string
	created time.Time
}

// uuid makes the nth id of a kind, in the form of a random UUID. It depends on the seed alone.
func (b *account) uuid(kind string, n uint64) string {
	sum := b.digest(kind, n)
	sum[6] = sum[6]&0x0f | 0x40
	sum[8] = sum[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", sum[0:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16])
}

func (b *account) digest(kind string, n uint64) [sha256.Size]byte {
	h := sha256.New()
	h.Write(b.keys.Load().seed)
	h.Write([]byte{0})
	h.Write([]byte(kind))
	h.Write(binary.BigEndian.AppendUint64(nil, n))
	return [sha256.Size]byte(h.Sum(nil))
}

// arn makes the ARN of a resource of the account.
func (b *account) arn(kind, name string) string {
	return b.arnPrefix + kind + "/" + name
}

func (b *account) thingARN(t *thing) string               { return b.arn("thing", t.name) }
func (b *account) certificateARN(c *certificate) string   { return b.arn("cert", c.id.String()) }
func (b *account) policyARN(p *policy) string             { return b.arn("policy", p.name) }
func (b *account) thingTypeARN(t *thingType) string       { return b.arn("thingtype", t.name) }
func (b *account) thingGroupARN(g *thingGroup) string     { return b.arn("thinggroup", g.name) }
func (b *account) billingGroupARN(g *billingGroup) string { return b.arn("billinggroup", g.name) }
func (b *account) caARN(c *caCertificate) string          { return b.arn("cacert", c.id.String()) }
func (b *account) templateARN(t *provisioningTemplate) string {
	return b.arn("provisioningtemplate", t.name)
}

// stamp cuts a time to milliseconds, which is what AWS's answers show.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
