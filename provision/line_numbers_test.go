package provision_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// TestNumbersThatAreNotProvedTieNoTextToADevice takes away what would prove how the service counts: the results have no
// numbers, and the error line of one of two refused devices is missing. The number that is left then names a device
// whose text it may not be.
func TestNumbersThatAreNotProvedTieNoTextToADevice(t *testing.T) {
	for _, c := range []struct {
		name    string
		missing string // the text of the error line that the report lacks
		by      float64
	}{
		{"from 0, the first error missing", "gone-a", -1},
		{"from 0, the second error missing", "gone-b", -1},
		{"from 1, the first error missing", "gone-a", 0},
		{"from 1, the second error missing", "gone-b", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := typedWorld(t, fakebackend.Options{})
				w.opts.Backend = blind{shuffled{w.fake, func(lines []string) []string {
					var out []string
					for _, line := range lines {
						var m map[string]any
						if json.Unmarshal([]byte(line), &m) != nil || strings.Contains(line, c.missing) {
							continue
						}
						if _, isResult := m["response"]; isResult {
							delete(m, "lineNumber")
						} else {
							m["lineNumber"] = m["lineNumber"].(float64) + c.by
						}
						text, err := json.Marshal(m)
						if err != nil {
							panic(err)
						}
						out = append(out, string(text)+"\n")
					}
					return out
				}}}
				run := w.incomplete(t, provision.Devices(ofType("a", "gone-a"), ofType("b", "gone-b"), ofType("c", "known")))
				all := results(t, run)
				w.requireWorking(t, all[2:])
				for _, r := range all[:2] {
					assert.Equal(t, provision.Unknown, r.Verdict, r.Name)
					assert.NotContains(t, r.Message, "gone-", "%s has a text that may be the other's", r.Name)
				}
			})
		})
	}
}
