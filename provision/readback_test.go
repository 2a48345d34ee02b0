package provision

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/internal/certtest"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// keyed makes a key, and a function that makes a certificate for it with each call.
func keyed(t *testing.T) (Match, func(change func(*task.Certificate)) task.Certificate) {
	t.Helper()
	key := certtest.Key()
	digest, err := csr.PublicKeySHA256(key.Public())
	require.NoError(t, err)
	serial := int64(0)
	return MatchKey(digest), func(change func(*task.Certificate)) task.Certificate {
		serial++
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(serial)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		require.NoError(t, err)
		id := sha256.Sum256(der)
		c := task.Certificate{
			ID: hex.EncodeToString(id[:]), PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
			Status: "ACTIVE", Created: noon, Policies: []string{"connect"},
		}
		if change != nil {
			change(&c)
		}
		return c
	}
}

func TestWhatTheAccountHasDecidesWhetherADeviceIsRegistered(t *testing.T) {
	mine, cert := keyed(t)
	_, foreign := keyed(t)
	issued := wanted{
		Resolution: &template.Resolution{Policies: []template.PolicySpec{{PolicyName: "connect"}}}, status: "ACTIVE", issued: true,
		thing: &template.ThingSpec{ThingName: "pump", Attributes: map[string]string{"site": "a"}, ThingTypeName: "pumps"},
	}
	given := issued
	given.issued = false
	asked := task.Device{ThingName: "pump", ThingARN: "arn:aws:iot:eu-central-1:123456789012:thing/pump", ThingTypeName: "pumps", Attributes: map[string]string{"site": "a"}}
	first, second, inactive, bare, other := cert(nil),
		cert(func(c *task.Certificate) { c.Created = minute(1) }),
		cert(func(c *task.Certificate) { c.Status = "INACTIVE" }),
		cert(func(c *task.Certificate) { c.Policies = nil }),
		foreign(nil)
	unread := cert(func(c *task.Certificate) { c.PEM = "damaged" })
	renamed := cert(func(c *task.Certificate) { c.ID = other.ID })
	strange := foreign(func(c *task.Certificate) { c.ID = first.ID })
	for _, row := range []struct {
		name       string
		match      Match
		want       *wanted
		thing      func(*task.Device)
		has        []task.Certificate
		registered bool
		own        string
		leftovers  []string
		wrong      bool
	}{
		{name: "a thing without a certificate", match: mine, want: &issued},
		{name: "issued for its key", match: mine, want: &issued, has: []task.Certificate{first}, registered: true, own: first.ID},
		{name: "issued for its key, beside another's", match: mine, want: &issued, has: []task.Certificate{other, first},
			registered: true, own: first.ID},
		{name: "issued for another key", match: mine, want: &issued, has: []task.Certificate{other}},
		{name: "not to be read", match: mine, want: &issued, has: []task.Certificate{unread}, wrong: true},
		{name: "not to be read, beside one that is", match: mine, want: &issued, has: []task.Certificate{unread, first},
			registered: true, own: first.ID},
		{name: "not the one that its id names", match: mine, want: &issued, has: []task.Certificate{renamed}, wrong: true},
		{name: "another's that is not the one its id names", match: mine, want: &issued, has: []task.Certificate{strange}},
		{name: "issued, and the thing's ARN is another's", match: mine, want: &issued, has: []task.Certificate{first},
			thing: func(d *task.Device) { d.ThingARN += "-2" }, wrong: true},
		{name: "no certificate, and the thing's ARN is another's", match: MatchThing("pump"), want: &given,
			thing: func(d *task.Device) { d.ThingARN += "-2" }, wrong: true},
		{name: "inactive", match: mine, want: &issued, has: []task.Certificate{inactive}, leftovers: []string{inactive.ID}},
		{name: "without its policies", match: mine, want: &issued, has: []task.Certificate{bare}, leftovers: []string{bare.ID}},
		{name: "two of them: the newest is its own", match: mine, want: &issued, has: []task.Certificate{first, second},
			registered: true, own: second.ID, leftovers: []string{first.ID}},
		{name: "two of them, the other way round", match: mine, want: &issued, has: []task.Certificate{second, first},
			registered: true, own: second.ID, leftovers: []string{first.ID}},
		{name: "a newer one that is incomplete", match: mine, want: &issued, has: []task.Certificate{first, bare},
			registered: true, own: first.ID, leftovers: []string{bare.ID}},
		{name: "issued, and the thing was changed since", match: mine, want: &issued, has: []task.Certificate{first},
			thing: func(d *task.Device) { d.ThingTypeName = "valves" }, registered: true, own: first.ID},

		{name: "given, and the thing is as asked", match: MatchCertificate(first.ID), want: &given, has: []task.Certificate{first},
			registered: true, own: first.ID},
		{name: "given, and the thing is of another type", match: MatchCertificate(first.ID), want: &given, has: []task.Certificate{first},
			thing: func(d *task.Device) { d.ThingTypeName = "valves" }, own: first.ID},
		{name: "given, and an attribute is missing", match: MatchCertificate(first.ID), want: &given, has: []task.Certificate{first},
			thing: func(d *task.Device) { d.Attributes = nil }, own: first.ID},
		{name: "given without its policies: nothing is to be removed", match: MatchCertificate(bare.ID), want: &given,
			has: []task.Certificate{bare}},
		{name: "no certificate, and the thing is as asked", match: MatchThing("pump"), want: &given, registered: true},
		{name: "no certificate, and the thing is not", match: MatchThing("pump"), want: &given,
			thing: func(d *task.Device) { d.Attributes["site"] = "b" }},
		{name: "a row that can't be resolved", match: MatchThing("pump"),
			want: &wanted{Resolution: &template.Resolution{}, status: "ACTIVE"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			dev := asked
			dev.Attributes = map[string]string{"site": "a"}
			dev.Certificates = row.has
			if row.thing != nil {
				row.thing(&dev)
			}
			found := judge(&DeviceRecord{Result: Result{Name: "pump"}, Match: row.match}, row.want, &dev, task.Identity{})
			assert.Equal(t, row.registered, found.registered)
			own := ""
			if found.own != nil {
				own = found.own.ID
			}
			assert.Equal(t, row.own, own)
			var leftovers []string
			for _, c := range found.leftovers {
				leftovers = append(leftovers, c.ID)
			}
			assert.Equal(t, row.leftovers, leftovers)
			assert.Equal(t, row.wrong, found.wrong != nil, found.wrong)
		})
	}
}

