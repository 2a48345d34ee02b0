package template_test

import (
	"math/big"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/template"
)

type labelled struct {
	Batch int    `iot:"Batch"`
	Note  string `iot:"-"`
}

type deviceRecord struct {
	labelled
	*Placed
	ThingName string
	Serial    uint64     `iot:"SerialNumber"`
	Location  string     `iot:",default=New, York=1"`
	Colour    string     `iot:"Color,omitempty"`
	Firmware  *string    `iot:",default=1.0"`
	Address   netip.Addr // has MarshalText
	Mass      float64
	Tested    bool
	Number    big.Int // MarshalText on the pointer
	hidden    string
}

type Placed struct{ Hall string }

func TestOneStructGivesParametersAndRows(t *testing.T) {
	params, err := template.ParametersOf[deviceRecord]()
	require.NoError(t, err)
	assert.Equal(t, template.Parameters{
		"Batch": {}, "Hall": {}, "ThingName": {}, "SerialNumber": {}, "Location": {Default: template.Literal("New, York=1")},
		"Color": {}, "Firmware": {Default: template.Literal("1.0")}, "Address": {}, "Mass": {}, "Tested": {}, "Number": {},
	}, params)

	d := deviceRecord{
		labelled: labelled{Batch: -4, Note: "not a parameter"}, Placed: &Placed{"3b"}, ThingName: "d1", Serial: 18446744073709551615,
		Location: "Ulm", Colour: "red", Firmware: new(""), Address: netip.MustParseAddr("10.0.0.1"), Mass: 0.5, Tested: true, hidden: "x",
	}
	d.Number.SetInt64(7)
	row, err := template.RowOf(d)
	require.NoError(t, err)
	want := map[string]string{
		"Batch": "-4", "Hall": "3b", "ThingName": "d1", "SerialNumber": "18446744073709551615", "Location": "Ulm", "Color": "red",
		"Firmware": "", "Address": "10.0.0.1", "Mass": "0.5", "Tested": "true", "Number": "7",
	}
	assert.Equal(t, want, row)
	row, err = template.RowOf(&d)
	require.NoError(t, err)
	assert.Equal(t, want, row, "a pointer gives the same")
}

func TestZeroFieldsLeaveTheRowOnlyWhenTheTagSaysSo(t *testing.T) {
	row, err := template.RowOf(deviceRecord{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{
		"Batch": "0", "ThingName": "", "SerialNumber": "0", "Address": "", "Mass": "0", "Tested": "false", "Number": "0",
	}, row)
}

func TestStructsThatCannotBeRowsAreRefusedByName(t *testing.T) {
	type inner struct{ A string }
	type recursive struct{ *recursive }
	_ = recursive{nil}.recursive
	for want, f := range map[string]func() (template.Parameters, error){
		"field Tags":  template.ParametersOf[struct{ Tags []string }],
		"field Inner": template.ParametersOf[struct{ Inner inner }],
		"field Any":   template.ParametersOf[struct{ Any any }],
		"field Twice": template.ParametersOf[struct{ Twice **string }],
		"both named \"A\"": template.ParametersOf[struct {
			A string
			B string `iot:"A"`
		}],
		"unknown option": template.ParametersOf[struct {
			A string `iot:"A,required"`
		}],
		"not exported": template.ParametersOf[struct {
			a string `iot:"A"`
		}],
		"int is not a struct": template.ParametersOf[int],
		"embeds itself":       template.ParametersOf[recursive],
	} {
		_, err := f()
		assert.ErrorContains(t, err, want)
	}
	_, err := template.RowOf[*deviceRecord](nil)
	assert.ErrorContains(t, err, "nil")
	_, err = template.RowOf(map[string]string{})
	assert.ErrorContains(t, err, "not a struct")
}
