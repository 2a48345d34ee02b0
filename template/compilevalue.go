package template

import (
	"slices"
	"strings"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// This file compiles the values of properties: what stands where a string, a list or a policy document is wanted.

func (c *compiler) named(name string, v Value, at pointer) (*namedExpr, error) {
	e, err := c.expr(v, at)
	if err != nil {
		return nil, err
	}
	return &namedExpr{name, e, at, c.note(v, at)}, nil
}

// namedList compiles a list; with single, also one string in its place.
func (c *compiler) namedList(v Value, at pointer, single bool) (*namedList, error) {
	compile := c.list
	if single {
		compile = c.oneOrMany
	}
	l, err := compile(v, at)
	if err != nil {
		return nil, err
	}
	return &namedList{l, at, c.note(v, at)}, nil
}

// note records the parameters a value refers to and returns them sorted.
func (c *compiler) note(v Value, at pointer) (from []string) {
	walkRefs(v, at, func(name string, _ pointer) {
		c.referred[name] = true
		from = append(from, name)
	})
	slices.Sort(from)
	return slices.Compact(from)
}

// expr compiles a value that must be a string.
func (c *compiler) expr(v Value, at pointer) (expr, error) {
	if text, ok := scalar(v); ok {
		return constExpr(text), nil
	}
	switch v := expand(v).(type) {
	case Ref:
		return c.ref(string(v), at.child(fnRef)), nil
	case Call:
		return c.call(v, at)
	case List:
		return nil, fail(ruleValueShape, at, "a list stands where a string is wanted")
	case Object:
		return nil, fail(ruleValueShape, at, "an object stands where a string is wanted")
	}
	return nil, fail(ruleValueShape, at, "there is no string value here")
}

func (c *compiler) ref(name string, at pointer) expr {
	def, ok := c.defaults[name]
	return &refExpr{name, def, ok, c.opts.EmptyIsMissing, c.opts.Kind, at}
}

// list compiles a value that must be a list of strings.
func (c *compiler) list(v Value, at pointer) (listExpr, error) {
	switch v := expand(v).(type) {
	case List:
		all := make(elements, len(v))
		for i, e := range v {
			var err error
			if all[i], err = c.expr(e, at.index(i)); err != nil {
				return nil, err
			}
		}
		return all, nil
	case Call:
		e, err := c.function(v, at)
		if err != nil {
			return nil, err
		}
		if l, ok := e.(listExpr); ok {
			return l, nil
		}
		return nil, fail(ruleFunctionShape, at.child(v.Function), "%s returns a string where a list is wanted", v.Function)
	case Ref:
		return nil, fail(ruleValueShape, at, "a parameter is a string, a list is wanted here: "+
			`write [{"Ref": %s}]`, rule.Quote(string(v)))
	}
	return nil, fail(ruleValueShape, at, "a list is wanted here: put the value in brackets")
}

// oneOrMany compiles a value that must be a string or a list of strings.
func (c *compiler) oneOrMany(v Value, at pointer) (listExpr, error) {
	switch v := expand(v).(type) {
	case List:
		return c.list(v, at)
	case Call:
		e, err := c.function(v, at)
		if err != nil {
			return nil, err
		}
		switch e := e.(type) {
		case *findExpr:
			return foundList{e}, nil
		case expr:
			return elements{e}, nil
		case listExpr:
			return e, nil
		}
	}
	e, err := c.expr(v, at)
	return elements{e}, err
}

func (c *compiler) call(v Call, at pointer) (expr, error) {
	e, err := c.function(v, at)
	if err != nil {
		return nil, err
	}
	if x, ok := e.(expr); ok {
		return x, nil
	}
	return nil, fail(ruleFunctionShape, at.child(v.Function), "%s returns a list where a string is wanted: take one value with Fn::Select, "+
		"or put them together with Fn::Join", v.Function)
}

// function compiles a call to an expr, a listExpr, or both.
func (c *compiler) function(v Call, at pointer) (any, error) {
	at = at.child(v.Function)
	shape := func(form string) error {
		return fail(ruleFunctionShape, at, "%s is written as %s", v.Function, form)
	}
	if v.Function == fnRef {
		return nil, shape(`{"Ref": "Name"}`)
	}
	if !slices.Contains(functionNames, v.Function) {
		return nil, fail(ruleFunctionShape, at, "there is no function %s", rule.Quote(v.Function))
	}
	if !c.functions {
		return nil, fail(ruleFunctionUndocumented, at, "AWS documents %s for fleet templates only; "+
			"CompileOptions.AllowFunctions permits it", v.Function)
	}
	if v.Function == fnSub {
		return c.sub(v.Args, at, shape)
	}
	args, _ := expand(v.Args).(List)
	if written := forms[v.Function]; len(args) != written.args {
		return nil, shape(written.form)
	}
	first, err := c.expr(args[0], at.index(0))
	if err != nil {
		return nil, err
	}
	switch v.Function {
	case fnJoin:
		list, err := c.list(args[1], at.index(1))
		return &joinExpr{first, list}, err
	case fnSelect:
		list, err := c.list(args[1], at.index(1))
		return &selectExpr{first, list, at}, err
	}
	second, err := c.expr(args[1], at.index(1))
	if err != nil {
		return nil, err
	}
	if v.Function == fnSplit {
		return &splitExpr{first, second, at}, nil
	}
	third, err := c.expr(args[2], at.index(2))
	return &findExpr{c.tables, first, second, third, at}, err
}

// forms are how the functions are written, Fn::Sub excepted, which has two forms.
var forms = map[string]struct {
	args int
	form string
}{
	fnJoin:      {2, `{"Fn::Join": ["delimiter", ["value", …]]}`},
	fnSelect:    {2, `{"Fn::Select": [index, ["value", …]]}`},
	fnSplit:     {2, `{"Fn::Split": ["delimiter", "text"]}`},
	fnFindInMap: {3, `{"Fn::FindInMap": ["Map", "first key", "second key"]}`},
}

func (c *compiler) sub(args Value, at pointer, shape func(string) error) (expr, error) {
	const form = `{"Fn::Sub": "text ${Name}"} or {"Fn::Sub": ["text ${name}", {"name": "value"}]}`
	if list, ok := expand(args).(List); ok {
		if len(list) == 0 || len(list) > 2 {
			return nil, shape(form)
		}
		if _, ok := scalar(list[0]); !ok {
			return nil, shape(form)
		}
		if len(list) == 2 {
			if _, ok := expand(list[1]).(Object); !ok {
				return nil, shape(form)
			}
		}
	} else if _, ok := scalar(args); !ok {
		return nil, shape(form)
	}
	text, vars, textAt := subArgs(args, at)
	own := map[string]expr{}
	for _, name := range sortedKeys(vars) {
		var err error
		if own[name], err = c.expr(vars[name], at.index(1).child(name)); err != nil {
			return nil, err
		}
	}
	var parts concatExpr
	for _, part := range parseSub(text) {
		switch e, isOwn := own[part.name]; {
		case part.name == "":
			parts = append(parts, constExpr(part.text))
		case isOwn:
			parts = append(parts, e)
		default:
			parts = append(parts, c.ref(part.name, textAt))
		}
	}
	return parts, nil
}

// document compiles a policy document: a string, or an object that may have functions in it.
func (c *compiler) document(v Value, at pointer) (*namedExpr, error) {
	e, err := c.documentExpr(v, at)
	if err != nil {
		return nil, err
	}
	return &namedExpr{"PolicyDocument", e, at, c.note(v, at)}, nil
}

func (c *compiler) documentExpr(v Value, at pointer) (expr, error) {
	if j, ok := v.(JSON); ok {
		constant := true
		walkRefs(v, at, func(string, pointer) { constant = false })
		walkCalls(v, at, func(Call, pointer) { constant = false })
		w := &writer{}
		if w.raw([]byte(j), at); constant && w.err == nil && strings.HasPrefix(w.b.String(), "{") {
			return constExpr(w.b.String()), nil
		}
	}
	if o, ok := expand(v).(Object); ok {
		e, err := c.jsonText(o, at)
		return fold(e), err
	}
	return c.expr(v, at)
}

// jsonText compiles a value to the JSON text that it becomes.
func (c *compiler) jsonText(v Value, at pointer) (concatExpr, error) {
	switch v := expand(v).(type) {
	case Literal:
		return concatExpr{constExpr(quote(string(v)))}, nil
	case JSON:
		w := &writer{}
		w.raw([]byte(v), at)
		if w.err != nil {
			return nil, fail(ruleValueShape, at, "not JSON: %s", rule.Quote(string(v)))
		}
		return concatExpr{constExpr(w.b.String())}, nil
	case Ref:
		return concatExpr{quoteExpr{c.ref(string(v), at.child(fnRef))}}, nil
	case Call:
		e, err := c.function(v, at)
		if err != nil {
			return nil, err
		}
		switch e := e.(type) {
		case *findExpr:
			return concatExpr{foundExpr{e}}, nil
		case expr:
			return concatExpr{quoteExpr{e}}, nil
		case listExpr:
			return concatExpr{arrayExpr{e}}, nil
		}
	case List:
		parts := concatExpr{constExpr("[")}
		for i, e := range v {
			inner, err := c.jsonText(e, at.index(i))
			if err != nil {
				return nil, err
			}
			if i > 0 {
				parts = append(parts, constExpr(","))
			}
			parts = append(parts, inner...)
		}
		return append(parts, constExpr("]")), nil
	case Object:
		parts := concatExpr{constExpr("{")}
		for i, k := range sortedKeys(v) {
			inner, err := c.jsonText(v[k], at.child(k))
			if err != nil {
				return nil, err
			}
			if i > 0 {
				parts = append(parts, constExpr(","))
			}
			parts = append(parts, constExpr(quote(k)+":"))
			parts = append(parts, inner...)
		}
		return append(parts, constExpr("}")), nil
	}
	return nil, fail(ruleValueShape, at, "there is no value here")
}

// fold puts neighbouring constants together.
func fold(parts concatExpr) expr {
	var out concatExpr
	for _, p := range parts {
		text, isConst := p.(constExpr)
		if last := len(out) - 1; isConst && last >= 0 {
			if before, ok := out[last].(constExpr); ok {
				out[last] = before + text
				continue
			}
		}
		out = append(out, p)
	}
	if len(out) == 1 {
		return out[0]
	}
	return out
}
