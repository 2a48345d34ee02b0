package durable_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/durable"
	"github.com/seed1ff6f450/iotfleet/internal/durable/memdisk"
)

func TestProbeNamesWhatAFileSystemLacksAndLeavesNothing(t *testing.T) {
	all := durable.Modes | durable.FolderSync | durable.Locks
	dir := t.TempDir()
	require.NoError(t, durable.Probe(durable.OS(), dir, all))
	for without := durable.Need(1); without <= all; without++ {
		poor := memdisk.Poor{Disk: durable.OS(), Without: without}
		err := durable.Probe(poor, dir, all)
		for _, one := range []durable.Need{durable.Modes, durable.FolderSync, durable.Locks} {
			assert.Equal(t, without&one != 0, durable.Lacks(err, one), "%v", err)
			assert.Equal(t, without&one != 0, durable.Probe(poor, dir, one) != nil)
		}
		require.ErrorContains(t, err, dir)
		require.ErrorContains(t, err, "take a folder on a local disk")
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Empty(t, entries)
}
