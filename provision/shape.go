package provision

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
	"github.com/seed1ff6f450/iotfleet/internal/spelling"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// shape is what the template and the credential step ask of a row, and what they make of it. It does not change.
type shape struct {
	program *template.Program
	known   map[string]bool   // its parameters
	body    string            // the template as AWS takes it
	digest  string            // hex SHA-256 of body
	fills   map[string]string // a placeholder for each parameter that the credential step fills
	rows    RowChecker        // the credential step's own check of a row; nil if it has none
	noter   RowNoter          // tells what is odd about a row that is sent; nil if the step can't
	takes   []string          // of fills, those for which that check decides about a value of the row's own
	given   []string          // of takes, those whose value comes from the row
	keep    *Meta             // what the run keeps beside a device
	unique  []string          // what must differ between devices
	issuer  string            // the CA that all certificates are of, in PEM; empty if that is not known
	first   bool              // Options.FirstConnection: of what a row makes, only the name and the certificate are the run's
}

// filledIn stands in place of what the credential step fills, where a row is looked at before it has.
const filledIn = "(filled in by the run)"

func newShape(t *template.Template, step Credential) (*shape, error) {
	body, err := t.Body()
	if err != nil {
		return nil, err
	}
	program, err := t.Compile(template.CompileOptions{Kind: template.Bulk})
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256([]byte(body))
	s := &shape{program: program, known: map[string]bool{}, body: body, digest: hex.EncodeToString(digest[:]), fills: map[string]string{}}
	for _, name := range program.Parameters() {
		s.known[name] = true
	}
	for _, name := range step.Fills() {
		s.fills[name] = filledIn
	}
	s.noter, _ = As[RowNoter](step)
	if issuer, ok := As[Issuer](step); ok {
		s.issuer = issuer.IssuerPEM()
	}
	if s.rows, _ = As[RowChecker](step); s.rows != nil {
		s.takes = step.Fills()
		if inner, ok := s.rows.(Credential); ok { // a step inside, which knows its own parameters only
			s.takes = inner.Fills()
		}
		switch s.rows.(type) {
		case *GivenCSR, *GivenCertificate:
			s.given = s.takes
		}
	}
	return s, nil
}

// wanted is what a device's line makes in the account. A stage resolves it once for each device.
type wanted struct {
	*template.Resolution
	thing  *template.ThingSpec // nil if the row makes none, or can't be resolved
	status string              // of the certificate
	issued bool                // the service issues the certificate
	made   bool                // it does, or the run has its own CA issue it; one that was given is not the run's to remove
}

// want resolves a row. Of a row that can't be resolved, which only an adopted task may have, nothing is wanted.
func (s *shape) want(row map[string]string) *wanted {
	w, err := s.resolve(s.filled(row))
	if err != nil {
		return &wanted{Resolution: &template.Resolution{}, status: statusActive}
	}
	return w
}

const statusActive = "ACTIVE"

// resolve resolves a row whose every parameter has a value.
func (s *shape) resolve(row map[string]string) (*wanted, error) {
	res, err := s.program.Resolve(row)
	if err != nil {
		return nil, err
	}
	if s.first && len(res.Things) == 1 {
		res = &template.Resolution{Things: []template.ThingSpec{{ThingName: res.Things[0].ThingName}}, Certificate: res.Certificate}
	}
	w := &wanted{Resolution: res, status: statusActive}
	if len(res.Things) == 1 {
		w.thing = &res.Things[0]
	}
	if c := res.Certificate; c != nil {
		w.issued = c.CertificateSigningRequest != ""
		w.made = w.issued || s.issuer != ""
		if c.Status != "" && !s.first {
			w.status = c.Status
		}
	}
	return w, nil
}

