package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// MayReport is what the devices may do once they are registered: the answers to [Options.May].
type MayReport struct {
	// Questions are those that were asked, with how many devices have which answer.
	Questions []MayCount
	// Devices are the first three devices, and the first 100 others that have another answer than Allowed.
	Devices []MayDevice
}

// MayCount is a question, and how many devices have which answer to it.
type MayCount struct {
	Question                    string
	Allowed, Refused, Undecided int64
}

// counts writes the answers there are: "2 allowed, 1 refused".
func (c *MayCount) counts() string {
	var parts []string
	for _, one := range []struct {
		n        int64
		decision template.Decision
	}{{c.Allowed, template.Allowed}, {c.Refused, template.Refused}, {c.Undecided, template.Undecided}} {
		if one.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", one.n, one.decision))
		}
	}
	return strings.Join(parts, ", ")
}

// MayDevice is a device with its answers, in the order of the questions.
type MayDevice struct {
	Seq     int64 // number of the record
	Name    string
	Answers []template.Answer
}

// OK reports whether no device would be refused what was asked. A nil report asked nothing.
func (r *MayReport) OK() bool {
	return r == nil || !slices.ContainsFunc(r.Questions, func(c MayCount) bool { return c.Refused > 0 })
}

// How much of a report is written for people.
const (
	mayRows    = 20 // devices
	mayReasons = 3  // for each question
)

// String writes the report as a table for people: a line for each of the first 20 devices and a column for each question,
// how many devices have which answer, and the first reasons.
func (r *MayReport) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(first string, cell func(i int) string) {
		cells := []string{finding.Visible(first)}
		for i := range r.Questions {
			cells = append(cells, finding.Visible(cell(i)))
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) // a strings.Builder takes everything
	}
	row("may", func(i int) string { return r.Questions[i].Question })
	for _, d := range r.Devices[:min(len(r.Devices), mayRows)] {
		row(d.Name, func(i int) string { return string(d.Answers[i].Decision) })
	}
	row("all devices", func(i int) string { return r.Questions[i].counts() })
	_ = w.Flush()
	for i, q := range r.Questions {
		var seen []string
		for _, d := range r.Devices {
			a := d.Answers[i]
			if text := string(a.Decision) + ": " + a.Why; len(seen) < mayReasons && !slices.Contains(seen, text) {
				seen = append(seen, text)
				fmt.Fprintf(&b, "%s: %s is %s\n", finding.Visible(q.Question), finding.Visible(d.Name), finding.Visible(text))
			}
		}
	}
	return b.String()
}

// questionsOf reads Options.May.
func questionsOf(texts []string) ([]template.Question, error) {
	var out []template.Question
	connects := false
	for _, text := range texts {
		q, err := template.ParseQuestion(text)
		if err != nil {
			return nil, err
		}
		connects = connects || q.Action == "iot:Connect"
		out = append(out, q)
	}
	if len(out) > 0 && !connects {
		q, err := template.ParseQuestion("connect")
		return slices.Insert(out, 0, q), err
	}
	return out, nil
}

// may answers the questions of Options.May in a dry run.
type may struct {
	permissions template.Permissions
	questions   []template.Question
	where       error // why it is not known where the devices will be; nil if it is
	report      MayReport
}

// mayReads is how many policies and groups of the account are read. Few templates name more.
const mayReads = 50

func newMay(ctx context.Context, backend task.Backend, questions []template.Question) *may {
	m := &may{questions: questions}
	for _, q := range questions {
		m.report.Questions = append(m.report.Questions, MayCount{Question: q.String()})
	}
	who, ok := task.As[task.Identifier](backend)
	if !ok {
		m.where = errors.New("the backend can't tell them (task.Identifier)")
		return m
	}
	id, err := who.Identity(ctx)
	if err != nil {
		m.where = err
		return m
	}
	m.permissions.Partition, m.permissions.Region, m.permissions.Account = id.Partition, id.Region, id.Account
	reader, ok := task.As[task.PolicyReader](backend)
	if !ok {
		return m
	}
	left := mayReads
	more := func() error {
		if left--; left < 0 {
			return fmt.Errorf("only %d policies and groups are read", mayReads)
		}
		return nil
	}
	m.permissions.ReadPolicy = func(name string) (string, error) {
		if err := more(); err != nil {
			return "", err
		}
		return reader.ReadPolicy(ctx, name)
	}
	m.permissions.GroupPolicies = func(name string) ([]string, error) {
		if err := more(); err != nil {
			return nil, err
		}
		return reader.GroupPolicies(ctx, name)
	}
	return m
}

// add answers the questions about a device.
func (m *may) add(rec *DeviceRecord, d Device, want *wanted) {
	answers := m.permissions.May(want.Resolution, func(field string) (string, bool) {
		if v, ok := d.Row[field]; ok {
			return v, true
		}
		v, ok := d.Meta[field]
		return v, ok
	}, m.questions...)
	all := true
	for i := range answers {
		a := &answers[i]
		if m.where != nil {
			a.Decision, a.Why = template.Undecided, fmt.Sprintf("depends on the account and region, which are not known: %v", m.where)
		}
		count := &m.report.Questions[i]
		switch a.Decision {
		case template.Allowed:
			count.Allowed++
		case template.Refused:
			count.Refused++
		default:
			count.Undecided++
		}
		all = all && a.Decision == template.Allowed
	}
	if n := len(m.report.Devices); n < checkSamples || !all && n < checkSamples+checkRefusals {
		m.report.Devices = append(m.report.Devices, MayDevice{Seq: rec.Seq, Name: rec.Name, Answers: answers})
	}
}
