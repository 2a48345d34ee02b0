package provision

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// readBack is what a thing in the account shows of the device that it was made for.
type readBack struct {
	registered bool                // the device's line went through, and what it made is complete
	own        *task.Certificate   // the complete certificate for its key; of several, the newest
	leftovers  []*task.Certificate // the others that were issued for its key: incomplete, or one too many
	wrong      error               // what is wrong with a certificate that is its own, or may be; it is not registered then
}

// judge decides, from the thing that the account has under a device's name, whether the device is registered.
//
// A certificate that was issued for the device's key proves it: only the device's own line can have made it. A
// certificate that was given to the device proves nothing, since it may have been on the thing before; nor does a thing
// without one. In these cases the thing itself must be as the line makes it.
//
// A certificate that is not the one that its id names, or whose ARN or whose thing's is of another account, is never
// taken for the device's.
func judge(d *DeviceRecord, want *wanted, dev *task.Device, where task.Identity) readBack {
	var found readBack
	for i := range dev.Certificates {
		c := &dev.Certificates[i]
		exact, err := registration{
			thing: d.Name, thingARN: dev.ThingARN, certificateARN: c.ARN, certificateID: c.ID, pem: c.PEM,
		}.check(where)
		if err == nil {
			c.PEM = exact
		}
		mine := isFor(c, d.Match)
		if err != nil && (mine || unreadable(c)) {
			found.wrong = cmp.Or(found.wrong, fmt.Errorf("certificate %s: %w", rule.Quote(c.ID), err))
			continue
		}
		if !mine {
			continue
		}
		complete := strings.EqualFold(c.Status, want.status) && hasPolicies(c, want.Policies)
		newer := found.own == nil || cmp.Or(c.Created.Compare(found.own.Created), strings.Compare(c.ID, found.own.ID)) > 0
		switch {
		case !complete || !newer:
			found.leftovers = append(found.leftovers, c)
		case found.own != nil:
			found.leftovers = append(found.leftovers, found.own)
			found.own = c
		default:
			found.own = c
		}
	}
	if !want.issued {
		found.leftovers = nil // what was given to the device is not the run's to remove
	}
	if found.own != nil {
		found.wrong = nil
	}
	if d.Match == MatchThing(d.Name) {
		_, found.wrong = registration{thing: d.Name, thingARN: dev.ThingARN}.check(where)
	}
	certified := found.own != nil || d.Match == MatchThing(d.Name) && found.wrong == nil
	found.registered = certified && (want.issued || isAsWanted(dev, want.thing))
	return found
}

// isFor reports whether a certificate is the one that a device is known by, or carries its key.
func isFor(c *task.Certificate, m Match) bool {
	if MatchCertificate(c.ID) == m {
		return true
	}
	digest, err := certificateKey(c.PEM, c.ID)
	return err == nil && MatchKey(digest) == m
}

// unreadable reports whether nobody can tell whose a certificate is.
func unreadable(c *task.Certificate) bool {
	_, err := certificateKey(c.PEM, c.ID)
	return err != nil
}

// hasPolicies reports whether a certificate has the policies of a template. Those made of a document have a name that
// AWS chooses, so they are only counted.
func hasPolicies(c *task.Certificate, policies []template.PolicySpec) bool {
	for _, p := range policies {
		if p.PolicyName != "" && !slices.Contains(c.Policies, p.PolicyName) {
			return false
		}
	}
	return len(c.Policies) >= len(policies)
}

// isAsWanted reports whether a thing is as a device's line makes it. What the template leaves alone on a thing that
// exists already may be anything.
func isAsWanted(dev *task.Device, want *template.ThingSpec) bool {
	if want == nil {
		return false
	}
	if want.OverrideAttributes != template.DoNothing {
		for name, value := range want.Attributes {
			if dev.Attributes[name] != value {
				return false
			}
		}
	}
	if want.ThingTypeName != "" && want.OverrideType != template.DoNothing && dev.ThingTypeName != want.ThingTypeName {
		return false
	}
	if want.OverrideGroups != template.DoNothing {
		for _, group := range want.ThingGroups {
			if !slices.Contains(dev.ThingGroups, group) {
				return false
			}
		}
	}
	return want.BillingGroup == "" || dev.BillingGroup == want.BillingGroup
}
