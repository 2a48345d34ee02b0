package fakebackend

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestAReportTakesLittleMoreMemoryThanItHolds(t *testing.T) {
	b, err := New(Options{})
	require.NoError(t, err)
	rest := &outcomeRest{thingName: "thing", certificateName: "certificate"}
	for name, der := range map[string][]byte{"a certificate": make([]byte, 500), "none": nil} {
		lines := make([]doneLine, 5000)
		for i := range lines {
			lines[i] = doneLine{int64(i + 1), outcome{thing: &thing{name: fmt.Sprintf("device-%d", i)}, rest: rest}}
			if der != nil {
				lines[i].certificate = &certificate{der: der}
			}
		}
		var w bytes.Buffer
		b.writeResults(&w, lines)
		t.Logf("%s: %d bytes a line", name, w.Len()/len(lines))
		assert.Less(t, float64(w.Cap()), 1.3*float64(w.Len()), name)
	}
}
