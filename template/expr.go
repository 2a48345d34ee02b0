package template

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Compiled values. An expr makes a string, a listExpr a list of them; both read the row and nothing else, so a Program
// can be used by many goroutines.
type (
	expr interface {
		eval(row map[string]string) (string, error)
	}
	listExpr interface {
		evalList(row map[string]string) ([]string, error)
	}
)

// Why a row cannot be resolved, for errors.Is on what [Program.Resolve] returns.
const (
	// ErrMissingParameter: a parameter has neither a value in the row nor a default.
	ErrMissingParameter finding.Rule = ruleMissingParameter
	// ErrFunction: an intrinsic function has no result, such as Fn::Select beyond the end of a list.
	ErrFunction finding.Rule = ruleFunctionResult
)

// fail makes an error that names a place in the template.
func fail(r finding.Rule, at pointer, format string, args ...any) *finding.Finding {
	return &finding.Finding{Rule: r, Severity: finding.Error, Pointer: at.String(), Message: fmt.Sprintf(format, args...)}
}

// AWSMessage words an error of [Template.Compile] or [Program.Resolve] as AWS IoT does in its reports and answers.
// Where AWS's text is not known it is the beginning that all of them have at AWS, followed by the error's own message.
func AWSMessage(err error) string {
	f, ok := errors.AsType[*finding.Finding](err)
	switch {
	case !ok:
		return err.Error()
	case f.Rule == ErrMissingParameter:
		return fmt.Sprintf("Invalid registration template. Cannot resolve reference value: {Ref=%s}", f.Parameter)
	case f.Rule == rulePolicySource && strings.HasPrefix(f.Message, neitherSource):
		return "Invalid registration template. Neither policyName nor policyDocument is present in the Template."
	}
	return "Invalid registration template. " + f.Message
}

const neitherSource = "neither PolicyName nor PolicyDocument"

type constExpr string

func (e constExpr) eval(map[string]string) (string, error) { return string(e), nil }

type refExpr struct {
	name           string
	def            string
	hasDefault     bool
	emptyIsMissing bool
	kind           Kind
	at             pointer
}

func (e *refExpr) eval(row map[string]string) (string, error) {
	if v, ok := row[e.name]; ok && (v != "" || !e.emptyIsMissing) {
		return v, nil
	}
	if e.hasDefault {
		return e.def, nil
	}
	return "", missing(e.name, e.kind, e.at)
}

func missing(name string, kind Kind, at pointer) *finding.Finding {
	message := "there is no value: give one in the row, or a Default in the template"
	switch subject, pseudo := strings.CutPrefix(name, pseudoPrefix); {
	case kind == Fleet:
		message = "there is no value: the device gives it when it calls RegisterThing; else give the parameter a Default"
	case kind == JITP && pseudo:
		message = "there is no value: the subject of the certificate has no " + subject + ", and AWS demands every parameter of a JITP " +
			"template; issue certificates that have it, or give the parameter a Default"
	case kind == JITP:
		message = "there is no value: nothing fills this parameter in just-in-time provisioning; give it a Default"
	}
	f := fail(ErrMissingParameter, at, "%s", message)
	f.Parameter = name
	return f
}

// concatExpr is Fn::Sub, and a policy document with holes.
type concatExpr []expr

