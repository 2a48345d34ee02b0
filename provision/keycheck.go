package provision

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
)

// keys asks the credential step for the private keys of registered devices.
type keys struct {
	*session
	verifier KeyVerifier // nil if the step keeps no keys
}

func newKeys(s *session, step Credential) *keys {
	k := &keys{session: s}
	k.verifier, _ = As[KeyVerifier](step)
	return k
}

// check makes those of the devices NoKey whose key is not there, or could not be used. It asks for some at a time, side
// by side.
func (k *keys) check(ctx context.Context, devices []*DeviceRecord) error {
	if k.verifier == nil || len(devices) == 0 {
		return nil
	}
	adopted, err := k.adopted(ctx)
	if err != nil {
		return err
	}
	g, group := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, d := range devices {
		digest, ok := d.Match.Key()
		if !ok || d.Part != 0 && d.Part == adopted { // what was sent by hand has its key where that was done
			continue
		}
		g.Go(func() error {
			err := k.verifier.VerifyKey(group, d.Name, digest)
			if isLost(err) {
				d.loseKey(err)
				return nil
			}
			if err != nil {
				return fmt.Errorf("asking for the key of device %q: %w", d.Name, err)
			}
			return nil
		})
	}
	err = g.Wait()
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// has reports whether the private key of a device for this public key is surely there. A store that keeps nothing confirms
// every key, and so none.
func (k *keys) has(ctx context.Context, device string, digest [32]byte) (bool, error) {
	for _, ask := range []struct {
		digest [32]byte
		has    bool
	}{{digest, true}, {[32]byte{}, false}} {
		err := k.verifier.VerifyKey(ctx, device, ask.digest)
		if err != nil && !isLost(err) {
			return false, fmt.Errorf("asking for the key of device %q: %w", device, err)
		}
		if (err == nil) != ask.has {
			return false, nil
		}
	}
	return true, nil
}

// require returns an error if the key of a device is not there.
func (k *keys) require(ctx context.Context, devices []*DeviceRecord) error {
	if k.verifier == nil {
		return nil
	}
	for _, d := range devices {
		if digest, ok := d.Match.Key(); ok {
			if err := k.verifier.VerifyKey(ctx, d.Name, digest); err != nil {
				return fmt.Errorf("the key of device %q: %w", d.Name, err)
			}
		}
	}
	return nil
}

// adopted is the number of the part that was sent by hand; 0 if there is none.
func (k *keys) adopted(ctx context.Context) (int, error) {
	parts, err := k.ledger.Parts(ctx)
	if err != nil || len(parts) == 0 || !parts[0].Adopted {
		return 0, err
	}
	return parts[0].Number, nil
}

// isLost reports whether the answer of a store means that the device's key can't be used. After any other error nothing is
// known about the key.
func isLost(err error) bool {
	for _, kind := range []error{keystore.ErrNotFound, keystore.ErrOtherKey, keystore.ErrDamaged, keystore.ErrMismatch, keystore.ErrPermissions} {
		if errors.Is(err, kind) {
			return true
		}
	}
	return false
}

// loseKey makes a registered device NoKey.
func (d *DeviceRecord) loseKey(err error) {
	d.Verdict, d.Cause = NoKey, CauseKeyLost
	d.Message = fmt.Sprintf("%v; it is registered with certificate %s: restore the key and run again, or remove that certificate",
		err, d.CertificateID)
}
