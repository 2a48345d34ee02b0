package fakebackend

import (
	"context"
	"iter"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// Reading the state directly: without faults, without a context, and with the clock applied first. An iterator takes
// the turn for one item at a time, so the loop's body may call the fake; it sees items in the order they were made.

// Counts is how much an account holds.
type Counts struct {
	Things       int `json:"things"`
	Certificates int `json:"certificates"`
	Policies     int `json:"policies"`
	Tasks        int `json:"tasks"`
}

// Counts returns how much the account holds.
func (b *Backend) Counts() Counts {
	return look(b, func(time.Time) Counts {
		return Counts{b.st.things.len(), b.st.certificates.len(), b.st.policies.len(), b.st.tasks.len()}
	})
}

// Things yields every thing with its certificates.
func (b *Backend) Things() iter.Seq[*task.Device] {
	return walk(b, func(n uint64) iter.Seq[*thing] { return b.st.things.after(n) }, b.device)
}

// Thing returns one thing with its certificates; false if there is no such thing.
func (b *Backend) Thing(name string) (*task.Device, bool) {
	d := look(b, func(time.Time) *task.Device {
		if t, ok := b.st.things.get(name); ok {
			return b.device(t)
		}
		return nil
	})
	return d, d != nil
}

// Certificates yields every device certificate.
func (b *Backend) Certificates() iter.Seq[*task.Certificate] {
	return walk(b, func(n uint64) iter.Seq[*certificate] { return b.st.certificates.after(n) }, b.certificateState)
}

// PolicyState is a policy as the account holds it.
type PolicyState struct {
	Name     string
	ARN      string
	Document string // of the default version
	Targets  int    // certificates and groups it is attached to
}

// Policies yields every policy.
func (b *Backend) Policies() iter.Seq[PolicyState] {
	return walk(b, func(n uint64) iter.Seq[*policy] { return b.st.policies.after(n) }, func(p *policy) PolicyState {
		return PolicyState{p.name, b.policyARN(p), p.document(), p.attached}
	})
}

// Tasks yields every task that is still kept, oldest first.
func (b *Backend) Tasks() iter.Seq[*task.Description] {
	return walk(b, func(n uint64) iter.Seq[*registration] { return b.st.tasks.after(n) }, func(r *registration) *task.Description {
		return taskDescription(b.described(r))
	})
}

// look reads the state with the clock applied.
func look[T any](b *Backend, read func(now time.Time) T) T {
	now, err := b.enter(context.Background(), "inspect")
	if err != nil {
		panic(err) // the context never ends, and nothing else can stop it
	}
	defer b.leave()
	b.reads()
	return read(now)
}

// walk yields what a table holds. It takes a few records at a time, so that the turn is free in between.
func walk[V interface{ marked() *mark }, T any](b *Backend, after func(uint64) iter.Seq[V], show func(V) T) iter.Seq[T] {
	const few = 64
	return func(yield func(T) bool) {
		for from := uint64(0); ; {
			items := look(b, func(time.Time) (items []T) {
				for v := range after(from) {
					items = append(items, show(v))
					from = v.marked().number()
					if len(items) == few {
						break
					}
				}
				return items
			})
			for _, item := range items {
				if !yield(item) {
					return
				}
			}
			if len(items) < few {
				return
			}
		}
	}
}

func (b *Backend) device(t *thing) *task.Device {
	d := &task.Device{
		ThingName: t.name, ThingARN: b.thingARN(t), ThingTypeName: t.typeName(), Attributes: t.attributeMap(), BillingGroup: t.billingName(),
	}
	for _, g := range t.groups {
		d.ThingGroups = append(d.ThingGroups, g.name)
	}
	for _, c := range t.certificates {
		d.Certificates = append(d.Certificates, *b.certificateState(c))
	}
	return d
}

func (b *Backend) certificateState(c *certificate) *task.Certificate {
	out := &task.Certificate{
		ID: c.id.String(), ARN: b.certificateARN(c), PEM: c.pem(), Status: c.status.String(), Created: time.UnixMilli(c.created).UTC(),
	}
	for _, p := range c.policies {
		out.Policies = append(out.Policies, p.name)
	}
	return out
}
