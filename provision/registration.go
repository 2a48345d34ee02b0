package provision

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/task"
)

// registration is what somebody holds of a registered device: a report, the answer to RegisterThing, the account, or the
// ledger. None of them is believed unseen, because what is wrong in it would be written beside the device's key.
type registration struct {
	thing          string // the thing's name
	thingARN       string
	certificateARN string
	certificateID  string    // empty: the one in its ARN
	pem            string    // empty: no certificate came with it
	others         task.ARNs // further ARNs that came with it
}

// check returns the certificate, exactly: one PEM block, without what stood around it. The error is what is wrong, in
// words that a person can act on: the certificate is not the one that its id names, or an ARN is of another account,
// region or partition than the run, or of another thing. Where the run is may be unknown; then ARNs are only read.
func (r registration) check(where task.Identity) (exact string, err error) {
	if err := r.checkARNs(where); err != nil || r.pem == "" {
		return "", err
	}
	return exactCertificate(r.pem, r.id())
}

func (r registration) id() string {
	return cmp.Or(r.certificateID, task.ResourceName(r.certificateARN))
}

func (r registration) checkARNs(where task.Identity) error {
	if err := checkARN(r.thingARN, where, "thing", r.thing); err != nil {
		return err
	}
	id := r.id()
	if r.certificateARN != "" || id != "" && where != (task.Identity{}) {
		if err := checkARN(r.certificateARN, where, "cert", id); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.others)) {
		if err := checkARN(r.others[name], where, "", ""); err != nil {
			return err
		}
	}
	return nil
}

// exactCertificate returns the certificate of a PEM text whose id is the digest of its DER, as AWS's ids are. What
// stands before and after it, other certificates among that, is left out.
func exactCertificate(text, id string) (string, error) {
	const begin = "-----BEGIN CERTIFICATE-----"
	blocks := 0
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		blocks++
		if digest := sha256.Sum256(block.Bytes); hex.EncodeToString(digest[:]) != id {
			continue
		}
		if len(block.Headers) == 0 && strings.HasPrefix(text, begin) && strings.Count(text, "-----BEGIN ") == 1 && len(bytes.TrimSpace(rest)) == 0 {
			return text, nil // as AWS wrote it
		}
		block.Headers = nil
		return string(pem.EncodeToMemory(block)), nil
	}
	if blocks == 0 {
		return "", errors.New("its certificate is no PEM that can be read")
	}
	return "", fmt.Errorf("its certificate is not the one that its id names: the SHA-256 of the certificate is not %s", rule.Quote(id))
}

// checkARN checks the ARN of an AWS IoT resource of the run's account. An empty kind takes any, and an empty name.
func checkARN(arn string, where task.Identity, kind, name string) error {
	a, ok := partition.ParseARN(arn)
	if !ok || a.Service != "iot" {
		return fmt.Errorf("%s is not an ARN of AWS IoT", rule.Quote(arn))
	}
	gotKind, gotName, _ := strings.Cut(a.Resource, "/")
	switch {
	case kind != "" && gotKind != kind:
		return fmt.Errorf("%s is not the ARN of a %s", rule.Quote(arn), kind)
	case name != "" && gotName != name:
		return fmt.Errorf("%s is the ARN of another %s than %s", rule.Quote(arn), kind, rule.Quote(name))
	case gotName == "":
		return fmt.Errorf("%s names nothing", rule.Quote(arn))
	case where == task.Identity{}:
		return nil
	}
	for _, f := range []struct{ what, got, want string }{
		{"partition", a.Partition, where.Partition}, {"region", a.Region, where.Region}, {"account", a.Account, where.Account},
	} {
		if f.got != f.want {
			return fmt.Errorf("%s is of %s %s, and the run is in %s", rule.Quote(arn), f.what, rule.Quote(f.got), rule.Quote(f.want))
		}
	}
	return nil
}

// registration is what the ledger has of a registered device.
func (d *DeviceRecord) registration() registration {
	return registration{
		thing: d.Name, thingARN: d.ThingARN, certificateARN: d.CertificateARN, certificateID: d.CertificateID, pem: d.CertificatePEM,
	}
}

// verify checks the ledger's own copy of what a registered device has, before it goes out again, and cuts what stands
// around the certificate off. Of a damaged copy it returns what is wrong.
func (d *DeviceRecord) verify(where task.Identity) error {
	exact, err := d.registration().check(where)
	if err == nil && exact == "" && d.Match.isKey() {
		err = errors.New("its certificate is missing")
	}
	if err != nil {
		return err
	}
	d.CertificatePEM = exact
	return nil
}

// damagedCopy is the holder of a certificate whose copy in the ledger is damaged.
const damagedCopy = "the ledger's copy"

// doubt makes a device Unknown that is registered, and of which something wrong is held. It is read back from the
// account then.
func (d *DeviceRecord) doubt(holder string, err error) {
	d.Verdict, d.Cause = Unknown, CauseNone
	d.Message = fmt.Sprintf("%s for device %s is wrong: %v", holder, rule.Quote(d.Name), err)
}

// checkHost refuses what is no host name. It is written to files beside keys, and devices connect to it.
func checkHost(host string) error {
	const longest, longestLabel = 253, 63
	ok := host != "" && len(host) <= longest
	for label := range strings.SplitSeq(host, ".") {
		ok = ok && label != "" && len(label) <= longestLabel && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range []byte(label) {
			ok = ok && (c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z')
		}
	}
	if !ok {
		return fmt.Errorf("%s is no host name", rule.Quote(host))
	}
	return nil
}
