package iam

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Request is one question to a policy: may this principal do this to that?
type Request struct {
	Principal string            // a service such as iot.amazonaws.com, or an ARN; only trust and resource policies look at it
	Action    string            // such as s3:GetObject
	Resource  string            // the ARN acted upon; empty for a trust policy, which is about its own role
	Context   map[string]string // condition keys such as aws:SourceAccount
}

// Decision is what a policy says to a request.
type Decision int

// The decisions. A request is granted when some policy says Allow and none says Deny.
const (
	None  Decision = iota // no statement matches: an implicit denial
	Allow                 // an allowing statement matches, and no denying one
	Deny                  // a denying statement matches
)

// String gives the decision's name.
func (d Decision) String() string { return [...]string{"None", "Allow", "Deny"}[d] }

// Evaluate asks the document. A statement without a resource, as in a trust policy, matches every resource; one without
// a principal matches every principal.
func (d *Document) Evaluate(r Request) Decision {
	decision := None
	for i := range d.Statements {
		s := &d.Statements[i]
		if !s.applies(r, d.variables()) || !s.covers(r, d.variables()) {
			continue
		}
		if s.Effect == DenyEffect {
			return Deny
		}
		decision = Allow
	}
	return decision
}

// variables says whether ${…} in the document stands for something.
func (d *Document) variables() bool { return d.Version == "2012-10-17" }

// applies says whether the statement is about the request, whatever its resource.
func (s *Statement) applies(r Request, variables bool) bool {
	action := func(pattern string) bool { return glob(pattern, r.Action, true) }
	switch {
	case s.Principal != nil && !s.Principal.include(r.Principal), s.NotPrincipal != nil && s.NotPrincipal.include(r.Principal),
		len(s.Action) > 0 && !slices.ContainsFunc(s.Action, action),
		len(s.NotAction) > 0 && slices.ContainsFunc(s.NotAction, action):
		return false
	}
	for i := range s.conditions {
		if !s.conditions[i].holds(r.Context, variables) {
			return false
		}
	}
	return true
}

// covers says whether the statement is about the request's resource.
func (s *Statement) covers(r Request, variables bool) bool {
	resource := func(pattern string) bool {
		pattern, ok := expand(pattern, r.Context, variables)
		return ok && glob(pattern, r.Resource, false)
	}
	return (len(s.Resource) == 0 || slices.ContainsFunc(s.Resource, resource)) && !slices.ContainsFunc(s.NotResource, resource)
}

// include says whether the principal is among p. A principal that is an account, by number or root ARN, stands for
// everyone in it.
func (p Principals) include(principal string) bool {
	if _, all := p["*"]; all {
		return true
	}
	if !strings.HasPrefix(principal, "arn:") {
		return slices.Contains(p["Service"], principal)
	}
	account := ""
	if parts := strings.SplitN(principal, ":", 6); len(parts) == 6 {
		account = parts[4]
	}
	return slices.ContainsFunc(p["AWS"], func(name string) bool {
		if name == "*" || name == principal || name == account && account != "" {
			return true
		}
		parts := strings.SplitN(name, ":", 6)
		return len(parts) == 6 && parts[4] == account && account != "" && parts[5] == "root"
	})
}

// Variables and wildcards. A variable's value is put into a pattern with its wildcards quoted by a backslash, which
// cannot be written in a policy otherwise: policies have ${*}, ${?} and ${$} for that.

// expand replaces ${key} by the context's value. It fails when the context lacks the key: then the pattern matches
// nothing. Documents of the older version have no variables.
func expand(pattern string, context map[string]string, variables bool) (string, bool) {
	pattern = strings.ReplaceAll(pattern, `\`, `\\`)
	if !variables || !strings.Contains(pattern, "${") {
		return pattern, true
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(pattern, "${")
		b.WriteString(before)
		if !ok {
			return b.String(), true
		}
		name, after, ok := strings.Cut(rest, "}")
		if !ok {
			b.WriteString("${" + rest)
			return b.String(), true
		}
		pattern = after
		name, fallback, hasFallback := strings.Cut(name, ",")
		value, ok := lookUp(context, strings.TrimSpace(name))
		switch {
		case name == "*" || name == "?" || name == "$":
			value = name
		case !ok && hasFallback:
			value = strings.Trim(strings.TrimSpace(fallback), "'")
		case !ok:
			return "", false
		}
		b.WriteString(quoteGlob.Replace(value))
	}
}

var quoteGlob = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`)

// literal takes the quoting of [expand] off a value in which wildcards have no meaning.
func literal(pattern string) string {
	if !strings.Contains(pattern, `\`) {
		return pattern
	}
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		if pattern[i] == '\\' && i+1 < len(pattern) {
			i++
		}
		b.WriteByte(pattern[i])
	}
	return b.String()
}

// glob matches * against any run of characters, also empty and across colons and slashes, and ? against one character.
// It takes time in proportion to the product of the lengths at most.
func glob(pattern, s string, foldCase bool) bool {
	if foldCase {
		pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	}
	var i, j int
	star, mark := -1, 0 // where to go on after the last star when more has to go into it
	for j < len(s) {
		c, size := utf8.DecodeRuneInString(s[j:])
		p, width := utf8.DecodeRuneInString(pattern[i:]) // width is 0 at the end
		switch {
		case p == '*':
			if i++; i == len(pattern) {
				return true
			}
			star, mark = i, j
			continue
		case p == '?':
			i, j = i+1, j+size
			continue
		case p == '\\':
			if p, width = utf8.DecodeRuneInString(pattern[i+1:]); width > 0 && p == c {
				i, j = i+1+width, j+size
				continue
			}
		case width > 0 && p == c:
			i, j = i+width, j+size
			continue
		}
		if star < 0 {
			return false
		}
		_, size = utf8.DecodeRuneInString(s[mark:])
		mark += size
		i, j = star, mark
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// globARN matches the six parts of an ARN each for itself, so that a wildcard does not reach over a colon.
func globARN(value, pattern string) bool {
	v, p := strings.SplitN(value, ":", 6), strings.SplitN(pattern, ":", 6)
	if len(v) != 6 || len(p) != 6 {
		return false
	}
	for i := range v {
		if !glob(p[i], v[i], false) {
			return false
		}
	}
	return true
}
