package task_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

// certificateText has the size and the line length of an AWS IoT device certificate for an EC key.
var certificateText = "-----BEGIN CERTIFICATE-----\n" +
	strings.Repeat(strings.Repeat("MIIC", 16)+"\n", 15) + "AAAA==\n-----END CERTIFICATE-----\n"

// resultsReport makes a report of n lines as AWS writes them.
func resultsReport(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		pem, _ := json.Marshal(certificateText)
		fmt.Fprintf(&b, `{"lineNumber": %d, "response": {"CertificatePem": %s, "ResourceArns": `+
			`{"thing": "arn:aws:iot:us-east-1:123456789012:thing/device-%d", `+
			`"certificate": "arn:aws:iot:us-east-1:123456789012:cert/%064d"}}}`+"\n", i+1, pem, i, i)
	}
	return b.Bytes()
}

// readPlain is what a program without this package would write: a scanner, encoding/json, maps.
func readPlain(report []byte) (lines int, err error) {
	scanner := bufio.NewScanner(bytes.NewReader(report))
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		var line map[string]any
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			return lines, err
		}
		response := line["response"].(map[string]any)
		if response["CertificatePem"].(string) != "" && response["ResourceArns"].(map[string]any)["thing"] != nil {
			lines++
		}
	}
	return lines, scanner.Err()
}

func readOurs(report []byte) (lines int, err error) {
	for r, err := range task.ReadResults(bytes.NewReader(report)) {
		if err != nil {
			return lines, err
		}
		if r.CertificatePEM != "" && r.ARNs.Thing() != "" {
			lines++
		}
	}
	return lines, nil
}

// BenchmarkResults reads a report with this package and with encoding/json into maps, turn by turn so that both meet
// the same machine, and each starts without the garbage of the other. x-plain is our time over the second's.
func BenchmarkResults(b *testing.B) {
	const lines = 500
	report := resultsReport(lines)
	b.SetBytes(int64(len(report)))
	b.ReportAllocs()
	var ours, plain time.Duration
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		b.StartTimer()
		start := time.Now()
		n, err := readOurs(report)
		ours += time.Since(start)
		require.NoError(b, err)
		require.Equal(b, lines, n)

		b.StopTimer()
		runtime.GC()
		start = time.Now()
		n, err = readPlain(report)
		plain += time.Since(start)
		require.NoError(b, err)
		require.Equal(b, lines, n)
		b.StartTimer()
	}
	b.ReportMetric(float64(ours)/float64(plain), "x-plain")
	b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N)/lines, "ns/line")
}
