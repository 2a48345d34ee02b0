package policy

import "fmt"

// Kind is what is wrong with a document, for callers that treat some problems as harmless.
type Kind string

// The kinds of [Problem].
const (
	NotJSON          Kind = "not JSON"
	NotObject        Kind = "not an object"       // the document or a statement is no object
	UnknownVersion   Kind = "unknown version"     // neither Version2008 nor Version2012
	UnknownMember    Kind = "unknown member"      // Name is the member
	RepeatedMember   Kind = "repeated member"     // Name is the member; its last value was taken
	NoStatement      Kind = "no statement"        //
	RepeatedSID      Kind = "repeated Sid"        // Name is the Sid
	WrongType        Kind = "wrong type"          // Name is the member
	NoEffect         Kind = "no effect"           // neither Allow nor Deny
	NoAction         Kind = "no action"           //
	Exclusive        Kind = "exclusive members"   // both Action and NotAction, …
	WrongPrincipal   Kind = "wrong principal"     // Name is what stands for one
	UnknownOperator  Kind = "unknown operator"    // Name is the operator of a condition
	ConditionNoValue Kind = "condition, no value" // Name is the condition key

	// The next are of [Document.CheckDevice] and [Document.CheckPlace]; Meant is what was probably meant.

	UnknownAction   Kind = "unknown action"   // Name is the action
	UnknownVariable Kind = "unknown variable" // Name is the variable or the key of a condition
	WrongResource   Kind = "wrong resource"   // Name is the resource, or the action that has none of its own
	UnusedResource  Kind = "unused resource"  // Name is the resource
	TopicWildcard   Kind = "topic wildcard"   // Name is the resource
	Placeholder     Kind = "placeholder"      // Name is the resource
	Elsewhere       Kind = "elsewhere"        // another partition, region or account
)

// Problem is one thing that is wrong with a document.
type Problem struct {
	Kind      Kind
	Statement int      // index of the statement, from 0; -1 for the document itself
	Name      string   // what the problem is about; see the kinds
	Offset    int      // byte offset in the text; 0 for what CheckDevice and CheckPlace find
	Meant     string   // the name that was probably meant; empty if none is near
	Known     []string // of UnknownMember: the members there are; not to be changed
	Message   string   // what is wrong, with the place: "statement 2 of the policy has no Action"
}

// Error returns the message and the offset.
func (p Problem) Error() string { return fmt.Sprintf("%s (at byte %d)", p.Message, p.Offset) }