func (e concatExpr) eval(row map[string]string) (string, error) {
	var b strings.Builder
	for _, part := range e {
		s, err := part.eval(row)
		if err != nil {
			return "", err
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// quoteExpr writes a value as a JSON string.
type quoteExpr struct{ of expr }

func (e quoteExpr) eval(row map[string]string) (string, error) {
	s, err := e.of.eval(row)
	return quote(s), err
}

// arrayExpr writes a list as a JSON array of strings.
type arrayExpr struct{ of listExpr }

func (e arrayExpr) eval(row map[string]string) (string, error) {
	list, err := e.of.evalList(row)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(quote(s))
	}
	return "[" + b.String() + "]", nil
}

type joinExpr struct {
	delimiter expr
	list      listExpr
}

func (e *joinExpr) eval(row map[string]string) (string, error) {
	delimiter, err := e.delimiter.eval(row)
	if err != nil {
		return "", err
	}
	list, err := e.list.evalList(row)
	return strings.Join(list, delimiter), err
}

type selectExpr struct {
	index expr
	list  listExpr
	at    pointer
}

func (e *selectExpr) eval(row map[string]string) (string, error) {
	index, err := e.index.eval(row)
	if err != nil {
		return "", err
	}
	list, err := e.list.evalList(row)
	if err != nil {
		return "", err
	}
	i, err := strconv.Atoi(index)
	if err != nil {
		return "", functionError(e.at, "%s: the index %s is not a number", fnSelect, rule.Quote(index))
	}
	if i < 0 || i >= len(list) {
		return "", functionError(e.at, "%s: index %d of a list of %d", fnSelect, i, len(list))
	}
	return list[i], nil
}

type splitExpr struct {
	delimiter, text expr
	at              pointer
}

func (e *splitExpr) evalList(row map[string]string) ([]string, error) {
	delimiter, err := e.delimiter.eval(row)
	if err != nil {
		return nil, err
	}
	text, err := e.text.eval(row)
	if err != nil {
		return nil, err
	}
	if delimiter == "" {
		return nil, functionError(e.at, "%s: the delimiter is empty", fnSplit)
	}
	return strings.Split(text, delimiter), nil
}

// leaf is a value of Mappings.
type leaf struct {
	text   string
	list   []string
	isList bool
}

type findExpr struct {
	tables               map[string]map[string]map[string]leaf
	table, first, second expr
	at                   pointer
}

func (e *findExpr) find(row map[string]string) (leaf, error) {
	var keys [3]string
	for i, k := range [...]expr{e.table, e.first, e.second} {
		var err error
		if keys[i], err = k.eval(row); err != nil {
			return leaf{}, err
		}
	}
	l, ok := e.tables[keys[0]][keys[1]][keys[2]]
	if !ok {
		return leaf{}, functionError(e.at, "%s: nothing in Mappings under %s, %s, %s",
			fnFindInMap, rule.Quote(keys[0]), rule.Quote(keys[1]), rule.Quote(keys[2]))
	}
	return l, nil
}

func (e *findExpr) eval(row map[string]string) (string, error) {
	l, err := e.find(row)
	if err == nil && l.isList {
		return "", functionError(e.at, "%s: found a list where a string is wanted", fnFindInMap)
	}
	return l.text, err
}

func (e *findExpr) evalList(row map[string]string) ([]string, error) {
	l, err := e.find(row)
	if err == nil && !l.isList {
		return nil, functionError(e.at, "%s: found a string where a list is wanted", fnFindInMap)
	}
	return l.list, err
}

// foundExpr writes what Fn::FindInMap finds, string or list, as JSON.
type foundExpr struct{ *findExpr }

func (e foundExpr) eval(row map[string]string) (string, error) {
	l, err := e.find(row)
	if err == nil && l.isList {
		return arrayExpr{e.findExpr}.eval(row)
	}
	return quote(l.text), err
}

// foundList is the list that Fn::FindInMap finds, or the one string.
type foundList struct{ *findExpr }

func (e foundList) evalList(row map[string]string) ([]string, error) {
	l, err := e.find(row)
	if err == nil && !l.isList {
		return []string{l.text}, nil
	}
	return l.list, err
}

// elements is a list written out.
type elements []expr

func (e elements) evalList(row map[string]string) ([]string, error) {
	if len(e) == 0 {
		return nil, nil
	}
	list := make([]string, len(e))
	for i, x := range e {
		var err error
		if list[i], err = x.eval(row); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func functionError(at pointer, format string, args ...any) error {
	return fail(ErrFunction, at, format, args...)
}
