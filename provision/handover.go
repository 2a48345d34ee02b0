package provision

import (
	"context"
	"fmt"
)

// handover is where a device becomes Provisioned: its credential is handed to the output, and the verdict is recorded
// once the output is durable.
type handover struct {
	*session
	output Output // nil leaves credentials in the ledger
}

// deliverBatch is how many devices are delivered between two syncs of an output.
const deliverBatch = 500

// provisioned gives a device its verdict, and hands its credential over; commit makes both durable. Every stage that
// finds a device registered comes here, so what must hold of every Provisioned device is checked here.
func (h *handover) provisioned(ctx context.Context, d *DeviceRecord) error {
	d.Verdict, d.Cause, d.Message = Provisioned, CauseNone, ""
	if h.output == nil {
		return nil
	}
	return h.deliver(ctx, h.output, d)
}

// commit makes deliveries durable, then the verdicts that rely on them.
func (h *handover) commit(ctx context.Context, change Change) error {
	if len(change.Devices) == 0 && len(change.Orphans) == 0 {
		return nil
	}
	if h.output != nil && len(change.Devices) > 0 {
		if err := syncOutput(ctx, h.output); err != nil {
			return err
		}
	}
	return h.ledger.Apply(ctx, change)
}

// deliverAll hands every Provisioned device over to an output, and returns how many are durable there.
func (h *handover) deliverAll(ctx context.Context, out Output) (durable int64, err error) {
	var taken int64
	for d, err := range h.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Provisioned}}) {
		if err != nil {
			return durable, err
		}
		if err := h.deliver(ctx, out, d); err != nil {
			return durable, err
		}
		if taken++; taken%deliverBatch == 0 {
			if err := syncOutput(ctx, out); err != nil {
				return durable, err
			}
			durable = taken
		}
	}
	if err := syncOutput(ctx, out); err != nil {
		return durable, err
	}
	return taken, nil
}

func syncOutput(ctx context.Context, out Output) error {
	if err := out.Sync(ctx); err != nil {
		return fmt.Errorf("making the output durable: %w", err)
	}
	return nil
}

func (h *handover) deliver(ctx context.Context, out Output, d *DeviceRecord) error {
	where := h.record.Identity
	err := out.Deliver(ctx, &Delivery{
		ThingName: d.Name, ThingARN: d.ThingARN, ClientID: d.Name, CertificateARN: d.CertificateARN,
		CertificateID: d.CertificateID, CertificatePEM: d.CertificatePEM, PolicyNames: d.Policies,
		Endpoint: h.endpoint, Account: where.Account, Region: where.Region, Fake: where.Fake,
	})
	if err != nil {
		return fmt.Errorf("handing over the credential of device %q: %w", d.Name, err)
	}
	return nil
}
