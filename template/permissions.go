package template

import (
	"fmt"
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// Permissions answers what devices may do once they are registered, from the documents that the template has, and from
// the policies of the account that it names or that the thing groups carry. It keeps what it has read and is not safe
// for concurrent use.
type Permissions struct {
	// Partition, Region and Account are where the devices will be.
	Partition, Region, Account string
	// ReadPolicy returns the document of a policy of the account, and GroupPolicies the names of the policies that a thing
	// has from a thing group and the groups above it. Nil: an answer that depends on such a policy is Undecided.
	ReadPolicy    func(policyName string) (document string, err error)
	GroupPolicies func(groupName string) (policyNames []string, err error)

	documents map[string]*policy.Document
	read      map[string]found[string]
	groups    map[string]found[[]string]
}

// found is what a function of the caller's has returned.
type found[T any] struct {
	value T
	err   error
}

// Answer is the answer to one question about one device.
type Answer struct {
	Question Question // with its fields filled
	Decision Decision
	// Why names the statement that decided: "statement 2 of the template's resource policy denies it". Or it is "no statement
	// of the template's resource policy allows it", with the names of all policies, or what the answer depends on.
	Why string
}

// Decision is the answer to a question.
type Decision string

// The decisions.
const (
	Allowed   Decision = "allowed"
	Refused   Decision = "refused"
	Undecided Decision = "undecided" // it depends on what was not read or is not known yet
)

// May answers questions about the device that a row makes. Its certificate is attached to its thing then. What the thing
// has already in the account, such as groups and policies, is not looked at.
//
// The client id is the thing's name, or that of the question about iot:Connect that stands last before. As AWS documents
// it, variables of the thing have no value with another client id, and none in requests over HTTP.
func (p *Permissions) May(r *Resolution, value func(field string) (string, bool), questions ...Question) []Answer {
	answers := make([]Answer, len(questions))
	client := ""
	if len(r.Things) > 0 {
		client = r.Things[0].ThingName
	}
	for i, q := range questions {
		filled, err := q.Fill(func(field string) (string, bool) {
			if field == thingNameField && len(r.Things) > 0 {
				return r.Things[0].ThingName, true
			}
			return value(field)
		})
		if err != nil {
			answers[i] = Answer{q, Refused, strings.TrimPrefix(err.Error(), "template: ")}
			continue
		}
		if q.Action == policy.ActionConnect {
			client = filled.On
		}
		answers[i] = p.may(r, client, filled)
	}
	return answers
}

func (p *Permissions) may(r *Resolution, client string, q Question) Answer {
	if q.Action == "iot:RetainPublish" { // which is of use with iot:Publish only
		if a := p.may(r, client, Question{"iot:Publish", q.On}); a.Decision != Allowed {
			return Answer{q, a.Decision, "it takes iot:Publish, too: " + a.Why}
		}
	}
	switch {
	case r.Certificate == nil:
		return Answer{q, Refused, "the template has no certificate for the device"}
	case r.Certificate.Status == "INACTIVE":
		return Answer{q, Refused, "the certificate will be INACTIVE"}
	}
	device := policy.Device{Partition: p.Partition, Region: p.Region, Account: p.Account, OnlyThing: true}
	if policy.OverMQTT(q.Action) {
		device.ClientID = client
	}
	var groups []string
	if i := slices.IndexFunc(r.Things, func(t ThingSpec) bool { return t.ThingName == client }); i >= 0 {
		t := &r.Things[i]
		device.Thing = &policy.Thing{Name: t.ThingName, Type: t.ThingTypeName, Attributes: t.Attributes}
		groups = t.ThingGroups
	}
	names, documents, unread := p.policies(r, groups)
	d := policy.NewConnection(device).Decide(q.Action, q.On, documents...)
	switch {
	case d.Denied():
		return Answer{q, Refused, d.Why(names)}
	case len(unread) > 0:
		return Answer{q, Undecided, "depends on " + strings.Join(unread, " and on ")}
	case d.Undecided:
		return Answer{q, Undecided, d.Why(names) + ": that depends on the certificate, or on how the device connects"}
	case d.Allowed():
		return Answer{q, Allowed, d.Why(names)}
	}
	return Answer{q, Refused, d.Why(names)}
}

// policies returns the device's policies with their names, and what could not be read.
func (p *Permissions) policies(r *Resolution, groups []string) (names []string, documents []*policy.Document, unread []string) {
	add := func(name, text string) {
		names, documents = append(names, name), append(documents, p.document(text))
	}
	seen := map[string]bool{}
	account := func(name, of string) {
		if seen[name] {
			return
		}
		seen[name] = true
		what := "the policy " + name + of
		if p.ReadPolicy == nil {
			unread = append(unread, what+", which was not read")
			return
		}
		text, err := once(&p.read, name, p.ReadPolicy)
		if err != nil {
			unread = append(unread, fmt.Sprintf("%s, which was not read: %v", what, err))
			return
		}
		add(what, text)
	}
	for i := range r.Policies {
		if s := &r.Policies[i]; s.PolicyDocument != "" {
			add("the template's resource "+s.LogicalName, s.PolicyDocument)
		} else {
			account(s.PolicyName, "")
		}
	}
	for _, group := range groups {
		if p.GroupPolicies == nil {
			unread = append(unread, "the policies of the thing group "+group+", which were not read")
			continue
		}
		list, err := once(&p.groups, group, p.GroupPolicies)
		if err != nil {
			unread = append(unread, fmt.Sprintf("the policies of the thing group %s, which were not read: %v", group, err))
			continue
		}
		for _, name := range list {
			account(name, " of the thing group "+group)
		}
	}
	return names, documents, unread
}

// once asks a function of the caller's the first time only.
func once[T any](known *map[string]found[T], name string, ask func(string) (T, error)) (T, error) {
	f, ok := (*known)[name]
	if !ok {
		f.value, f.err = ask(name)
		if *known == nil {
			*known = map[string]found[T]{}
		}
		(*known)[name] = f
	}
	return f.value, f.err
}

// keptDocuments is how many documents are kept ready. A template whose every row brings its own has as many as rows.
const keptDocuments = 1000

func (p *Permissions) document(text string) *policy.Document {
	d, ok := p.documents[text]
	if !ok {
		d, _ = policy.Parse(text) // what is wrong with it is for Check to tell
		if p.documents == nil || len(p.documents) == keptDocuments {
			p.documents = map[string]*policy.Document{}
		}
		p.documents[text] = d
	}
	return d
}
