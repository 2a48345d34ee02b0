package provision

import (
	"context"

	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
)

// keyless is the ledger of a run, to which nothing with a private key in it passes. The intake has refused such records
// by then; here whatever else comes from outside is cut: texts of AWS, of a credential step or an output.
type keyless struct{ Ledger }

// Apply cuts private keys out of the change's own records, and applies it.
func (l keyless) Apply(ctx context.Context, c Change) error {
	for _, devices := range [][]*DeviceRecord{c.Add, c.Devices} {
		for _, d := range devices {
			d.Row, _ = privatekey.CutRow(d.Row)
			d.Original, _ = privatekey.CutRow(d.Original)
			d.Meta, _ = privatekey.CutRow(d.Meta)
			for _, text := range []*string{&d.Name, &d.Source, &d.Message, &d.CertificatePEM} {
				*text = privatekey.Cut(*text)
			}
		}
	}
	if c.Part != nil {
		c.Part.Message = privatekey.Cut(c.Part.Message)
	}
	for _, o := range c.Orphans {
		o.Why = privatekey.Cut(o.Why)
	}
	return l.Ledger.Apply(ctx, c)
}
