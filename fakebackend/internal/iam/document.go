package iam

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Effect is what a statement does when it matches.
type Effect string

// The two effects.
const (
	AllowEffect Effect = "Allow"
	DenyEffect  Effect = "Deny"
)

// Document is a parsed policy document. It is not changed after [Parse] and may be shared.
type Document struct {
	Version    string // 2012-10-17, or 2008-10-17 (the default), in which variables are plain text
	ID         string
	Statements []Statement
}

// Statement is one statement of a policy document.
type Statement struct {
	SID          string
	Effect       Effect
	Principal    *Principals // nil if the statement has none
	NotPrincipal *Principals
	Action       []string
	NotAction    []string
	Resource     []string
	NotResource  []string
	conditions   []condition
}

// Principals are whom a statement is about, by kind: AWS, Service, Federated, CanonicalUser. Everybody is {"*": {"*"}}.
type Principals map[string][]string

// Parse reads a policy document. The error is an [*Error] with the code MalformedPolicyDocument.
func Parse(document string) (*Document, error) {
	d, err := parse(document)
	if err != nil {
		return nil, err
	}
	return d, nil
}

func malformed(format string, args ...any) *Error {
	return &Error{Code: "MalformedPolicyDocument", Message: fmt.Sprintf(format, args...), Status: 400}
}