func TestAThingIsComparedOnlyWithWhatItsLineSets(t *testing.T) {
	want := template.ThingSpec{
		Attributes: map[string]string{"site": "a"}, ThingTypeName: "pumps", ThingGroups: []string{"wet"}, BillingGroup: "east",
	}
	leave := want
	leave.OverrideAttributes, leave.OverrideType, leave.OverrideGroups = template.DoNothing, template.DoNothing, template.DoNothing
	dev := func(change func(*task.Device)) *task.Device {
		d := &task.Device{
			Attributes: map[string]string{"site": "a", "more": "b"}, ThingTypeName: "pumps", ThingGroups: []string{"dry", "wet"},
			BillingGroup: "east",
		}
		change(d)
		return d
	}
	for name, row := range map[string]struct {
		change          func(*task.Device)
		asWanted, leave bool
	}{
		"the same, and more of its own": {func(*task.Device) {}, true, true},
		"another attribute":             {func(d *task.Device) { d.Attributes["site"] = "c" }, false, true},
		"another type":                  {func(d *task.Device) { d.ThingTypeName = "" }, false, true},
		"not in the group":              {func(d *task.Device) { d.ThingGroups = []string{"dry"} }, false, true},
		"another billing group":         {func(d *task.Device) { d.BillingGroup = "" }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := isAsWanted(dev(row.change), &want)
			assert.Equal(t, row.asWanted, got)
			got = isAsWanted(dev(row.change), &leave)
			assert.Equal(t, row.leave, got, "what exists already is left alone")
		})
	}
}
