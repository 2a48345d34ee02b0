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
	keys, err := keystore.OpenFolder(t.TempDir(), nil)
	require.NoError(t, err)
	out := provision.Folder(keys)
	deliver := func(d provision.Delivery) error {
		require.NoError(t, out.Deliver(t.Context(), &d))
		return out.Sync(t.Context())
	}
	first := provision.Delivery{ThingName: "pump-1", ClientID: "pump-1", CertificateID: "1", CertificatePEM: "one\n"}
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
