package fleet_test

import (
	"errors"
	"iter"
	"maps"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/datafile"
	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/provision/fleet"
	"github.com/seed1ff6f450/iotfleet/template"
)

func TestAListWithoutTheColumnOfItsSitesIsRefusedAsAWholeAndTheRightOneIsTakenAfterIt(t *testing.T) {
	fromCSV := func(list string) iter.Seq2[provision.Device, error] {
		return provision.FromCSV(strings.NewReader(list), "l.csv", nil)
	}
	right := "ThingName,SerialNumber,Region\na,1," + regions[0] + "\nb,2," + regions[1] + "\n"
	for list, text := range map[string]string{
		strings.Replace(right, "Region", "region", 1):                                    `no column is called "Region"; "region" is no parameter of the template (did you mean "Region"?)`,
		"ThingName,SerialNumber,Area\n" + right[len("ThingName,SerialNumber,Region\n"):]: `no column is called "Region"; a column can be SerialNumber, ThingName, Region`,
		"ThingName,SerialNumber\n" + strings.Repeat("a,1\n", 300):                        `l.csv:2: the list`,
	} {
		w := newWorld(t, 2, fakebackend.Options{})
		w.durable(t)
		_, err := w.fleet(t).Check(t.Context(), fromCSV(list))
		require.ErrorIs(t, err, datafile.ErrHeader)
		_, err = w.fleet(t).Run(t.Context(), fromCSV(list))
		require.ErrorIs(t, err, datafile.ErrHeader)
		assert.ErrorContains(t, err, text)
		summary, err := w.fleet(t).Run(t.Context(), fromCSV(right))
		require.NoError(t, err)
		requireAddsUp(t, summary, 2)
	}
	// One record with the column is enough, and a record that can't be read decides nothing.
	w := newWorld(t, 2, fakebackend.Options{})
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), provision.FromNDJSON(strings.NewReader("{\n"+`{"ThingName":"a","SerialNumber":"1"}
{"ThingName":"b","SerialNumber":"2","Region":"`+regions[0]+`"}`), "l.json", nil))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 3)
	assert.EqualValues(t, 1, summary.Provisioned)
	assert.EqualValues(t, 2, summary.Refused)
	_, err = w.fleet(t).Check(t.Context(), provision.FromNDJSON(strings.NewReader("{\n"), "l.json", nil))
	require.NoError(t, err, "nothing is known of its columns")
}

func TestADeviceThatNoSiteTakesFailsAlone(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.durable(t)
	input := provision.Devices(
		device("one", "eu-west-1"),
		device("two", ""),
		provision.Device{Row: map[string]string{"ThingName": "three", "SerialNumber": "3"}, Source: "devices.csv:4"},
		device("four", "mars-1"),
		device("five", "EU-West-1"),
		provision.Device{Err: errors.New("quotes are not closed"), Source: "devices.csv:7"},
		device("one", "us-east-1"),
		device("eight", "us-east-1"),
		device("has space", "us-east-1"),
		device("one", "eu-west-1"),
	)
	check := func(f *fleet.Fleet, summary *fleet.Summary, err error) {
		t.Helper()
		require.ErrorIs(t, err, provision.ErrIncomplete)
		assert.ErrorContains(t, err, "6 refused by the fleet")
		requireAddsUp(t, summary, 10)
		assert.EqualValues(t, 2, summary.Provisioned)
		assert.EqualValues(t, 8, summary.Failed)
		assert.EqualValues(t, 6, summary.Refused)
		assert.EqualValues(t, 4, summary.Causes[fleet.CauseNoRoute])
		all := results(t, f)
		require.Len(t, all, 10)
		w.requireOnce(t, all)
		refused := all[4:]
		for i, want := range []struct {
			cause provision.Cause
			text  string
		}{
			{fleet.CauseNoRoute, `record 2 of the input: its record has no value for "Region"`},
			{fleet.CauseNoRoute, `record 3 of the input: its record has no value for "Region"`},
			{fleet.CauseNoRoute, `there is no site "mars-1"; the sites are "eu-west-1", "us-east-1"`},
			{fleet.CauseNoRoute, `there is no site "EU-West-1"`},
			{provision.CauseInvalidRecord, "quotes are not closed"},
			{provision.CauseDuplicate, `record 1, which goes to site "eu-west-1", has the same thing name`},
		} {
			assert.Empty(t, refused[i].Site)
			assert.Equal(t, provision.Failed, refused[i].Verdict)
			assert.Equal(t, want.cause, refused[i].Cause)
			assert.Contains(t, refused[i].Message, want.text)
			assert.Zero(t, refused[i].Attempts)
		}
		assert.Equal(t, "three", refused[1].Name)
		assert.Equal(t, "devices.csv:4", refused[1].Source)
		assert.Equal(t, "mars-1", refused[2].Row["Region"], "a refused row is kept as it was given")
	}
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), input)
	check(f, summary, err)
	f = w.fleet(t) // as a new process would
	summary, err = f.Run(t.Context(), nil)
	check(f, summary, err)
	summary, err = w.fleet(t).Run(t.Context(), input)
	check(f, summary, err)
	summary, err = f.Retry(t.Context())
	check(f, summary, err)
	assert.False(t, fleet.CauseNoRoute.Retryable())
}

