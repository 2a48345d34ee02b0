package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/csr"
	"github.com/seed1ff6f450/iotfleet/task"
)

// lineNumbers is what the numbers in the reports show of the line from which the service counts.
type lineNumbers struct {
	results map[int64]bool // by how much the numbers of matched results are ahead of ours
	errors  []int64        // the numbers of the error lines
	free    map[int64]bool // our lines that an error can be of: they have no result, or had an error in an earlier reading
	left    int            // how many of them must have an error, if the reports are whole
	whole   bool           // no line of the reports is missing or damaged
}

// base returns by how much the numbers of the error lines are ahead of ours: 0 if the service counts from 1, -1 if from
// 0. It is proved only if every error then is of a free line. If the results have no numbers of their own, the errors
// must also be of exactly the lines that are left over.
func (n lineNumbers) base() (base int64, ok bool) {
	if len(n.results) > 1 || len(n.errors) == 0 {
		return 0, false
	}
	distinct := map[int64]bool{}
	for _, e := range n.errors {
		distinct[e] = true
	}
	exact := n.whole && len(distinct) == len(n.errors) && len(distinct) == n.left
	for _, base := range []int64{0, -1} {
		if len(n.results) == 1 && !n.results[base] {
			continue
		}
		proved := len(n.results) == 1 || exact
		for e := range distinct {
			proved = proved && n.free[e-base]
		}
		if proved {
			return base, true
		}
	}
	return 0, false
}

// resultState is what is known of a device when a result for it is read.
type resultState struct {
	waits       bool   // it has no verdict yet
	spoilt      bool   // it failed because a result before this one held a wrong certificate
	certificate string // the id of the certificate it has
	issued      bool   // the service issues its certificate
}

// resultAnswer is what the result holds.
type resultAnswer struct {
	problem     bool // it can't be this device's, although it is tied to it
	doubtful    bool // it is this device's, and something in it is wrong
	thing       bool // it names the thing
	certificate string
	pem         bool
}

// resultVerdict is what a result makes of its device.
type resultVerdict string

const (
	resultChanges    resultVerdict = "" // nothing
	resultFails      resultVerdict = "fails"
	resultProvisions resultVerdict = "provisions"
	resultUnreadable resultVerdict = "unreadable" // it lacks what a device needs
	resultDoubtful   resultVerdict = "doubtful"   // registered, and what came back for it is wrong: it is read back
)

// resultAction is what to do about a result.
type resultAction struct {
	orphan  bool // its certificate is not the device's, and never will be; one that is doubtful may be anybody's
	verdict resultVerdict
}

// decideResult decides what a result means for its device.
func decideResult(s resultState, a resultAnswer) resultAction {
	switch {
	case a.problem && s.waits:
		return resultAction{orphan: s.issued && a.certificate != "" && !a.doubtful, verdict: resultFails}
	case a.problem:
		return resultAction{orphan: s.issued && a.certificate != "" && !a.doubtful}
	case !s.waits && !s.spoilt:
		second := a.certificate != "" && s.certificate != "" && a.certificate != s.certificate
		return resultAction{orphan: s.issued && second && !a.doubtful}
	case !a.thing || a.pem && a.certificate == "":
		return resultAction{verdict: resultUnreadable}
	case a.doubtful:
		return resultAction{verdict: resultDoubtful}
	}
	return resultAction{verdict: resultProvisions} // a right result mends what a wrong one before it had spoilt
}

// find returns the device that a result is of, and what is wrong with the result if it can't be that device's. exact is
// its certificate if that is the one that its id names.
func (c *collector) find(res *task.Result, exact string) (*DeviceRecord, error) {
	thing, id := task.ResourceName(res.ARNs.Thing()), task.ResourceName(res.ARNs.Certificate())
	named := c.byName[thing]
	if res.CertificatePEM != "" {
		digest, err := resultKey(res.CertificatePEM, exact)
		if err == nil {
			key := MatchKey(digest)
			if named != nil && named.Match == key {
				return named, nil
			}
			if d := c.byMatch[key]; d != nil {
				return d, attached(d, thing, "the certificate for its key")
			}
		}
		if named != nil && named.Match.isKey() {
			if err != nil {
				return named, nil // what came back for it is wrong, and it is read back
			}
			return named, errors.New("the certificate that came back for it carries another public key")
		}
	}
	given := MatchCertificate(id)
	if named != nil && named.Match == given { // several devices may have been given one certificate
		return named, nil
	}
	if d := c.byMatch[given]; d != nil {
		return d, attached(d, thing, "its certificate")
	}
	if d := c.byMatch[MatchThing(thing)]; d != nil {
		return d, nil
	}
	if named != nil {
		return named, errors.New("its result holds no certificate")
	}
	return nil, nil
}

// attached returns what is wrong with a result whose certificate is the device's, and whose thing is not the one in the
// part that has this name. A thing of another name than the device's is nothing that a result can prove: the ARN is found
// to be wrong, and the device is read back.
func attached(d *DeviceRecord, thing, what string) error {
	switch {
	case thing == d.Name && thing != "":
		return errors.New("another line of the data file has the same thing name")
	case d.Name != "" || thing == "":
		return nil
	}
	return fmt.Errorf("%s is attached to the thing %q", what, thing)
}

// resultKey returns the digest of the key of a result's certificate. One that is not the certificate that its id names is
// only read as far as it must be to tell whose it is.
func resultKey(text, exact string) ([32]byte, error) {
	if exact != "" {
		return csr.CertificateKeySHA256([]byte(exact))
	}
	return certificateKey(text, "")
}

// certificateKey returns the digest of a certificate's key. AWS's id of a certificate is the digest of all of it. If
// the two agree, it is what AWS issued; if not, it must at least be readable.
func certificateKey(text, id string) ([32]byte, error) {
	if block, _ := pem.Decode([]byte(text)); block != nil {
		if digest := sha256.Sum256(block.Bytes); hex.EncodeToString(digest[:]) != id {
			if _, err := csr.ParseCertificates(block.Bytes); err != nil {
				return [32]byte{}, err
			}
		}
	}
	return csr.CertificateKeySHA256([]byte(text))
}
