package fakebackend

import (
	"crypto/rand"
	"fmt"
	"slices"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/iam"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/s3"
	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/wire"
	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/task"
)

// Backend is one AWS account in one region, in memory: a [task.Backend] with every ability of package task. It is safe
// for concurrent use. AWS's other operations are called through an SDK: see fakeaws.Config.
type Backend struct {
	*account // no method of it is exported
	hook
}

// New makes an account. It fails when an option has a value that cannot be.
func New(opts Options) (*Backend, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	b := &account{
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
	b.setKeys(k)
	if err := b.empty(); err != nil {
		return nil, err
	}
	return &Backend{b, wire.NewHook(served{b})}, nil
}

// CA returns the certificate, as PEM, that every certificate made here verifies against.
func (b *Backend) CA() []byte {
	return b.keys.Load().issuer.CertificatePEM()
}

// RootCA returns the certificate, as PEM, of the root CA that devices trust: a device gateway's server certificate
// verifies against it. As on AWS it is not the CA of the device certificates. It follows from the seed.
func (b *Backend) RootCA() []byte {
	return b.keys.Load().root.CertificatePEM()
}

// Options returns the options in force, with defaults filled in. The seed is left out.
func (b *Backend) Options() Options {
	o := b.opts
	o.Seed = nil
	return o
}

// Reset empties the account: things, certificates, tasks, roles, objects, faults and events, and the retained messages and
// sessions of gateways. The clock, the CA and the root CA stay as they are, and the bucket is there again unless NoBucket is
// set. With Options.Seed the same ids, serial numbers and keys come again; without it none does.
func (b *Backend) Reset() {
	b.turn <- struct{}{}
	defer b.leave()
	b.epoch.Add(1)
	b.faults.clear()
	b.events.forget()
	b.record(Event{Kind: EventReset})
	_ = b.empty() // the bucket's name was good when New made it
}

var (
	_ task.Backend           = (*Backend)(nil)
	_ task.Identifier        = (*Backend)(nil)
	_ task.Endpointer        = (*Backend)(nil)
	_ task.RootLister        = (*Backend)(nil)
	_ task.Registrar         = (*Backend)(nil)
	_ task.DeviceReader      = (*Backend)(nil)
	_ task.ThingFinder       = (*Backend)(nil)
	_ task.Remover           = (*Backend)(nil)
	_ task.CAEnsurer         = (*Backend)(nil)
	_ task.PolicyReader      = (*Backend)(nil)
	_ task.BucketEnsurer     = (*Backend)(nil)
	_ task.RoleEnsurer       = (*Backend)(nil)
	_ task.ResourceEnsurer   = (*Backend)(nil)
	_ task.Preflighter       = (*Backend)(nil)
	_ task.CertificateLister = (*Backend)(nil)
)