func TestTheRoutingColumnIsTakenOutUnlessTheTemplateHasIt(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	tmpl, err := template.Parse([]byte(`{"Parameters":{"ThingName":{"Type":"String"},"SerialNumber":{"Type":"String"},"Region":{"Type":"String"},"CSR":{"Type":"String"}},
		"Resources":{"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"ThingName"},"AttributePayload":{"where":{"Ref":"Region"},"serial":{"Ref":"SerialNumber"}}}},
		"certificate":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateSigningRequest":{"Ref":"CSR"},"Status":"ACTIVE"}}}}`))
	require.NoError(t, err)
	w.change("us-east-1", func(o *provision.Options) { o.Template = tmpl })
	eu, us := device("one", "eu-west-1"), device("two", "us-east-1")
	before := maps.Clone(eu.Row)
	f := w.complete(t, provision.Devices(eu, us))
	assert.Equal(t, before, eu.Row, "the caller's row is left as it is")
	all := results(t, f)
	assert.NotContains(t, all[0].Row, "Region")
	assert.Equal(t, "us-east-1", all[1].Row["Region"])
	dev, err := w.fakes["us-east-1"].ReadDevice(t.Context(), "two")
	require.NoError(t, err)
	assert.Equal(t, "us-east-1", dev.Attributes["where"])
}

func TestAFunctionOfTheUsersRoutes(t *testing.T) {
	w := newWorld(t, 2, fakebackend.Options{})
	w.opts.Route = fleet.ByFunc(func(d provision.Device) (string, error) {
		switch serial := d.Row["SerialNumber"]; {
		case serial == "":
			return "", errors.New("a device without a serial number")
		case serial < "5":
			return "eu-west-1", nil
		case serial < "9":
			return "us-east-1", nil
		}
		return "", nil
	})
	row := func(name, serial string) map[string]string {
		return map[string]string{"ThingName": name, "SerialNumber": serial}
	}
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), provision.Rows(row("a", "1"), row("b", "6"), row("c", ""), row("d", "9")))
	require.ErrorIs(t, err, provision.ErrIncomplete)
	requireAddsUp(t, summary, 4)
	all := results(t, f)
	w.requireOnce(t, all)
	assert.Equal(t, "eu-west-1", all[0].Site)
	assert.Equal(t, "us-east-1", all[1].Site)
	assert.Contains(t, all[2].Message, "without a serial number")
	assert.Contains(t, all[3].Message, "the route names no site")
}

