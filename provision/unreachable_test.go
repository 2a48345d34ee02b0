package provision_test

import (
	"context"
	"errors"
	"time"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/task"
)

var since time.Time // the beginning of time

// unreachable is a backend on a machine without a network.
type unreachable struct{ task.Backend }

var errOffline = errors.New("no network")

func (unreachable) Identity(context.Context) (*task.Identity, error) { return nil, errOffline }

// noKeys is a store on a machine that has no keys and must need none.
type noKeys struct{}

func (noKeys) Put(context.Context, keystore.Record) error {
	return errors.New("this machine has no keys")
}
func (noKeys) Sync(context.Context) error { return errors.New("this machine has no keys") }
func (noKeys) Get(context.Context, string) (keystore.Record, error) {
	return keystore.Record{}, errors.New("this machine has no keys")
}

func (noKeys) Verify(context.Context, string, [32]byte) error {
	return errors.New("this machine has no keys")
}

// discardKeys is a store that keeps nothing and has nothing, for measuring what is around it.
type discardKeys struct{}

func (discardKeys) Put(context.Context, keystore.Record) error { return nil }
func (discardKeys) Sync(context.Context) error                 { return nil }
func (discardKeys) Get(context.Context, string) (keystore.Record, error) {
	return keystore.Record{}, keystore.ErrNotFound
}
func (discardKeys) Verify(context.Context, string, [32]byte) error { return nil }
