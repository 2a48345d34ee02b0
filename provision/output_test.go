package provision_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestAFolderNeverReplacesWhatIsThereButTakesTheSameAgain(t *testing.T) {
	keys, err := keystore.OpenFolder(filepath.Join(t.TempDir(), "keys"), nil)
	require.NoError(t, err)
	out := provision.Folder(keys)
	deliver := func(d provision.Delivery) error {
		require.NoError(t, out.Deliver(t.Context(), &d))
		return out.Sync(t.Context())
	}
	first := provision.Delivery{ThingName: "pump-1", ClientID: "pump-1", CertificateID: "1", CertificatePEM: "one\n", RootCA: "root\n"}
	require.NoError(t, deliver(first))
	require.NoError(t, deliver(first), "after a crash the same is handed over again")
	before := folderContent(t, keys.Path("pump-1"))

	other := first
	other.CertificatePEM = "two\n"
	err = deliver(other)
	require.ErrorContains(t, err, "certificate.pem")
	assert.ErrorContains(t, err, "move it away")
	assert.ErrorContains(t, err, `"pump-1"`)

	other = first
	other.Endpoint = "elsewhere"
	require.ErrorContains(t, deliver(other), "thing.json")
	assert.Equal(t, before, folderContent(t, keys.Path("pump-1")))

	require.NoError(t, os.Remove(filepath.Join(keys.Path("pump-1"), "thing.json")))
	require.NoError(t, deliver(first), "what was refused is forgotten, and what is missing is written")
	assert.Equal(t, before, folderContent(t, keys.Path("pump-1")))
}

func TestTheRootIsBesideEveryCertificateAndTheNewestTakesThePlaceOfAnother(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	keys, err := keystore.OpenFolder(dir, nil)
	require.NoError(t, err)
	out := provision.Folder(keys)
	deliver := func(root string, things ...string) {
		t.Helper()
		for _, thing := range things {
			require.NoError(t, out.Deliver(t.Context(), &provision.Delivery{ThingName: thing, CertificatePEM: "certificate of " + thing, RootCA: root}))
		}
		require.NoError(t, out.Sync(t.Context()))
	}
	deliver("old", "pump-1", "pump-2")
	deliver("old", "pump-1")
	path := filepath.Join(keys.Path("pump-1"), "root-ca.pem")
	assert.Equal(t, "old", folderContent(t, keys.Path("pump-1"))["root-ca.pem"])
	assert.NotContains(t, folderContent(t, keys.Path("pump-1"))["thing.json"], "old")
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Zero(t, info.Mode()&0o222, "it is in the folders of others, too")

	deliver("new", "pump-1", "pump-3")
	deliver("", "pump-4", "pump-1")
	for thing, root := range map[string]string{"pump-1": "new", "pump-2": "old", "pump-3": "new", "pump-4": ""} {
		files := folderContent(t, keys.Path(thing))
		assert.Equal(t, root, files["root-ca.pem"], thing)
		assert.Equal(t, "certificate of "+thing, files["certificate.pem"])
	}
	require.NoError(t, os.RemoveAll(keys.Path("pump-3")))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	assert.Len(t, entries, 3, "nothing is left beside the folders: %v", entries)

	require.NoError(t, os.Remove(filepath.Join(keys.Path("pump-1"), "certificate.pem")))
	require.NoError(t, os.Remove(filepath.Join(keys.Path("pump-1"), "thing.json")))
	assert.NoError(t, out.(provision.DeliveryFinder).Undelivered(t.Context(), "pump-1"), "a root alone is no delivery")
}