// The column that routes stays with the device, at a site it is neither sent nor lost.
func TestTheRoutingColumnIsKeptBesideTheDevice(t *testing.T) {
	for name, route := range map[string]fleet.Route{
		"by column": fleet.ByColumn("Region"), "by function": fleet.ByFunc(func(d provision.Device) (string, error) { return d.Row["Region"], nil }),
	} {
		w := newWorld(t, 2, fakebackend.Options{})
		w.opts.Route = route
		for site := range w.opts.Sites {
			w.change(site, func(o *provision.Options) { o.Meta.Columns = []string{"Customer", "Region"} })
		}
		f := w.fleet(t)
		list := "ThingName,SerialNumber,Region,Customer\na,1,eu-west-1,x\nb,2,us-east-1,y\n"
		_, err := f.Run(t.Context(), provision.FromCSV(strings.NewReader(list), "devices.csv", nil))
		require.NoError(t, err, name)
		all := results(t, f)
		assert.Equal(t, map[string]string{"Region": "us-east-1", "Customer": "y"}, all[1].Meta, name)
		assert.Equal(t, map[string]string{"ThingName": "b", "SerialNumber": "2"}, all[1].Row, name)
	}
	w := newWorld(t, 2, fakebackend.Options{})
	_, err := w.fleet(t).Run(t.Context(), provision.Devices(provision.Device{
		Row: map[string]string{"ThingName": "a", "SerialNumber": "1"}, Meta: map[string]string{"Region": "eu-west-1"},
	}))
	require.NoError(t, err, "or it is there from the start")
}

// A certificate signing request that comes with two devices must not be registered at two sites, whoever is first.
func TestAPublicKeyBelongsToOneSite(t *testing.T) {
	request := func() string { return csrFor(t, "device") }
	shared := request()
	given := func(name, region, csr string) provision.Device {
		d := device(name, region)
		d.Row["CSR"] = csr
		return d
	}
	newKeyed := func() *world {
		w := newWorld(t, 2, fakebackend.Options{})
		w.durable(t)
		for name := range w.opts.Sites {
			w.change(name, func(o *provision.Options) { o.Credential = &provision.GivenCSR{} })
		}
		return w
	}
	check := func(w *world, f *fleet.Fleet, err error) {
		t.Helper()
		require.ErrorIs(t, err, provision.ErrIncomplete)
		var failed []*fleet.Result
		for _, r := range results(t, f) {
			if r.Verdict != provision.Provisioned {
				failed = append(failed, r)
			}
		}
		require.Len(t, failed, 1)
		assert.Contains(t, failed[0].Message, "has the same public key")
		assert.Equal(t, provision.CauseDuplicate, failed[0].Cause, "trying it again can't help")
		assert.Zero(t, failed[0].Attempts)
		assert.Len(t, append(things(t, w.fakes["eu-west-1"]), things(t, w.fakes["us-east-1"])...), 3)
	}
	w := newKeyed()
	input := provision.Devices(given("one", "eu-west-1", shared), given("two", "us-east-1", shared),
		given("three", "eu-west-1", request()), given("four", "us-east-1", request()))
	f := w.fleet(t)
	summary, err := f.Run(t.Context(), input)
	check(w, f, err)
	requireAddsUp(t, summary, 4)
	f = w.fleet(t) // a new process knows the keys from the ledgers
	_, err = f.Retry(t.Context())
	check(w, f, err)
	_, err = f.Run(t.Context(), input)
	check(w, f, err)
}

func TestAGivenRequestIsLookedAtWhenItIsTakenIn(t *testing.T) {
	w := newWorld(t, 1, fakebackend.Options{})
	w.durable(t)
	w.change(regions[0], func(o *provision.Options) { o.Credential = &provision.GivenCSR{} })
	var failed int64
	w.opts.Observe = func(_ string, e provision.Event) {
		if e, ok := e.(provision.EventSpooled); ok {
			failed = e.Failed
		}
	}
	w.incomplete(t, provision.Rows(map[string]string{"ThingName": "a", "SerialNumber": "1", "Region": regions[0], "CSR": "to be done"}))
	assert.EqualValues(t, 1, failed, "before anything is made or sent")
}
