package tasktest_test

import (
	"bytes"
	"slices"
	"time"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
)

// brokenLines lose sight of a line that failed on its way, or of what it left behind.
var brokenLines = []breakage{
	{"lines/untouched", "an empty ERRORS report", reporting(func(kind task.ReportType, page *task.ReportPage) {
		if kind == task.ErrorsReport {
			page.Links = nil
		}
	})},
	{"lines/untouched", "blames the line behind it", rewriting(`"lineNumber":2`, `"lineNumber":3`)},
	{"lines/untouched", "reads back a thing that is not there", breakReader(func(*task.Device, error) (*task.Device, error) {
		return &task.Device{}, nil
	})},
	{"lines/certificate-made", "lists only certificates that things have", func(b task.Backend) task.Backend {
		return &lister{hooks: hooks{Backend: b}, list: func(all []*task.Certificate, t time.Time) []*task.Certificate {
			attached := map[string]bool{}
			for d := range b.(*fakebackend.Backend).Things() {
				for _, c := range d.Certificates {
					attached[c.ID] = true
				}
			}
			return slices.DeleteFunc(since(all, t), func(c *task.Certificate) bool { return !attached[c.ID] })
		}, read: func(c *task.Certificate, err error) (*task.Certificate, error) { return c, err }}
	}},
	{"lines/certificate-made", "shows the certificate of a good line twice", func(b task.Backend) task.Backend {
		return &lister{hooks: hooks{Backend: b}, list: func(all []*task.Certificate, t time.Time) []*task.Certificate {
			return append(all[:1:1], since(all, t)...)
		}, read: func(c *task.Certificate, err error) (*task.Certificate, error) { return c, err }}
	}},
	{"lines/thing-made", "does not read back a thing without a certificate", breakReader(func(d *task.Device, err error) (*task.Device, error) {
		if err == nil && len(d.Certificates) == 0 {
			return nil, &task.Error{Op: "DescribeThing", Code: "ResourceNotFoundException", Status: 404, Kind: task.ErrNotFound}
		}
		return d, err
	})},
	{"lines/policies-attached", "does not show the policies of a certificate that no thing has", func(b task.Backend) task.Backend {
		return &lister{hooks: hooks{Backend: b}, list: since, read: func(c *task.Certificate, err error) (*task.Certificate, error) {
			if err == nil && c.Status != "ACTIVE" {
				c.Policies = nil
			}
			return c, err
		}}
	}},
	{"lines/policies-attached", "works on refused lines again", uploading(func(_ string, data []byte) []byte {
		return append(data, bytes.SplitAfter(data, []byte("\n"))[1]...)
	})},
	{"lines/certificate-attached", "reads back another certificate", breakRead(func(d *task.Device) {
		for i := range d.Certificates {
			d.Certificates[i].PEM = otherCertificate()
		}
	})},
	{"lines/certificate-attached", "reads back active certificates only", breakRead(func(d *task.Device) {
		d.Certificates = slices.DeleteFunc(d.Certificates, func(c task.Certificate) bool { return c.Status != "ACTIVE" })
	})},
	{"lines/all-made", "counts the line as registered", func(b task.Backend) task.Backend {
		return described(b, func(d *task.Description) { d.Succeeded, d.Failed = d.Succeeded+d.Failed, 0 })
	}},
	{"lines/all-made", "starts a second task for the rest", another(func(err error) bool { return err == nil })},
}
