package sqlitefile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
	"github.com/seed1ff6f450/iotfleet/internal/sqlitefile"
)

func TestAFileIsNotMadeWhereItsFileSystemLacksWhatItNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		without durable.Need
		modes   bool
		want    string
	}{
		"no locks":                    {durable.Locks, false, "has no locks"},
		"no modes":                    {durable.Modes, true, "does not keep the modes of files"},
		"no modes, which nobody asks": {durable.Modes, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := notes.Open(t.Context(), filepath.Join(dir, "notes.db"), sqlitefile.Options{
				Modes: c.modes, Disk: memdisk.Poor{Disk: durable.OS(), Without: c.without},
			})
			if c.want == "" {
				require.NoError(t, err)
				require.NoError(t, db.Close())
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotErrorIs(t, err, notes.InUse, "nobody else is accused")
			entries, err := os.ReadDir(dir)
			require.NoError(t, err)
			assert.Empty(t, entries)
		})
	}
}
