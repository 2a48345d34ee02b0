package fleet_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestNoPrivateKeyAndNoLinkIsInAnythingAFleetGives(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	w.fault(t, regions[0], fakebackend.Fault{Operation: "GetObject", Do: fakebackend.Fail, Code: "AccessDenied", Times: -1})
	var said []any
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), edited(spread(10, 2), func(n int, d *provision.Device) {
		if n == 5 {
			d.Row["Region"] = ""
		}
	}))
	require.Error(t, err)
	require.EqualValues(t, 5, summary.Provisioned)
	said = append(said, summary, err, w.events)
	for r, err := range f.Results(t.Context()) {
		require.NoError(t, err)
		said = append(said, r)
	}
	records, err := f.Manifests(t.Context())
	require.NoError(t, err)
	said = append(said, records, f, w.opts.Route)
	secret := regexp.MustCompile(`PRIVATE KEY|X-Amz-|Signature=`)
	for _, v := range said {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			assert.NotRegexp(t, secret, fmt.Sprintf(verb, v))
		}
		if text, err := json.Marshal(v); err == nil {
			assert.NotRegexp(t, secret, string(text))
		}
	}
}
