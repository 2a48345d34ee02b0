package provision

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// handover is where a device becomes Provisioned: its private key is confirmed, its credential is handed to the output,
// and the verdict is recorded once the output is durable.
type handover struct {
	*session
	keys   *keys
	output Output // nil leaves credentials in the ledger
	issuer string // with Options.FirstConnection, the CA of the certificates in PEM; empty otherwise

	// turn is held by the stage that is delivering: two may have devices for the output, and a Sync answers for all that was
	// taken since the last. It is a channel, since it may be held for long.
	turn chan struct{}

	damaged int // devices whose certificate was found damaged in the ledger: they are Unknown
}

// deliverBatch is how many devices are delivered between two syncs of an output.
const deliverBatch = 500

// batch is how many verdicts of a part are committed at once. Without an output there are more: the ids of certificates are
// in no order, so a commit writes most pages of their index, however few devices it has.
func (h *handover) batch() int {
	if h.output != nil {
		return deliverBatch
	}
	return 10 * deliverBatch
}

// commit makes a change durable. Every device that some stage found registered comes here, so what must hold of each
// Provisioned device is checked here: of those that are Provisioned in the change, the ones whose key is not there
// become NoKey, and the others are delivered first.
func (h *handover) commit(ctx context.Context, change Change) error {
	if len(change.Devices) == 0 && len(change.Orphans) == 0 {
		return nil
	}
	fresh := make([]*DeviceRecord, 0, len(change.Devices)) // to be delivered
	registered := make([]*DeviceRecord, 0, len(change.Devices))
	for _, d := range change.Devices {
		switch d.Verdict {
		case Provisioned:
			registered = append(registered, d)
			fresh = append(fresh, d)
		case Issued:
			fresh = append(fresh, d)
		}
	}
	if err := h.keys.check(ctx, registered); err != nil {
		return err
	}
	if h.output != nil && len(change.Devices) > 0 {
		if err := h.deliver(ctx, h.output, fresh); err != nil {
			return err
		}
	}
	return h.ledger.Apply(ctx, change)
}

// confirm looks at devices that are Provisioned or NoKey once more, and records those whose verdict is another one now:
// the key store is asked for their keys, and the ledger's own copies of their certificates are checked. One whose copy is
// damaged becomes Unknown, and is read back. One that has become Provisioned is delivered. It returns how many can't be
// handed over.
func (h *handover) confirm(ctx context.Context, devices []*DeviceRecord) (lost int, err error) {
	had := make([]DeviceRecord, len(devices))
	sound := make([]*DeviceRecord, 0, len(devices))
	for i, d := range devices {
		had[i] = *d
		d.provisioned()
		if err := d.verify(h.record.Identity); err != nil {
			d.doubt(damagedCopy, err)
			h.damaged++
			continue
		}
		sound = append(sound, d)
	}
	if err := h.keys.check(ctx, sound); err != nil {
		return 0, err
	}
	var changed, mended []*DeviceRecord
	for i, d := range devices {
		if d.Verdict != Provisioned {
			lost++
		}
		if d.Verdict == had[i].Verdict && d.Message == had[i].Message && d.CertificatePEM == had[i].CertificatePEM {
			continue
		}
		d.Updated = time.Now()
		changed = append(changed, d)
		if d.Verdict == Provisioned {
			mended = append(mended, d)
		}
	}
	if len(changed) == 0 {
		return lost, nil
	}
	if h.output != nil && len(mended) > 0 {
		if err := h.deliver(ctx, h.output, mended); err != nil {
			return lost, err
		}
	}
	return lost, h.ledger.Apply(ctx, Change{Devices: changed})
}

// confirmAll confirms every device that is Provisioned or NoKey.
func (h *handover) confirmAll(ctx context.Context) error {
	return h.registered(ctx, func(batch []*DeviceRecord) error {
		_, err := h.confirm(ctx, batch)
		return err
	})
}

// registered calls do with the devices that are Provisioned or NoKey, some at a time.
func (h *handover) registered(ctx context.Context, do func([]*DeviceRecord) error) error {
	return h.each(ctx, []Verdict{Provisioned, NoKey}, do)
}

