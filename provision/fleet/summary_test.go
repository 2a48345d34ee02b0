package fleet

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestNothingThatASiteReportsIsMissingInTheFleetsSummary(t *testing.T) {
	of := &provision.Summary{
		Causes: map[provision.Cause]int64{provision.CauseQuota: 1}, OrphansLooked: time.Now(), OrphansError: errors.New("denied"),
	}
	v := reflect.ValueOf(of).Elem()
	for i := range v.NumField() {
		switch m := v.Field(i); m.Kind() {
		case reflect.Int, reflect.Int64:
			m.SetInt(1)
		case reflect.String:
			m.SetString("x")
		case reflect.Bool:
			m.SetBool(true)
		case reflect.Slice:
			m.Set(reflect.MakeSlice(m.Type(), 1, 1))
		}
		assert.False(t, v.Field(i).IsZero(), "%s is of a kind that this test does not know", v.Type().Field(i).Name)
	}
	var all Summary
	all.Sites, all.Causes = map[string]*provision.Summary{}, map[provision.Cause]int64{}
	all.add("eu", of)
	all.add("us", of)
	for i := range v.NumField() {
		name, m := v.Type().Field(i).Name, reflect.ValueOf(all.Summary).Field(i)
		if name == "RunID" || name == "Took" { // they are the fleet's own
			continue
		}
		assert.False(t, m.IsZero(), name)
		if m.Kind() == reflect.Int64 || m.Kind() == reflect.Int {
			assert.EqualValues(t, 2, m.Int(), name)
		}
	}
	assert.Len(t, all.Discrepancies, 2)
	assert.Equal(t, map[provision.Cause]int64{provision.CauseQuota: 2}, all.Causes)
	assert.EqualError(t, all.OrphansError, `site "eu": denied; site "us": denied`)
}
