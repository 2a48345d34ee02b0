package provision_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
)

// damaging changes one byte in the extensions of the first certificate of a report, far behind its key.
type damaging struct {
	task.Backend
	t *testing.T
}

func (b damaging) Unwrap() task.Backend { return b.Backend }

func (b damaging) Open(ctx context.Context, link task.Link, offset int64) (io.ReadCloser, error) {
	body, err := b.Backend.Open(ctx, link, offset)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	report, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	const begin, end = "-----BEGIN CERTIFICATE-----", `-----END CERTIFICATE-----\n`
	before, text, found := strings.Cut(string(report), begin)
	text, after, cut := strings.Cut(text, end)
	if !found || !cut {
		b.t.Errorf("no certificate in %s", report)
	}
	block, _ := pem.Decode([]byte(strings.ReplaceAll(begin+text+end, `\n`, "\n")))
	extension := bytes.Index(block.Bytes, []byte("\x06\x03\x55\x1d"))
	block.Bytes[extension+1] = 0x7f
	damaged := strings.ReplaceAll(string(pem.EncodeToMemory(block)), "\n", `\n`)
	return io.NopCloser(strings.NewReader(before + damaged + after)), nil
}

func TestACertificateThatIsDamagedInAReportIsReadBackFromTheAccount(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Backend = damaging{w.fake, t}
	w.requireWorking(t, results(t, w.complete(t, rows(1))))
}

func TestACertificateThatNobodyCanReadIsNotHandedOver(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Backend = blind{damaging{w.fake, t}}
	run := w.incomplete(t, rows(1))
	r := results(t, run)[0]
	assert.Equal(t, provision.Unknown, r.Verdict, "it is registered, perhaps, and can't be read back")
	assert.Contains(t, r.Message, "not the one that its id names")
	assert.Empty(t, w.handedOver(t, r.Name))
}