// policyNames are the names of a device's policies: those the template names, and those AWS named for it.
func (w *wanted) policyNames(arns task.ARNs) []string {
	var names []string
	for _, p := range w.Policies {
		if p.PolicyName != "" {
			names = append(names, p.PolicyName)
		}
	}
	for _, arn := range arns.Policies() {
		names = append(names, task.ResourceName(arn))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// check checks a device against the template, the credential step and AWS's rules. It returns the name of its thing as
// soon as that is known, also with an error, and with no error what its line makes.
func (s *shape) check(d Device) (name string, w *wanted, err error) {
	if d.Err != nil {
		return "", nil, d.Err
	}
	row := s.filled(d.Row)
	w, err = s.resolve(row)
	if err != nil {
		return "", nil, err
	}
	if w.thing == nil {
		return "", nil, fmt.Errorf("the template makes %d things of one record; a run needs exactly one to know the device by", len(w.Things))
	}
	name = w.thing.ThingName
	if d.Name != "" && d.Name != name {
		return name, nil, fmt.Errorf("the device is called %q, the template makes the thing %q of it", d.Name, name)
	}
	if s.rows != nil {
		if err := s.rows.CheckRow(name, together(d.Row, d.Meta)); err != nil {
			return name, nil, err
		}
	}
	if err := s.unused(d.Row); err != nil {
		return name, nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(d.Meta)) {
		if s.known[k] {
			return name, nil, fmt.Errorf("%s is both a parameter of the template and what is kept beside the device; give it once", rule.Quote(k))
		}
	}
	if _, bad := inUTF8(together(d.Row, d.Meta)); bad != nil {
		return name, nil, fmt.Errorf("device %s: column %s is not UTF-8; convert the input to UTF-8", rule.Quote(name), rule.Quote(bad[0]))
	}
	if err := s.checkValues(row); err != nil {
		return name, nil, err
	}
	for _, k := range slices.Sorted(maps.Keys(d.Row)) {
		if !s.known[k] {
			known := s.columns()
			return name, nil, fmt.Errorf("the template has no parameter %s, only %s%s: rename it, leave it out, or have it kept beside the device",
				rule.Quote(k), strings.Join(known, ", "), spelling.DidYouMean(k, known))
		}
	}
	return name, w, nil
}

// unused refuses a row with a value that the credential step would replace with one of its own.
func (s *shape) unused(row map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(s.fills)) {
		if strings.TrimSpace(row[name]) != "" && !slices.Contains(s.takes, name) {
			return fmt.Errorf("%s: the record has a value of its own, which the credential step would replace with another; "+
				"leave the column out, or take a step that uses it: GivenCSR sends requests that were made elsewhere", rule.Quote(name))
		}
	}
	return nil
}

// inUTF8 returns a row with U+FFFD in place of what is not UTF-8, which neither a ledger nor a data file can hold, and
// the columns that had it.
func inUTF8(row map[string]string) (clean map[string]string, bad []string) {
	for k, v := range row {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			bad = append(bad, k)
		}
	}
	if bad == nil {
		return row, nil
	}
	clean = make(map[string]string, len(row))
	for _, k := range slices.Sorted(maps.Keys(row)) { // two names can become one: then always of the same value
		clean[strings.ToValidUTF8(k, "\ufffd")] = strings.ToValidUTF8(row[k], "\ufffd")
	}
	slices.Sort(bad)
	return clean, bad
}

// filled returns a row with something in place of what the credential step will fill.
func (s *shape) filled(row map[string]string) map[string]string {
	full := make(map[string]string, len(row)+len(s.fills))
	maps.Copy(full, row)
	maps.Copy(full, s.fills)
	return full
}

// checkValues checks the values of a row against AWS's rules. What the credential step will fill is not looked at.
func (s *shape) checkValues(row map[string]string) error {
	var texts []string
	for _, is := range s.program.CheckRow(row) {
		if _, fills := s.fills[is.Parameter]; fills || !is.Severity.AtLeast(finding.Error) {
			continue
		}
		text := is.Error()
		if v, given := row[is.Parameter]; given && v == "" && is.Parameter != "" {
			if text += "; it is empty"; !slices.Contains(s.program.Required(), is.Parameter) {
				text += ": leave it out to have the template's Default"
			}
		}
		texts = append(texts, text)
	}
	if texts == nil {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}

// columns names the parameters that are in a record: those that the credential step does not fill, or fills from there.
func (s *shape) columns() []string { return s.ofRecord(s.program.Parameters()) }

// makes reports whether the credential step makes the value of a parameter, and refuses one that a record has.
func (s *shape) makes(name string) bool {
	_, fills := s.fills[name]
	makesAll := false
	switch s.rows.(type) {
	case *MakeCSR, *IssueCertificate:
		makesAll = true
	}
	return fills && (makesAll || !slices.Contains(s.takes, name))
}

func (s *shape) ofRecord(parameters []string) []string {
	return slices.DeleteFunc(parameters, func(name string) bool {
		_, filled := s.fills[name]
		return filled && !slices.Contains(s.given, name)
	})
}

// optional names the parameters that have a default: a row without them leaves them to the service.
func (s *shape) optional() []string {
	required := s.program.Required()
	return slices.DeleteFunc(s.program.Parameters(), func(name string) bool { return slices.Contains(required, name) })
}
