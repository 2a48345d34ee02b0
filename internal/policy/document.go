package policy

import (
	"unicode"
)

// Effect is what a statement does to a request it matches.
type Effect string

// The two effects. The zero value is that of no statement.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// The versions of the language. Documents without a Version are of the older one, in which ${…} is plain text.
const (
	Version2012 = "2012-10-17"
	Version2008 = "2008-10-17"
)

// Document is a parsed policy document. It is made by [Parse].
type Document struct {
	Version    string // as written; empty if the document has none
	ID         string
	Statements []Statement
}

// Statement is one statement of a document. Of each pair (Actions and NotActions, …) at most one is set in a document
// without problems. A Statement is evaluated by what Parse compiled: changing its lists changes nothing.
type Statement struct {
	Index         int // from 0
	SID           string
	Effect        Effect
	Principals    Principals // nil if the statement has none
	NotPrincipals Principals
	Actions       []string
	NotActions    []string
	Resources     []string
	NotResources  []string
	Conditions    []Condition

	actions, notActions, resources, notResources []pattern
}

// Principals are whom a statement is about, by kind: AWS, Service, Federated, CanonicalUser. Everybody ("*") is
// {"AWS": {"*"}}, which AWS documents as the same.
type Principals map[string][]string

// Size is the length of a document as AWS counts it: its characters without white space.
func Size(text string) int {
	n := 0
	for _, r := range text {
		if !unicode.IsSpace(r) {
			n++
		}
	}
	return n
}