func parse(document string) (*Document, error) {
	var wire struct {
		Version   *string
		ID        string `json:"Id"`
		Statement json.RawMessage
	}
	if err := strict(document, &wire, "Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	d := &Document{Version: "2008-10-17", ID: wire.ID}
	if wire.Version != nil {
		d.Version = *wire.Version
	}
	if d.Version != "2012-10-17" && d.Version != "2008-10-17" {
		return nil, malformed("Syntax errors in policy: the version %q is neither 2012-10-17 nor 2008-10-17.", d.Version)
	}
	statements, err := oneOrList(wire.Statement)
	if err != nil || len(statements) == 0 {
		return nil, malformed("Syntax errors in policy: there is no statement.")
	}
	sids := map[string]bool{}
	for i, raw := range statements {
		s, err := parseStatement(raw)
		if err != nil {
			return nil, malformed("%v (statement %d)", message(err), i+1)
		}
		if s.SID != "" && sids[s.SID] {
			return nil, malformed("Statement IDs (SID) in a single policy must be unique.")
		}
		sids[s.SID] = true
		d.Statements = append(d.Statements, s)
	}
	return d, nil
}

func parseStatement(raw json.RawMessage) (Statement, error) {
	var wire struct {
		Sid                                      string
		Effect                                   Effect
		Principal, NotPrincipal                  json.RawMessage
		Action, NotAction, Resource, NotResource json.RawMessage
		Condition                                json.RawMessage
	}
	err := strict(string(raw), &wire, "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition")
	if err != nil {
		return Statement{}, err
	}
	s := Statement{SID: wire.Sid, Effect: wire.Effect}
	if s.Effect != AllowEffect && s.Effect != DenyEffect {
		return s, malformed("Syntax errors in policy: the effect is %q, not Allow or Deny", s.Effect)
	}
	for _, list := range []struct {
		name string
		raw  json.RawMessage
		to   *[]string
	}{
		{"Action", wire.Action, &s.Action}, {"NotAction", wire.NotAction, &s.NotAction},
		{"Resource", wire.Resource, &s.Resource}, {"NotResource", wire.NotResource, &s.NotResource},
	} {
		if *list.to, err = stringsOf(list.raw); err != nil {
			return s, malformed("Syntax errors in policy: %s is neither a string nor a list of strings", list.name)
		}
	}
	if s.Principal, err = parsePrincipals(wire.Principal); err != nil {
		return s, err
	}
	if s.NotPrincipal, err = parsePrincipals(wire.NotPrincipal); err != nil {
		return s, err
	}
	switch {
	case len(s.Action) == 0 && len(s.NotAction) == 0:
		return s, malformed("Policy statement must contain actions.")
	case len(s.Action) > 0 && len(s.NotAction) > 0:
		return s, malformed("Syntax errors in policy: Action and NotAction exclude each other")
	case len(s.Resource) > 0 && len(s.NotResource) > 0:
		return s, malformed("Syntax errors in policy: Resource and NotResource exclude each other")
	case s.Principal != nil && s.NotPrincipal != nil:
		return s, malformed("Syntax errors in policy: Principal and NotPrincipal exclude each other")
	}
	for _, action := range slices.Concat(s.Action, s.NotAction) {
		if vendor, name, ok := strings.Cut(action, ":"); action != "*" && (!ok || vendor == "" || name == "") {
			return s, malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
		}
	}
	for _, resource := range slices.Concat(s.Resource, s.NotResource) {
		if resource != "*" && !strings.HasPrefix(resource, "arn:") && !strings.HasPrefix(resource, "*") && !strings.HasPrefix(resource, "$") {
			return s, malformed("Resource %s must be in ARN format or \"*\".", resource)
		}
	}
	s.conditions, err = parseConditions(wire.Condition)
	return s, err
}

func parsePrincipals(raw json.RawMessage) (*Principals, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var all string
	if json.Unmarshal(raw, &all) == nil {
		if all != "*" {
			return nil, malformed("Invalid principal in policy: %q", all)
		}
		return &Principals{"*": {"*"}}, nil
	}
	var wire map[string]json.RawMessage
	if err := json.Unmarshal(raw, &wire); err != nil || len(wire) == 0 {
		return nil, malformed("Invalid principal in policy")
	}
	p := Principals{}
	for kind, raw := range wire {
		switch kind {
		case "AWS", "Service", "Federated", "CanonicalUser":
		default:
			return nil, malformed("Invalid principal in policy: %q", kind)
		}
		names, err := stringsOf(raw)
		if err != nil || len(names) == 0 || slices.Contains(names, "") {
			return nil, malformed("Invalid principal in policy: %q", strings.ToUpper(kind))
		}
		p[kind] = names
	}
	return &p, nil
}

// strict decodes a JSON object whose members must be among those named, exactly so written and each once.
// encoding/json alone would take any case, and the last of several.
func strict(text string, into any, members ...string) error {
	dec := json.NewDecoder(strings.NewReader(text))
	first, err := dec.Token()
	if err != nil {
		return malformed("This policy contains invalid Json")
	}
	if first != json.Delim('{') {
		return malformed("Syntax errors in policy: there is no object")
	}
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return malformed("This policy contains invalid Json")
		}
		if !slices.Contains(members, name) {
			return malformed("Syntax errors in policy: there is no element %q", name)
		}
		if seen[name] {
			return malformed("Syntax errors in policy: the element %q occurs twice", name)
		}
		seen[name] = true
		var skipped json.RawMessage
		if err := dec.Decode(&skipped); err != nil {
			return malformed("This policy contains invalid Json")
		}
	}
	if _, err := dec.Token(); err != nil {
		return malformed("This policy contains invalid Json")
	}
	if _, err := dec.Token(); err != io.EOF {
		return malformed("This policy contains invalid Json")
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		return malformed("Syntax errors in policy: an element has the wrong type")
	}
	return nil
}

func oneOrList(raw json.RawMessage) ([]json.RawMessage, error) {
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 {
		return nil, nil
	}
	if raw[0] != '[' {
		return []json.RawMessage{raw}, nil
	}
	var list []json.RawMessage
	err := json.Unmarshal(raw, &list)
	return list, err
}

func stringsOf(raw json.RawMessage) ([]string, error) {
	items, err := oneOrList(raw)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		// null would decode into a string without an error.
		if item = bytes.TrimSpace(item); len(item) == 0 || item[0] != '"' {
			return nil, errors.New("not a string")
		}
		var s string
		if err := json.Unmarshal(item, &s); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// message is the text of an error of this package, without its code.
func message(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Message
	}
	return err.Error()
}