// each calls do with the devices that have one of the verdicts, some at a time.
func (h *handover) each(ctx context.Context, verdicts []Verdict, do func([]*DeviceRecord) error) error {
	batch := make([]*DeviceRecord, 0, deliverBatch)
	for d, err := range h.ledger.Devices(ctx, DeviceFilter{Verdicts: verdicts}) {
		if err != nil {
			return err
		}
		if batch = append(batch, d); len(batch) < deliverBatch {
			continue
		}
		if err := do(batch); err != nil {
			return err
		}
		batch = batch[:0]
	}
	if len(batch) == 0 {
		return nil
	}
	return do(batch)
}

// deliverAll hands every device over that is Provisioned or Issued to an output, and returns how many are durable
// there. Those without their key or certificate are left out, and named in the error.
func (h *handover) deliverAll(ctx context.Context, out Output) (durable int64, err error) {
	lost, first := 0, ""
	err = h.registered(ctx, func(batch []*DeviceRecord) error {
		n, err := h.confirm(ctx, batch)
		if err != nil {
			return err
		}
		if lost += n; n > 0 && first == "" {
			first = batch[slices.IndexFunc(batch, func(d *DeviceRecord) bool { return d.Verdict != Provisioned })].Message
		}
		if err := h.deliver(ctx, out, batch); err != nil {
			return err
		}
		durable += int64(len(batch) - n)
		return nil
	})
	if err == nil && h.issuer != "" {
		err = h.each(ctx, []Verdict{Issued}, func(batch []*DeviceRecord) error {
			durable += int64(len(batch))
			return h.deliver(ctx, out, batch)
		})
	}
	if err == nil && lost > 0 {
		err = fmt.Errorf("%w: %s left out, because the private key is not in the key store or the certificate is damaged; the first: %s",
			ErrIncomplete, rule.Count(lost, "device"), first)
	}
	return durable, err
}

// deliver hands those of the devices over that are Provisioned or Issued, and makes that durable.
func (h *handover) deliver(ctx context.Context, out Output, devices []*DeviceRecord) error {
	if err := send(ctx, h.turn, struct{}{}); err != nil {
		return err
	}
	defer func() { <-h.turn }()
	for _, d := range devices {
		if d.Verdict != Provisioned && d.Verdict != Issued {
			continue
		}
		if err := h.deliverOne(ctx, out, d); err != nil {
			return err
		}
	}
	if err := out.Sync(ctx); err != nil {
		return fmt.Errorf("making the output durable: %w", err)
	}
	return nil
}

func (h *handover) deliverOne(ctx context.Context, out Output, d *DeviceRecord) error {
	where := h.record.Identity
	delivery := &Delivery{
		ThingName: d.Name, ThingARN: d.ThingARN, ClientID: d.Name, CertificateARN: d.CertificateARN,
		Meta: d.Meta, CertificateID: d.CertificateID, CertificatePEM: d.CertificatePEM, PolicyNames: d.Policies,
		Endpoint: h.endpoint, RootCA: h.rootCA, Account: where.Account, Region: where.Region, Fake: where.Fake,
	}
	if h.issuer != "" {
		// The same before and after the device has connected.
		delivery.IssuerPEM, delivery.PolicyNames = h.issuer, nil
		delivery.ThingARN, delivery.CertificateARN = arnIn(where, "thing", d.Name), arnIn(where, "cert", d.CertificateID)
	}
	if err := out.Deliver(ctx, delivery); err != nil {
		return fmt.Errorf("handing over the credential of device %q: %w", d.Name, err)
	}
	return nil
}

// arnIn returns the ARN of an AWS IoT resource; empty where nobody knows which account it is.
func arnIn(where task.Identity, kind, name string) string {
	if where == (task.Identity{}) {
		return ""
	}
	return fmt.Sprintf("arn:%s:iot:%s:%s:%s/%s", where.Partition, where.Region, where.Account, kind, name)
}
