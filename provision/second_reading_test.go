package provision_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// A process that dies while it reads the reports leaves some devices with a verdict. The next one reads them again, and
// needs the errors of those devices to tell how the service counts: the results here have no numbers.
func TestReportsThatAreReadASecondTimeTieTheSameTextsToDevices(t *testing.T) {
	for name, c := range map[string]struct {
		first  string // the type of the first device
		before func(*provision.DeviceRecord)
	}{
		"one was tied to its error before": {"gone-a", func(*provision.DeviceRecord) {}},
		"one has no error line, because its result held another key": {"known", func(d *provision.DeviceRecord) {
			d.Verdict, d.Cause, d.Message = provision.Failed, provision.CauseCertificate, "the certificate is not for this device's key"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := typedWorld(t, fakebackend.Options{})
				w.durable(t)
				w.opts.Backend = blind{shuffled{w.fake, func(lines []string) []string {
					var out []string
					for _, line := range lines {
						var m map[string]any
						if json.Unmarshal([]byte(line), &m) != nil {
							continue
						}
						if _, isResult := m["response"]; isResult {
							delete(m, "lineNumber")
						}
						text, err := json.Marshal(m)
						if err != nil {
							panic(err)
						}
						out = append(out, string(text)+"\n")
					}
					return out
				}}}
				list := provision.Devices(ofType("a", c.first), ofType("b", "gone-b"), ofType("c", "known"), ofType("d", "gone-d"))
				w.incomplete(t, list)
				w.opts.Ledger = edited(t, w, func(r *provision.RunRecord) { r.Finished = time.Time{} }, func(p *provision.PartRecord) {
					p.State = provision.PartEnded
				}, func(d *provision.DeviceRecord) {
					switch d.Name {
					case "a":
						c.before(d)
					case "b", "d":
						d.Verdict, d.Cause, d.Message = provision.Submitted, provision.CauseNone, ""
					}
				})
				run := w.incomplete(t, list)
				for _, r := range results(t, run) {
					if r.Name == "b" || r.Name == "d" {
						assert.Equal(t, provision.Failed, r.Verdict, "%s: %s", r.Name, r.Message)
						assert.Contains(t, r.Message, "gone-"+r.Name)
					}
				}
			})
		})
	}
}
