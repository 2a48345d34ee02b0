package keystore

import (
	"context"
	"fmt"
	"sync"
)

// Memory keeps records in this process's memory, for tests and trials against a fake. They end with the process: with a
// real account every device registered through it would lose its key. It needs no disk, holds keys of any kind (in
// hardware, too), and otherwise keeps every promise of [Store].
func Memory() Store { return &memory{records: map[string]Record{}} }

type memory struct {
	mu      sync.Mutex
	records map[string]Record // by device
}

func (m *memory) Put(ctx context.Context, rec Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := rec.Check(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.records[rec.Device]; ok {
		return &ExistsError{Device: rec.Device, Path: "its record in memory"}
	}
	rec.Row = nil
	m.records[rec.Device] = rec
	return nil
}

func (m *memory) Sync(ctx context.Context) error { return ctx.Err() }

func (m *memory) Get(ctx context.Context, device string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	if device == "" {
		return Record{}, fmt.Errorf("%w: it is empty", ErrName)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec, ok := m.records[device]
	if !ok {
		return Record{}, notFound(device, "memory")
	}
	return rec, nil
}

func (m *memory) Verify(ctx context.Context, device string, publicKeySHA256 [32]byte) error {
	rec, err := m.Get(ctx, device)
	if err != nil {
		return err
	}
	digest, err := rec.PublicKeySHA256()
	if err == nil && digest != publicKeySHA256 {
		return otherKey(device, "memory")
	}
	return err
}
