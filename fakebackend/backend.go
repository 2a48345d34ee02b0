package fakebackend

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/given"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/issuer"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Backend is one AWS account in one region, in memory. It is a [task.Backend] with every ability of package task, and,
// through the [IoT] that it embeds, has a method for each AWS operation it knows. It is safe for concurrent use.
type Backend struct {
	// IoT is the account's AWS IoT API. Its operations are methods of Backend as well, but for the two whose names
	// package task uses for abilities: IoT.RegisterThing and IoT.ListCertificates.
	*IoT
	hook
}

// IoT is the AWS IoT API of a fake account: a method for each operation, named as AWS's are, with input and output
// structs that have the members and the JSON names of AWS's shapes. A member that has its zero value is one left out. A
// refusal is a [*task.Error] with AWS's code, status and message. It is safe for concurrent use.
type IoT struct {
	// Locking: turn, a channel of one, guards the account's state and is held for one operation at a time; waiting for it
	// ends with the context. Whoever holds it first brings the state up to the clock, by doing the lines of the running task
	// that are due. The clock, the faults and the issuer, IAM and S3 stores have locks of their own, which are leaves: none
	// of them is held while another is taken, and none calls back. No lock is held while a fault delays or hangs a request,
	// nor while a caller reads a body.

	opts      Options
	arnPrefix string // up to the resource, such as arn:aws:iot:us-east-1:123456789012:
	clock     clock
	faults    faults
	keys      atomic.Pointer[keys] // another one after Restore only
	roles     *iam.Store
	objects   *s3.Store

	turn chan struct{}
	st   state
}

// New makes an account. It fails when an option has a value that cannot be.
func New(opts Options) (*Backend, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &IoT{
		opts:      opts,
		arnPrefix: fmt.Sprintf("arn:%s:iot:%s:%s:", partition.Of(opts.Region).Name, opts.Region, opts.Account),
		roles:     iam.NewStore(partition.Of(opts.Region).Name, opts.Account),
		objects:   s3.New(),
		turn:      make(chan struct{}, 1),
	}
	seed := slices.Clone(opts.Seed)
	if len(seed) == 0 {
		seed = make([]byte, 32)
		rand.Read(seed)
	}
	k, err := newKeys(seed, opts)
	if err != nil {
		return nil, err
	}
	b.keys.Store(k)
	if err := b.empty(); err != nil {
		return nil, err
	}
	return &Backend{b, wire.NewHook(served{b})}, nil
}

// keys is what follows from the seed: the CA, the key that signs links, and all ids.
type keys struct {
	seed   []byte
	issuer *issuer.Issuer
	links  *s3.Signer
}

func newKeys(seed []byte, opts Options) (*keys, error) {
	ca, err := issuer.New(issuer.Options{Name: opts.IssuerName, Algorithm: issuer.Algorithm(opts.IssuerKey), Seed: seed})
	if err != nil {
		return nil, fmt.Errorf("fakebackend: make the certificate authority: %w", err)
	}
	return &keys{seed, ca, s3.NewSigner(seed, opts.Region)}, nil
}

// empty puts the account in the state of a new one. The caller holds the turn, or nobody else knows the account yet.
func (b *IoT) empty() error {
	b.keys.Load().issuer.SetIssued(0)
	b.roles.Restore(iam.State{})
	b.objects.Restore(s3.State{})
	b.st = state{}
	if b.opts.NoBucket {
		return nil
	}
	if err := b.makeBucket(b.opts.Bucket, b.opts.Region); err != nil {
		return fmt.Errorf("fakebackend: Options.Bucket: %w", err)
	}
	return nil
}

// enter waits for the turn and brings the state up to the clock. On success the caller must leave.
func (b *IoT) enter(ctx context.Context, op string) (time.Time, error) {
	if ctx.Err() != nil {
		return time.Time{}, interrupted(ctx, op)
	}
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return time.Time{}, interrupted(ctx, op)
	}
	entered := false
	defer func() {
		if !entered { // also when a function of the caller's panics
			b.leave()
		}
	}()
	now := b.clock.now()
	if err := b.settle(ctx, now); err != nil {
		return time.Time{}, fmt.Errorf("fakebackend: %s: while the running task's lines were done: %w", op, err)
	}
	entered = true
	return now, nil
}

func (b *IoT) leave() { <-b.turn }

// invoke answers one request: the faults that were set for it, the model's constraints, then what it does. The subject
// is the name of the thing it is about, if there is one, for faults to match.
func invoke[O any](ctx context.Context, b *IoT, op, subject string, check func(*checker), act func(now time.Time) (O, *task.Error)) (O, error) {
	var none O
	if ctx.Err() != nil {
		return none, interrupted(ctx, op)
	}
	strike, err := b.faults.request(ctx, op, subject)
	if err != nil {
		return none, err
	}
	out, err := answer(ctx, b, op, check, act)
	if err := strike.loses(op, err); err != nil {
		return none, err
	}
	return out, nil
}

// answer is what a request that reached the service is answered with.
func answer[O any](ctx context.Context, b *IoT, op string, check func(*checker), act func(now time.Time) (O, *task.Error)) (O, error) {
	var none O
	if check != nil {
		c := checker{empty: given.In(ctx)}
		check(&c)
		if err := c.err(); err != nil {
			err.Op = op
			return none, err
		}
	}
	now, err := b.enter(ctx, op)
	if err != nil {
		return none, err
	}
	defer b.leave() // also when a function of the caller's panics
	out, refusal := act(now)
	if refusal != nil {
		refusal.Op = op
		return none, refusal
	}
	return out, nil
}

// orZero lets a nil input stand for an empty one, so that bad calls are refused and do not panic.
func orZero[T any](in *T) *T {
	if in == nil {
		return new(T)
	}
	return in
}

// Identity says that this is a fake, and which account and region it plays.
func (b *Backend) Identity(ctx context.Context) (*task.Identity, error) {
	if ctx.Err() != nil {
		return nil, interrupted(ctx, "GetCallerIdentity")
	}
	return &task.Identity{Partition: b.partition().Name, Account: b.opts.Account, Region: b.opts.Region, Fake: true}, nil
}

// CA returns the certificate, as PEM, that every certificate made here verifies against.
func (b *Backend) CA() []byte {
	return b.keys.Load().issuer.CertificatePEM()
}

// Options returns the options in force, with defaults filled in. The seed is left out.
func (b *Backend) Options() Options {
	o := b.opts
	o.Seed = nil
	return o
}

// Reset empties the account: things, certificates, tasks, roles, objects and faults. The clock and the CA stay as they
// are, serial numbers begin again, and the bucket is there again unless NoBucket is set.
func (b *Backend) Reset() {
	b.turn <- struct{}{}
	defer b.leave()
	b.faults.clear()
	_ = b.empty() // the bucket's name was good when New made it
}

var (
	_ task.Backend            = (*Backend)(nil)
	_ task.Identifier         = (*Backend)(nil)
	_ task.Endpointer         = (*Backend)(nil)
	_ task.Registrar          = (*Backend)(nil)
	_ task.DeviceReader       = (*Backend)(nil)
	_ task.CertificateRemover = (*Backend)(nil)
	_ task.DeviceRemover      = (*Backend)(nil)
	_ task.BucketEnsurer      = (*Backend)(nil)
	_ task.RoleEnsurer        = (*Backend)(nil)
	_ task.Preflighter        = (*Backend)(nil)
	_ task.CertificateLister  = (*Backend)(nil)
)
