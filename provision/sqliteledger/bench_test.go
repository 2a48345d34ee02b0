package sqliteledger

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
)

// waiting makes devices as they are spooled.
func waiting(from, n int64) []*provision.DeviceRecord {
	list := make([]*provision.DeviceRecord, n)
	for i := range list {
		d := new(provision.DeviceRecord)
		d.Seq, d.Verdict, d.Updated = from+int64(i), provision.Waiting, time.Unix(1, 5)
		d.Name = fmt.Sprintf("gateway-%08x", uint32(d.Seq)*2654435761) // in no order
		d.Row = map[string]string{"ThingName": d.Name, "SerialNumber": fmt.Sprintf("%010d", d.Seq), "Model": "GW-200", "Site": "Leipzig"}
		d.Source = fmt.Sprintf("devices.csv:%d", d.Seq+1)
		list[i] = d
	}
	return list
}

// provisioned are the same at the end.
func provisioned(from, n int64) []*provision.DeviceRecord {
	list := waiting(from, n)
	for _, d := range list {
		id := fmt.Sprintf("%064x", d.Seq*7919)
		d.Verdict, d.Attempts, d.Part, d.Line = provision.Provisioned, 1, int(d.Seq/1000)+1, d.Seq%1000+1
		d.Match, d.TaskID = provision.Match("key:"+id), "6fcbf9a1-4c2c-4a2e-a9e7-1f2f6f0f2b51"
		d.ThingARN = "arn:aws:iot:eu-central-1:123456789012:thing/" + d.Name
		d.CertificateID, d.CertificateARN = id, "arn:aws:iot:eu-central-1:123456789012:cert/"+id
		d.CertificatePEM = "-----BEGIN CERTIFICATE-----\n" + strings.Repeat(id+"\n", 15) + "-----END CERTIFICATE-----\n"
		d.Policies = []string{"gateway"}
	}
	return list
}

const batch = 1000

func BenchmarkSpoolingBatchesOf1000(b *testing.B) {
	l, err := Open(b.Context(), filepath.Join(b.TempDir(), "fleet.db"), nil)
	require.NoError(b, err)
	defer l.Close()
	next := int64(1)
	for b.Loop() {
		b.StopTimer()
		list := waiting(next, batch)
		b.StartTimer()
		require.NoError(b, l.Apply(b.Context(), provision.Change{Add: list}))
		next += batch
	}
	b.ReportMetric(float64(next-1)/b.Elapsed().Seconds(), "devices/s")
}

func BenchmarkSettlingBatchesOf1000(b *testing.B) {
	l := spooled(b, 50)
	n, at := int64(0), int64(1)
	for b.Loop() {
		b.StopTimer()
		list := provisioned(at, batch)
		b.StartTimer()
		require.NoError(b, l.Apply(b.Context(), provision.Change{Devices: list}))
		n, at = n+batch, (at+batch)%(50*batch)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "devices/s")
}

func BenchmarkReadingDevices(b *testing.B) {
	l := spooled(b, 20)
	n := 0
	for b.Loop() {
		for _, err := range l.Devices(b.Context(), provision.DeviceFilter{Verdicts: []provision.Verdict{provision.Waiting, provision.Failed}}) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "devices/s")
}

func BenchmarkFindingNamesIn1000s(b *testing.B) {
	l := spooled(b, 50)
	var names []string
	for _, d := range waiting(1, batch) {
		names = append(names, d.Name)
	}
	n := 0
	for b.Loop() {
		found, err := l.FindNames(b.Context(), names)
		if err != nil || len(found) != batch {
			b.Fatal(len(found), err)
		}
		n += batch
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "names/s")
}

func BenchmarkCheckingAtOpen(b *testing.B) {
	l := spooled(b, 50)
	require.NoError(b, l.Close())
	for b.Loop() {
		l, err := Open(b.Context(), l.Path(), nil)
		if err != nil {
			b.Fatal(err)
		}
		require.NoError(b, l.Close())
	}
}

// spooled makes a ledger with so many batches of devices.
func spooled(b *testing.B, batches int64) *Ledger {
	b.Helper()
	l, err := Open(b.Context(), filepath.Join(b.TempDir(), "fleet.db"), nil)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, l.Close()) })
	for i := range batches {
		require.NoError(b, l.Apply(b.Context(), provision.Change{Add: waiting(i*batch+1, batch)}))
	}
	return l
}
