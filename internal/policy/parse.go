package policy

import (
	"fmt"
	"slices"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Parse reads a document and compiles it. It reads as much as can be read and reports every problem; the document is
// never nil. What makes a document worthless differs from service to service, so the caller decides: a document
// without problems follows the grammar. Whether the statements must have resources or principals depends on what the
// document is for and is not checked here, nor is the form of actions and ARNs.
func Parse(text string) (*Document, []Problem) {
	p := &parser{doc: new(Document), statement: -1}
	root, offset, err := readJSON(text)
	switch {
	case err != nil:
		p.add(NotJSON, "", offset, "the policy document is not JSON: %v", err)
	case root.kind != kindObject:
		p.add(NotObject, "", root.offset, "the policy document must be a JSON object, this is %s", root.kind)
	default:
		p.document(root)
	}
	return p.doc, p.problems
}

type parser struct {
	doc       *Document
	problems  []Problem
	statement int    // index of the statement that is read
	where     string // the same, for people
}

func (p *parser) add(kind Kind, name string, offset int, format string, args ...any) {
	p.problems = append(p.problems,
		Problem{Kind: kind, Statement: p.statement, Name: name, Offset: offset, Message: fmt.Sprintf(format, args...)})
}

// Members of the document and of a statement.
var (
	documentMembers  = []string{"Version", "Id", "Statement"}
	statementMembers = []string{"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)

func (p *parser) document(root *node) {
	p.where = "the policy document"
	p.members(root, documentMembers)
	p.doc.Version = p.text(root, "Version")
	p.doc.ID = p.text(root, "Id")
	if v := p.doc.Version; v != "" && v != Version2008 && v != Version2012 {
		p.add(UnknownVersion, v, root.get("Version").offset, "the version %s of the policy document is neither %s nor %s",
			rule.Quote(v), Version2012, Version2008)
	}
	list := root.get("Statement")
	switch {
	case list == nil:
		p.add(NoStatement, "", root.offset, "the policy document has no Statement")
	case list.kind != kindArray:
		p.where, p.statement = "the Statement of the policy", 0
		p.readStatement(list)
	case len(list.elems) == 0:
		p.add(NoStatement, "", list.offset, "the policy document has no Statement")
	default:
		for i, n := range list.elems {
			p.where, p.statement = fmt.Sprintf("statement %d of the policy", i+1), i
			p.readStatement(n)
		}
	}
}

// members reports names that the language does not have, and names that stand twice.
func (p *parser) members(n *node, known []string) {
	for _, m := range n.twice {
		p.add(RepeatedMember, m.name, m.offset, "%s has %s twice; the last one counts", p.where, rule.Quote(m.name))
	}
	for _, m := range n.members {
		if !slices.Contains(known, m.name) {
			p.add(UnknownMember, m.name, m.offset, "%s has %s, which AWS does not document for policies", p.where, rule.Quote(m.name))
			p.problems[len(p.problems)-1].Known = known
		}
	}
}

// text returns a member that is a string; "" if there is none.
func (p *parser) text(n *node, name string) string {
	v := n.get(name)
	if v == nil {
		return ""
	}
	if v.kind != kindString {
		p.add(WrongType, name, v.offset, "%s: %s must be a string, here is %s", p.where, name, v.kind)
	}
	return v.text
}

// texts returns a member that is a string or a list of them.
func (p *parser) texts(n *node, name string) []string {
	v := n.get(name)
	if v == nil {
		return nil
	}
	var texts []string
	for _, e := range v.list() {
		if e.kind != kindString {
			p.add(WrongType, name, e.offset, "%s: %s must be a string or a list of strings, here is %s", p.where, name, e.kind)
			continue
		}
		texts = append(texts, e.text)
	}
	return texts
}

// list returns the elements of a list, or the value itself.
func (n *node) list() []*node {
	if n.kind == kindArray {
		return n.elems
	}
	return []*node{n}
}

func (p *parser) readStatement(n *node) {
	if n.kind != kindObject {
		p.add(NotObject, "", n.offset, "%s must be an object, this is %s", p.where, n.kind)
		return
	}
	p.members(n, statementMembers)
	s := Statement{
		Index: p.statement, SID: p.text(n, "Sid"),
		Principals: p.principals(n, "Principal"), NotPrincipals: p.principals(n, "NotPrincipal"),
		Actions: p.texts(n, "Action"), NotActions: p.texts(n, "NotAction"),
		Resources: p.texts(n, "Resource"), NotResources: p.texts(n, "NotResource"),
	}
	p.effect(n, &s)
	if len(s.Actions) == 0 && len(s.NotActions) == 0 {
		p.add(NoAction, "", n.offset, "%s has no Action", p.where)
	}
	for _, name := range []string{"Action", "Resource", "Principal"} {
		if not := n.get("Not" + name); not != nil && n.get(name) != nil {
			p.add(Exclusive, name, not.offset, "%s has both %s and Not%s", p.where, name, name)
		}
	}
	if s.SID != "" && slices.ContainsFunc(p.doc.Statements, func(other Statement) bool { return other.SID == s.SID }) {
		p.add(RepeatedSID, s.SID, n.get("Sid").offset, "%s has the Sid %s of another one", p.where, rule.Quote(s.SID))
	}
	variables := p.doc.Version == Version2012
	s.Conditions = p.conditions(n, variables)
	s.actions, s.notActions = compileAll(s.Actions, fold), compileAll(s.NotActions, fold)
	mode := wildcards
	if variables {
		mode |= withVariables
	}
	s.resources, s.notResources = compileAll(s.Resources, mode), compileAll(s.NotResources, mode)
	p.doc.Statements = append(p.doc.Statements, s)
}

func (p *parser) effect(n *node, s *Statement) {
	switch v := n.get("Effect"); {
	case v == nil:
		p.add(NoEffect, "", n.offset, "%s has no Effect: it must be Allow or Deny", p.where)
	case v.kind != kindString || v.text != string(Allow) && v.text != string(Deny):
		p.add(NoEffect, v.text, v.offset, "%s has the Effect %s: it must be Allow or Deny", p.where, rule.Quote(v.text))
	default:
		s.Effect = Effect(v.text)
	}
}

func (p *parser) principals(n *node, name string) Principals {
	v := n.get(name)
	switch {
	case v == nil:
		return nil
	case v.kind == kindString && v.text == "*":
		return Principals{"AWS": {"*"}}
	case v.kind != kindObject || len(v.members) == 0:
		p.add(WrongPrincipal, v.text, v.offset, `%s: %s must be "*" or an object of principals by kind`, p.where, name)
		return Principals{}
	}
	out := Principals{}
	for _, m := range v.members {
		if !slices.Contains([]string{"AWS", "Service", "Federated", "CanonicalUser"}, m.name) {
			p.add(WrongPrincipal, m.name, m.offset, "%s: %s has %s, which is no kind of principal", p.where, name, rule.Quote(m.name))
		}
		for _, e := range m.value.list() {
			if e.kind == kindString && e.text != "" {
				out[m.name] = append(out[m.name], e.text)
			}
		}
		if len(out[m.name]) < len(m.value.list()) || len(out[m.name]) == 0 {
			p.add(WrongPrincipal, m.name, m.value.offset, "%s: a principal of the kind %s is no name", p.where, rule.Quote(m.name))
		}
	}
	return out
}
