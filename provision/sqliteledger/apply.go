package sqliteledger

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// lookUp is how many rows are written between two looks at the context.
const lookUp = 64

func (l *Ledger) prepare(ctx context.Context) (err error) {
	if l.add, err = l.db.Prepare(ctx, insert("INSERT", "devices", deviceColumns)); err != nil {
		return err
	}
	if l.change, err = l.db.Prepare(ctx, updateDevice(deviceColumns[1:])); err == nil {
		l.outcome, err = l.db.Prepare(ctx, updateDevice(deviceColumns[inputColumns:]))
	}
	return err
}

func updateDevice(columns []column[provision.DeviceRecord]) string {
	sets := make([]string, 0, len(columns))
	for _, c := range columns {
		sets = append(sets, c.name+" = ?")
	}
	return "UPDATE devices SET " + strings.Join(sets, ", ") + " WHERE seq = ?"
}

func insert[R any](verb, table string, columns []column[R]) string {
	return fmt.Sprintf("%s INTO %s (%s) VALUES (?%s)", verb, table, names(columns), strings.Repeat(", ?", len(columns)-1))
}

// Apply makes all of a change or nothing of it, in one transaction. When it returns nil, the change survives a power
// cut.
//
// An error that comes from the disk at the very end of a change can leave open whether the change is there, as a whole,
// when the ledger is opened again.
func (l *Ledger) Apply(ctx context.Context, c provision.Change) error {
	return l.db.Write(ctx, "making a change", func(*sql.Conn) error { return l.apply(ctx, c) })
}

func (l *Ledger) exec(ctx context.Context, query string, args ...any) error {
	_, err := l.db.Conn().ExecContext(ctx, query, args...)
	return err
}

func (l *Ledger) apply(ctx context.Context, c provision.Change) error {
	var last int64
	if err := l.db.Conn().QueryRowContext(ctx, "SELECT coalesce(max(seq), 0) FROM devices").Scan(&last); err != nil {
		return err
	}
	if c.RemoveFrom < 0 || c.RemoveFrom > last+1 {
		return fmt.Errorf("devices are to be removed from number %d, the ledger holds 1 to %d", c.RemoveFrom, last)
	}
	if c.RemoveFrom > 0 {
		last = c.RemoveFrom - 1
	}
	if err := check(c, last); err != nil {
		return err
	}
	if c.RemoveFrom > 0 {
		if err := l.exec(ctx, "DELETE FROM devices WHERE seq >= ?", c.RemoveFrom); err != nil {
			return err
		}
	}
	if c.Run != nil {
		if err := l.exec(ctx, "DELETE FROM runs"); err != nil {
			return err
		}
		if err := put(ctx, l, "INSERT", "runs", runColumns, c.Run); err != nil {
			return fmt.Errorf("run %q: %w", c.Run.ID, err)
		}
	}
	if err := l.applyDevices(ctx, c); err != nil {
		return err
	}
	if c.Part != nil {
		if err := put(ctx, l, "INSERT OR REPLACE", "parts", partColumns, c.Part); err != nil {
			return fmt.Errorf("part %d: %w", c.Part.Number, err)
		}
	}
	for _, o := range c.Orphans {
		if err := l.putOrphan(ctx, o); err != nil {
			return fmt.Errorf("orphan %q: %w", o.CertificateID, err)
		}
	}
	if err := l.forgetUsed(ctx, c); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// check finds what is wrong with a change on a ledger that has so many devices.
func check(c provision.Change, last int64) error {
	for i, d := range c.Add {
		if want := last + int64(i) + 1; d.Seq != want {
			return fmt.Errorf("device %q has number %d, the next one is %d", d.Name, d.Seq, want)
		}
	}
	for _, d := range c.Devices {
		if d.Seq < 1 || d.Seq > last {
			return fmt.Errorf("device %q has number %d, the ledger holds 1 to %d", d.Name, d.Seq, last)
		}
	}
	if c.Part != nil && c.Part.Number < 1 {
		return fmt.Errorf("a part has number %d; parts are numbered from 1", c.Part.Number)
	}
	return nil
}

// applyDevices writes the devices of a change. The statements themselves take microseconds and don't watch the context,
// which would cost more than they do.
func (l *Ledger) applyDevices(ctx context.Context, c provision.Change) error {
	still := context.WithoutCancel(ctx)
	args := make([]any, 0, len(deviceColumns))
	for i, d := range c.Add {
		if err := context.Cause(ctx); i%lookUp == 0 && err != nil {
			return err
		}
		args, err := bind(deviceColumns, d, args[:0])
		if err == nil {
			_, err = l.add.ExecContext(still, args...)
		}
		if err != nil {
			return fmt.Errorf("device %d (%q): %w", d.Seq, d.Name, err)
		}
	}
	update, columns := l.change, deviceColumns[1:]
	if c.InputStays {
		update, columns = l.outcome, deviceColumns[inputColumns:]
	}
	for i, d := range c.Devices {
		if err := context.Cause(ctx); i%lookUp == 0 && err != nil {
			return err
		}
		args, err := bind(columns, d, args[:0])
		if err == nil {
			err = exactlyOne(update.ExecContext(still, append(args, d.Seq)...))
		}
		if err != nil {
			return fmt.Errorf("device %d (%q): %w", d.Seq, d.Name, err)
		}
	}
	return nil
}

func exactlyOne(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 1 {
		return err
	}
	return fmt.Errorf("%w: its row is missing", ErrDamaged)
}

func put[R any](ctx context.Context, l *Ledger, verb, table string, columns []column[R], r *R) error {
	args, err := bind(columns, r, nil)
	if err != nil {
		return err
	}
	return l.exec(ctx, insert(verb, table, columns), args...)
}

// putOrphan replaces an orphan where it stands, or appends it.
func (l *Ledger) putOrphan(ctx context.Context, o *provision.Orphan) error {
	args, err := bind(orphanColumns, o, nil)
	if err != nil {
		return err
	}
	args[0] = o.CertificateID // not NULL, even when it is empty
	sets := make([]string, 0, len(orphanColumns))
	for _, c := range orphanColumns {
		sets = append(sets, c.name+" = excluded."+c.name)
	}
	return l.exec(ctx, insert("INSERT", "orphans", orphanColumns)+
		" ON CONFLICT (certificate_id) DO UPDATE SET "+strings.Join(sets, ", "), args...)
}

// forgetUsed deletes the orphans whose certificate a device of the change has. Most ledgers have no orphans.
func (l *Ledger) forgetUsed(ctx context.Context, c provision.Change) error {
	some := false
	if err := l.db.Conn().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM orphans)").Scan(&some); err != nil || !some {
		return err
	}
	for _, d := range slices.Concat(c.Add, c.Devices) {
		if d.CertificateID == "" {
			continue
		}
		if err := l.exec(ctx, "DELETE FROM orphans WHERE certificate_id = ?", d.CertificateID); err != nil {
			return fmt.Errorf("orphan %q: %w", d.CertificateID, err)
		}
	}
	return nil
}
