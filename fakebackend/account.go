package fakebackend

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
)

// account is the state of a fake account with everything that acts on it: the registry, the tasks and the worker that
// does their lines, the clock, the faults, and the stores of the other services.
type account struct {
	// Locking: turn, a channel of one, guards the account's state and is held for one operation at a time; waiting for it
	// ends with the context. Whoever holds it first brings the state up to the clock, by doing the lines of the running
	// task that are due. The clock, the faults, the events and the issuer, IAM and S3 stores have locks of their own,
	// which are leaves: none of them is held while another is taken, and none calls back. No lock is held while a fault
	// delays or hangs a request, nor while a caller reads a body.

	opts      Options
	arnPrefix string // up to the resource, such as arn:aws:iot:us-east-1:123456789012:
	clock     clock
	faults    faults
	keys      atomic.Pointer[keys] // another one after Restore only
	roles     *iam.Store
	objects   *s3.Store

	turn    chan struct{}
	st      state
	hosts   []*[]string // of each gateway that is attached: the one that devices are told, and other names of it
	reading bool        // this turn changes nothing itself that decisions about devices depend on
	changed bool        // … and yet something has changed, such as by a line of a task

	generation atomic.Uint64 // counts the turns that may have changed something
	epoch      atomic.Uint64 // counts resets and restores
	watchers   watchers
	events     events
}

// keys is what follows from the seed: the CA, the root that devices trust, the key that signs links, and all ids.
type keys struct {
	seed   []byte
	issuer *issuer.Issuer
	root   *issuer.Issuer
	links  *s3.Signer
}

// rootName is the name of the root CA, which tells what it is.
const rootName = "iotfleet fake root CA, for a device gateway on a desk"

func newKeys(seed []byte, opts Options) (*keys, error) {
	ca, err := issuer.New(issuer.Options{Name: opts.IssuerName, Algorithm: issuer.Algorithm(opts.IssuerKey), Seed: seed})
	if err != nil {
		return nil, fmt.Errorf("fakebackend: make the certificate authority: %w", err)
	}
	rootSeed := sha256.Sum256(append([]byte("root CA\x00"), seed...))
	root, err := issuer.New(issuer.Options{Name: rootName, Seed: rootSeed[:]})
	if err != nil {
		return nil, fmt.Errorf("fakebackend: make the root CA: %w", err)
	}
	return &keys{seed, ca, root, s3.NewSigner(seed, opts.Region)}, nil
}

// setKeys makes everything follow from a seed that was not the account's before.
func (b *account) setKeys(k *keys) {
	b.keys.Store(k)
	b.roles.SetSeed(k.seed)
	b.objects.SetSeed(k.seed)
}

// empty puts the account in the state of a new one. With a seed all keys and ids come again; without one the numbers
// that they follow from go on, so that none does. The caller holds the turn, or nobody else knows the account yet.
func (b *account) empty() error {
	if len(b.opts.Seed) > 0 {
		b.keys.Load().issuer.SetIssued(0)
		b.roles.Restore(iam.State{})
		b.objects.Restore(s3.State{})
		b.st = state{}
	} else {
		b.roles.Restore(iam.State{Made: b.roles.Snapshot().Made})
		b.objects.Restore(b.objects.Snapshot().Emptied())
		b.st = b.st.emptied()
	}
	if b.opts.NoBucket {
		return nil
	}
	if err := b.makeBucket(b.opts.Bucket, b.opts.Region); err != nil {
		return fmt.Errorf("fakebackend: Options.Bucket: %w", err)
	}
	return nil
}

// enter waits for the turn and brings the state up to the clock. On success the caller must leave.
func (b *account) enter(ctx context.Context, op string) (time.Time, error) {
	if ctx.Err() != nil {
		return time.Time{}, interrupted(ctx, op)
	}
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return time.Time{}, interrupted(ctx, op)
	}
	now := b.clock.now()
	if err := b.settle(ctx, now); err != nil {
		b.leave()
		return time.Time{}, fmt.Errorf("fakebackend: %s: while the running task's lines were done: %w", op, err)
	}
	return now, nil
}

// reads declares that the turn itself changes nothing on which decisions about devices depend.
func (b *account) reads() { b.reading = true }

// leave ends the turn. Unless it only read, every admitted device is decided about anew, and the watchers are told.
func (b *account) leave() {
	changed := b.changed || !b.reading
	b.changed, b.reading = false, false
	if changed {
		b.generation.Add(1)
	}
	<-b.turn
	if changed {
		b.watchers.call()
	}
}
