package provision

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestErrorLinesAreTiedToDevicesOnlyByProvedNumbers(t *testing.T) {
	bases := func(n ...int64) map[int64]bool { return set(n...) }
	for _, row := range []struct {
		name    string
		numbers lineNumbers
		base    int64
		proved  bool
	}{
		{"no errors", lineNumbers{results: bases(0), free: set(1), left: 1, whole: true}, 0, false},
		{"results count from 1", lineNumbers{results: bases(0), errors: []int64{2, 4}, free: set(2, 4), left: 2, whole: true}, 0, true},
		{"results count from 0", lineNumbers{results: bases(-1), errors: []int64{1, 3}, free: set(2, 4), left: 2, whole: true}, -1, true},
		{"results contradict each other", lineNumbers{results: bases(0, -1), errors: []int64{2}, free: set(2), left: 1, whole: true}, 0, false},
		{"results count in an unknown way", lineNumbers{results: bases(7), errors: []int64{9}, free: set(2), left: 1, whole: true}, 0, false},
		{"an error names a line with a result", lineNumbers{results: bases(0), errors: []int64{2, 3}, free: set(2, 4), left: 2, whole: true}, 0, false},
		{"results have numbers and an error is missing", lineNumbers{results: bases(0), errors: []int64{2}, free: set(2, 4), left: 2}, 0, true},

		{"no numbers: errors from 1", lineNumbers{errors: []int64{1, 3}, free: set(1, 3), left: 2, whole: true}, 0, true},
		{"no numbers: errors from 0", lineNumbers{errors: []int64{0, 2}, free: set(1, 3), left: 2, whole: true}, -1, true},
		{"no numbers, and an error is missing", lineNumbers{errors: []int64{1}, free: set(1, 2), left: 2, whole: true}, 0, false},
		{"no numbers, and a line is damaged", lineNumbers{errors: []int64{1, 3}, free: set(1, 3), left: 2}, 0, false},
		{"no numbers, and two errors of one line", lineNumbers{errors: []int64{1, 1}, free: set(1, 2), left: 2, whole: true}, 0, false},
		{"no numbers, and a number of nobody's", lineNumbers{errors: []int64{1, 9}, free: set(1, 3), left: 2, whole: true}, 0, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			base, proved := row.numbers.base()
			assert.Equal(t, row.proved, proved)
			assert.Equal(t, row.base, base)
		})
	}
}

func set(numbers ...int64) map[int64]bool {
	m := map[int64]bool{}
	for _, n := range numbers {
		m[n] = true
	}
	return m
}

func TestAResultDecidesADevicesVerdictOnce(t *testing.T) {
	good := resultAnswer{thing: true, certificate: "new", pem: true}
	wrong := good
	wrong.problem = true
	for _, row := range []struct {
		name   string
		state  resultState
		answer resultAnswer
		action resultAction
	}{
		{"a right one", resultState{waits: true, issued: true}, good, resultAction{verdict: resultProvisions}},
		{"a right one without a certificate", resultState{waits: true}, resultAnswer{thing: true}, resultAction{verdict: resultProvisions}},
		{"it names no thing", resultState{waits: true, issued: true}, resultAnswer{certificate: "new", pem: true}, resultAction{verdict: resultUnreadable}},
		{"it names no certificate", resultState{waits: true, issued: true}, resultAnswer{thing: true, pem: true}, resultAction{verdict: resultUnreadable}},
		{"a wrong one", resultState{waits: true, issued: true}, wrong, resultAction{orphan: true, verdict: resultFails}},
		{"a wrong one, of a certificate that was given", resultState{waits: true}, wrong, resultAction{verdict: resultFails}},
		{"a wrong one that names no certificate", resultState{waits: true, issued: true}, resultAnswer{problem: true, thing: true},
			resultAction{verdict: resultFails}},
		{"a wrong one after the verdict", resultState{issued: true, certificate: "old"}, wrong, resultAction{orphan: true}},
		{"a wrong one after the verdict, of a certificate that was given", resultState{certificate: "old"}, wrong, resultAction{}},
		{"a wrong one after the verdict that names no certificate", resultState{issued: true, certificate: "old"},
			resultAnswer{problem: true, thing: true}, resultAction{}},
		{"a right one after a wrong one", resultState{issued: true, spoilt: true}, good, resultAction{verdict: resultProvisions}},
		{"the same one again", resultState{issued: true, certificate: "new"}, good, resultAction{}},
		{"a second certificate", resultState{issued: true, certificate: "old"}, good, resultAction{orphan: true}},
		{"a second certificate that was given", resultState{certificate: "old"}, good, resultAction{}},
		{"one for a device that failed before", resultState{issued: true}, good, resultAction{}},
	} {
		t.Run(row.name, func(t *testing.T) { assert.Equal(t, row.action, decideResult(row.state, row.answer)) })
	}
}
