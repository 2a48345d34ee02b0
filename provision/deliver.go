package provision

import (
	"context"
	"errors"
	"fmt"
)

// deliverBatch is how many devices are delivered between two syncs of an output.
const deliverBatch = 500

// Deliver hands every Provisioned device of the run over to out, as Run does to Options.Output: to a second place, to
// folders beside keys that were exported from an archive, or once more after an output was lost. It returns how many were
// handed over and made durable; after an error it can be called again.
//
// It takes the credentials from the ledger and changes nothing there. The backend is only asked which account it works in,
// which must be the run's, and for the endpoint that devices connect to. A ledger without a run gives ErrNoRun.
func (r *Run) Deliver(ctx context.Context, out Output) (durable int64, err error) {
	if out == nil {
		return 0, errors.New("the output is missing")
	}
	if err := r.enter(); err != nil {
		return 0, err
	}
	defer r.leave()
	if _, err := r.ledger.Run(ctx); err != nil {
		return 0, err
	}
	if err := r.open(ctx); err != nil {
		return 0, err
	}
	var taken int64
	sync := func() error {
		if err := out.Sync(ctx); err != nil {
			return fmt.Errorf("making the output durable: %w", err)
		}
		durable = taken
		return nil
	}
	for d, err := range r.ledger.Devices(ctx, DeviceFilter{Verdicts: []Verdict{Provisioned}}) {
		if err != nil {
			return durable, err
		}
		if err := out.Deliver(ctx, r.delivery(d)); err != nil {
			return durable, fmt.Errorf("handing over the credential of device %q: %w", d.Name, err)
		}
		if taken++; taken%deliverBatch == 0 {
			if err := sync(); err != nil {
				return durable, err
			}
		}
	}
	return durable, sync()
}

// deliver hands one device over to the run's own output.
func (r *Run) deliver(ctx context.Context, d *DeviceRecord) error {
	if r.opts.Output == nil {
		return nil
	}
	return r.opts.Output.Deliver(ctx, r.delivery(d))
}

func (r *Run) delivery(d *DeviceRecord) *Delivery {
	where := r.record.Identity
	return &Delivery{
		ThingName: d.Name, ThingARN: d.ThingARN, ClientID: d.Name, CertificateARN: d.CertificateARN,
		CertificateID: d.CertificateID, CertificatePEM: d.CertificatePEM, PolicyNames: d.Policies,
		Endpoint: r.endpoint, Account: where.Account, Region: where.Region, Fake: where.Fake,
	}
}
