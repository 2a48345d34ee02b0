//go:build unix

package template_test

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/template"
)

// processorTime returns what the process has used until now. It does not pass while others have the processor.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func TestAHugeTemplateIsParsedAndCheckedInTime(t *testing.T) {
	const n = 20000
	source := func(parameter func(i int) string, attributes string) string {
		var b strings.Builder
		b.WriteString(`{"Parameters": {`)
		for i := range n {
			b.WriteString(parameter(i))
		}
		fmt.Fprintf(&b, `"p%d": {}}, "Resources": {"t": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": "x", "AttributePayload": {%s}}}}}`,
			n, attributes)
		return b.String()
	}
	var undeclared strings.Builder
	for i := range n {
		fmt.Fprintf(&undeclared, `"a%d": {"Ref": "u%d"}, `, i, i)
	}
	for name, src := range map[string]string{
		"a long chain of defaults": source(func(i int) string {
			return fmt.Sprintf("\n%q: {\"Type\": \"Number\", \"Default\": {\"Ref\": %q}},", fmt.Sprint("p", i), fmt.Sprint("p", i+1))
		}, ""),
		"all on one line, and as many parameters undeclared": source(func(i int) string {
			return fmt.Sprintf(`"p%d": {"Type": "Number"}, `, i)
		}, undeclared.String()+`"z": "x"`),
	} {
		began := processorTime(t)
		tm, err := template.Parse([]byte(src))
		require.NoError(t, err)
		assert.Greater(t, len(tm.Check(template.Bulk)), n, name)
		assert.Less(t, processorTime(t)-began, 20*time.Second, "%s: the time must not grow with the square of the size", name)
	}
}
