package fleet

import (
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/csr/keystore"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestAPrivateKeyReachesNeitherTheTemporaryFileNorTheFleetsLedger(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"
	fake, err := fakebackend.New(fakebackend.Options{})
	require.NoError(t, err)
	role, err := fake.EnsureRole(t.Context(), &task.RoleInput{Name: "registration"})
	require.NoError(t, err)
	f, err := New(Options{Route: ByColumn("Region"), Sites: map[string]provision.Options{"north": {
		Backend: fake, RoleARN: role, Template: template.Walkthrough(), Credential: &provision.MakeCSR{Store: keystore.Memory()},
	}}})
	require.NoError(t, err)
	devices := provision.Devices(
		provision.Device{Row: map[string]string{"Region": "north", "ThingName": "one", "SerialNumber": key}, Source: key, Name: key},
		provision.Device{Row: map[string]string{"Region": "south", "ThingName": "two", "SerialNumber": key}, Source: key, Name: key},
		provision.Device{Row: map[string]string{"Region": key, "ThingName": "three", "SerialNumber": "3"}},
		provision.Device{Err: errors.New("can't read " + key)},
	)
	_, err = f.open(t.Context())
	require.NoError(t, err)
	queue := newFeed(t.TempDir())
	require.NoError(t, f.read(t.Context(), devices, &router{fleet: f}, []*feed{queue}))
	require.Len(t, queue.tail, 1)
	d := queue.tail[0]
	assert.NotContains(t, d.Row["SerialNumber"]+d.Source+d.Name, "PRIVATE")
	refused := 0
	for r, err := range f.Results(t.Context()) {
		require.NoError(t, err)
		refused++
		assert.NotContains(t, r.Row["SerialNumber"]+r.Row["Region"]+r.Source+r.Name+r.Message, "PRIVATE")
	}
	assert.Equal(t, 3, refused)

	f, err = New(f.opts)
	require.NoError(t, err)
	summary, err := f.Run(t.Context(), devices)
	require.Error(t, err)
	assert.EqualValues(t, 4, summary.Failed)
	var all []*Result
	for r, err := range f.Results(t.Context()) {
		require.NoError(t, err)
		all = append(all, r)
	}
	i := slices.IndexFunc(all, func(r *Result) bool { return r.Site == "north" })
	require.GreaterOrEqual(t, i, 0)
	assert.Contains(t, all[i].Message, `column "SerialNumber" held a private key`)
}
