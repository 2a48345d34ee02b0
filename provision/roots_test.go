package provision_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
)

// rooted is a backend with roots of its own.
type rooted struct {
	*fakebackend.Backend
	roots    string
	endpoint string // that it was asked about
}

func (r *rooted) RootCAs(_ context.Context, endpoint string) ([]byte, error) {
	r.endpoint = endpoint
	return []byte(r.roots), nil
}

func TestEachDeviceGetsTheRootsOfItsEndpoint(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	backend := &rooted{Backend: w.fake, roots: string(w.fake.RootCA()) + string(w.fake.CA())}
	w.opts.Backend = backend
	w.complete(t, rows(2))
	for _, device := range []string{"device-1", "device-2"} {
		assert.Equal(t, backend.roots, folderContent(t, w.folder.Path(device))["root-ca.pem"])
	}
	host, err := w.fake.DataEndpoint(t.Context())
	require.NoError(t, err)
	assert.Equal(t, host, backend.endpoint)
}

func TestWhereNoRootsAreKnownThereIsNoFile(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	w.opts.Backend = &rooted{Backend: w.fake}
	w.complete(t, rows(1))
	assert.NotContains(t, folderContent(t, w.folder.Path("device-1")), "root-ca.pem")
}

func TestNothingIsSentWhileTheRootsAreNoCertificates(t *testing.T) {
	w := folderWorld(t, fakebackend.Options{})
	w.opts.Backend = &rooted{Backend: w.fake, roots: "<html>log in</html>"}
	_, err := w.run(t).Run(t.Context(), rows(1))
	require.ErrorContains(t, err, "asking for the root certificates devices trust")
	assert.Zero(t, w.fake.Counts().Things)
}
