package template

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/internal/privatekey"
	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

// Check looks for everything in the template that AWS refuses, that keeps a device from working, or that is unlikely
// to be what was meant. [Rules] lists what it knows. It returns nil when there is nothing to report; [finding.List.Err]
// tells whether the template can work at all.
//
// Check sees constants and defaults; what comes from the rows [Program.CheckRow] checks.
func (t *Template) Check(kind Kind) finding.List {
	kind = cmp.Or(kind, Bulk)
	c := &checker{
		t: t, kind: kind, seen: map[seenFinding]bool{}, parameterNames: sortedKeys(t.Parameters), mappingNames: sortedKeys(t.Mappings),
		compiler: &compiler{t: t, functions: true, opts: CompileOptions{Kind: kind}},
	}
	c.compiler.referred = map[string]bool{}
	c.compiler.defaults = map[string]string{}
	c.document()
	c.parameters()
	c.mappings()
	c.resources()
	c.deviceConfiguration()
	c.references()
	return c.findings
}

type checker struct {
	t        *Template
	kind     Kind
	compiler *compiler
	findings finding.List
	seen     map[seenFinding]bool
	granted  bool    // some policy allows iot:Connect, or one that cannot be seen might
	denied   pointer // the first policy document that denies iot:Connect to every client
	grouped  bool    // the thing may have groups, whose policies are the device's too
	usedMaps map[string]bool

	parameterNames, mappingNames []string // sorted
}

// seenFinding is what makes two findings the same.
type seenFinding struct {
	rule     finding.Rule
	severity finding.Severity
	at       string
	message  string
}

func (c *checker) add(r finding.Rule, severity finding.Severity, at pointer, format string, args ...any) {
	f := finding.Finding{Rule: r, Severity: severity, Pointer: at.String(), Message: fmt.Sprintf(format, args...)}
	if key := (seenFinding{f.Rule, f.Severity, f.Pointer, f.Message}); !c.seen[key] {
		c.seen[key] = true
		c.t.src.place(&f)
		c.findings = append(c.findings, f)
	}
}

func (c *checker) fault(f fault, at pointer) { c.add(f.rule, f.severity, at, "%s", f.message) }

// fail notes a fault that compiling would find too.
func (c *checker) fail(err error) {
	if e, ok := errors.AsType[*finding.Finding](err); ok {
		c.add(e.Rule, finding.Error, pointerTo(e.Pointer), "%s", e.Message)
	}
}

func (c *checker) document() {
	if c.t.src != nil {
		if c.t.src.wrapped {
			message := "the text holds the template inside another document; send what Body returns"
			if c.kind == JITP {
				message = "the text holds the template inside another document; a registration configuration takes what Body returns as a string"
			}
			c.add(ruleWrapped, finding.Note, pointer{}, "%s", message)
		}
		c.t.src.root.each(pointer{}, c.duplicates)
	}
	if body, err := c.t.MarshalJSON(); err != nil {
		c.add(ruleValueShape, finding.Error, pointer{}, "the template cannot be written: %v", err)
	} else {
		if n := utf8.RuneCount(body); n > rule.TemplateBody {
			c.add(ruleBodyLength, finding.Error, pointer{}, "the body is %d characters long, AWS allows %d", n, rule.TemplateBody)
		}
		c.privateKeys(body)
	}
	if c.kind != Fleet && c.t.Mappings != nil {
		c.add(ruleSection, finding.Warning, pointerTo("/Mappings"), "AWS documents Mappings for fleet templates only, this is a %s template", c.kind)
	}
	if c.kind != Fleet && c.t.DeviceConfiguration != nil {
		c.add(ruleSection, finding.Warning, pointerTo("/DeviceConfiguration"),
			"AWS documents DeviceConfiguration for fleet templates only, this is a %s template", c.kind)
	}
	c.extra(c.t.Extra, pointer{}, ruleUnknown, "AWS does not document %s at the top of a template")
}

// extra notes undocumented members; format has one verb for the name.
func (c *checker) extra(x Extra, at pointer, r finding.Rule, format string) {
	for _, name := range sortedKeys(x) {
		if string(x[name]) == "null" {
			c.add(ruleNull, finding.Warning, at.child(name), "%s is null; leave it out", rule.Quote(name))
			continue
		}
		c.add(r, finding.Warning, at.child(name), format, rule.Quote(name))
	}
}

// privateKeys looks for a private key anywhere in the body. A value that is one is found again where values are
// checked.
func (c *checker) privateKeys(body []byte) {
	if !privatekey.In(string(body)) {
		return
	}
	root, err := readJSON(newSource(body))
	if err != nil {
		return
	}
	root.each(pointer{}, func(n *node, at pointer) {
		if n.kind == kindString && privatekey.In(n.text) {
			c.add(rulePrivateKey, finding.Error, at, privateKeyMessage)
		}
	})
}

func (c *checker) duplicates(n *node, at pointer) {
	for _, d := range n.dups {
		line, column := c.t.src.lineColumn(d.offset)
		c.add(ruleDuplicateKey, finding.Warning, at.child(d.key), "%s stands twice in its object, first in line %d, column %d; the last one counts",
			rule.Quote(d.key), line, column)
	}
}

func (c *checker) parameters() {
	for _, name := range c.parameterNames {
		p := c.t.Parameters[name]
		at := pointerTo("/Parameters").child(name)
		if n := utf8.RuneCountInString(name); n == 0 || n > rule.ParameterName {
			c.add(ruleParameterName, finding.Error, at, "a parameter's name of %d characters; AWS wants 1 to %d", n, rule.ParameterName)
		}
		switch {
		case p.untyped && p.Type == "" && p.Extra["Type"] == nil:
			c.add(ruleParameterType, finding.Warning, at, `the parameter has no Type; AWS documents "Type": "String"`)
		case p.typeName() != "String":
			c.add(ruleParameterType, finding.Warning, at.child("Type"), "the type is %s; AWS documents String only", rule.Quote(p.Type))
		}
		c.extra(p.Extra, at, ruleParameterMember, "AWS IoT does not document %s for a parameter and checks nothing by it")
		if p.Default == nil || isNull(p.Default) {
			if isNull(p.Default) {
				c.add(ruleNull, finding.Warning, at.child("Default"), `"Default" is null; leave it out`)
			}
			continue
		}
		text, ok := scalar(p.Default)
		if !ok {
			c.add(ruleParameterDefault, finding.Error, at.child("Default"), "a Default must be a constant string")
			continue
		}
		c.compiler.defaults[name] = text
		if _, isText := p.Default.(Literal); !isText {
			c.add(ruleParameterDefault, finding.Warning, at.child("Default"), "the Default is not a string; write %s", rule.Quote(text))
		}
	}
}

func (c *checker) mappings() {
	at := pointerTo("/Mappings")
	for _, table := range c.mappingNames {
		for _, first := range sortedKeys(c.t.Mappings[table]) {
			for _, second := range sortedKeys(c.t.Mappings[table][first]) {
				v := c.t.Mappings[table][first][second]
				at := at.child(table).child(first).child(second)
				found := false
				walkRefs(v, at, func(string, pointer) { found = true })
				walkCalls(v, at, func(Call, pointer) { found = true })
				if found {
					c.add(ruleFunctionInMappings, finding.Error, at, "Mappings can hold neither parameters nor functions")
				}
			}
		}
	}
	// Tables are compiled for the values below; a fault was noted above or is noted here.
	if err := c.compiler.mappings(); err != nil {
		if e, ok := errors.AsType[*finding.Finding](err); ok && !c.has(pointerTo(e.Pointer)) {
			c.fail(err)
		}
	}
}

func (c *checker) has(at pointer) bool {
	return slices.ContainsFunc(c.findings, func(i finding.Finding) bool { return i.Pointer == at.String() })
}

func (c *checker) deviceConfiguration() {
	for _, name := range sortedKeys(c.t.DeviceConfiguration) {
		at := pointerTo("/DeviceConfiguration").child(name)
		v := c.t.DeviceConfiguration[name]
		switch expand(v).(type) {
		case Object, List:
			c.add(ruleDeviceConfig, finding.Error, at, "DeviceConfiguration allows no nesting: give a plain value")
			continue
		}
		c.value(v, at, "")
	}
}

// value checks one value that must be a string: its shape, its functions, and, as far as it is known, its text.
func (c *checker) value(v Value, at pointer, property string) {
	c.calls(v, at)
	e, err := c.compiler.named(property, v, at)
	if err != nil {
		c.fail(err)
		return
	}
	c.text(e, property)
}

// text checks what is known of a value's text: all of it, what it is by default, or what stands around the
// parameters.
func (c *checker) text(e *namedExpr, property string) {
	row, partial := c.standIn(e.from, "x")
	text, err := e.expr.eval(row)
	if err != nil {
		if !partial {
			c.noResult(err, e.from)
		}
		return
	}
	for _, f := range checkValue(property, text) {
		if text == "" && len(e.from) == 0 {
			f.message += "; " + unset
		}
		switch v, ok := errors.AsType[*rule.Violation](f.err); {
		case !partial && len(e.from) == 0:
			c.fault(f, e.at)
		case !partial:
			f.severity = finding.Warning
			f.message = "with the default: " + f.message
			c.fault(f, e.at)
		case ok && v.Offset >= 0 && property != "CertificateId":
			// A character of the template itself, since the stand-in is allowed everywhere.
			c.add(f.rule, finding.Error, e.at, "the text around the parameter breaks a rule: %s", f.message)
		}
	}
}

// standIn is a row with the same value for each parameter that has no default: "x" is allowed everywhere. partial
// reports that there was one.
func (c *checker) standIn(from []string, value string) (row map[string]string, partial bool) {
	row = map[string]string{}
	for _, name := range from {
		if _, ok := c.compiler.defaults[name]; !ok {
			row[name], partial = value, true
		}
	}
	return row, partial
}

// noResult notes a function that has none, either always or with the defaults of the parameters it is made from: those
// a row can replace.
func (c *checker) noResult(err error, from []string) {
	e, ok := errors.AsType[*finding.Finding](err)
	switch {
	case ok && len(from) == 0:
		c.add(ruleFunctionResult, finding.Error, pointerTo(e.Pointer), "%s", e.Message)
	case ok:
		c.add(ruleFunctionResult, finding.Warning, pointerTo(e.Pointer), "with the default: %s", e.Message)
	}
}

// calls checks the functions within a value.
func (c *checker) calls(v Value, at pointer) {
	walkCalls(v, at, func(call Call, at pointer) {
		if c.kind != Fleet && call.Function != fnRef {
			instead := "to work the value out beforehand and give it as a parameter"
			if c.kind == JITP { // which takes none
				instead = "to write the value out"
			}
			c.add(ruleFunctionUndocumented, finding.Warning, at, "AWS documents %s for fleet templates only, this is a %s template: safer is %s",
				call.Function, c.kind, instead)
		}
		switch call.Function {
		case fnFindInMap:
			args, _ := expand(call.Args).(List)
			if len(args) == 0 {
				return
			}
			name, ok := scalar(args[0])
			if _, exists := c.t.Mappings[name]; ok && !exists {
				c.add(ruleMappingMissing, finding.Error, at.index(0), "Mappings has no table %s%s", rule.Quote(name),
					didYouMean(name, c.mappingNames))
			}
			if c.usedMaps == nil {
				c.usedMaps = map[string]bool{}
			}
			if ok {
				c.usedMaps[name] = true
			} else { // any of them
				for table := range c.t.Mappings {
					c.usedMaps[table] = true
				}
			}
		case fnSub:
			if args, ok := expand(call.Args).(List); ok && len(args) == 1 {
				c.add(ruleFunctionShape, finding.Warning, at, `%s has a list of one: AWS documents a text, or a list of a text and its variables; `+
					`write the text without the brackets`, fnSub)
			}
			text, vars, textAt := subArgs(call.Args, at)
			for _, p := range parseSub(text) {
				_, own := vars[p.name]
				_, declared := c.t.Parameters[p.name]
				if p.name != "" && !own && !declared && strings.Contains(p.name, ":") && !strings.HasPrefix(p.name, pseudoPrefix) {
					c.add(ruleSubVariable, finding.Warning, textAt, "Fn::Sub would replace %s: to keep a policy variable, put the text "+
						"together with Fn::Join", rule.Quote("${"+p.name+"}"))
				}
			}
		}
	})
	walk(v, at, func(v Value, at pointer) {
		if o, ok := v.(Object); ok {
			for _, k := range sortedKeys(o) {
				if isFunction(k) {
					c.add(ruleFunctionSiblings, finding.Error, at.child(k), "%s stands beside other members; a function is alone in its object", k)
				}
			}
		}
	})
}

// references checks what the template refers to as a whole.
func (c *checker) references() {
	used := map[string]bool{}
	note := func(name string, at pointer) {
		used[name] = true
		c.reference(name, at)
	}
	for _, name := range c.parameterNames {
		walkRefs(c.t.Parameters[name].Default, pointerTo("/Parameters").child(name).child("Default"), note)
	}
	for _, name := range sortedKeys(c.t.Resources) {
		_, props := properties(c.t.Resources[name])
		for _, p := range props {
			walkRefs(p.value, pointerTo("/Resources").child(name).child("Properties").child(p.name), note)
		}
	}
	walkRefs(c.t.DeviceConfiguration, pointerTo("/DeviceConfiguration"), note)
	for _, name := range c.parameterNames {
		if !used[name] {
			message := "parameter %s is used nowhere"
			if c.kind == JITP && c.compiler.demanded(name) {
				message += ", and AWS demands every declared parameter all the same: a device whose certificate lacks it is not provisioned; " +
					"remove it, or give it a Default"
			}
			c.add(ruleParameterUnused, finding.Warning, pointerTo("/Parameters").child(name), message, rule.Quote(name))
		}
	}
	for _, table := range c.mappingNames {
		if !c.usedMaps[table] {
			c.add(ruleMappingUnused, finding.Warning, pointerTo("/Mappings").child(table), "no Fn::FindInMap uses the table %s", rule.Quote(table))
		}
	}
	c.cycles()
}

func (c *checker) reference(name string, at pointer) {
	_, declared := c.t.Parameters[name]
	_, isResource := c.t.Resources[name]
	quoted := rule.Quote(name)
	switch {
	case strings.HasPrefix(name, pseudoPrefix):
		switch known := slices.Contains(pseudoParameters, name); {
		case c.kind == JITP && !known:
			c.add(ruleRefPseudo, finding.Error, at, "AWS does not fill %s%s; it fills %s", quoted, didYouMean(name, pseudoParameters),
				strings.Join(pseudoParameters, ", "))
		case c.kind == Fleet && name != pseudoID:
			c.add(ruleRefPseudo, finding.Warning, at, "%s is filled for JITP templates; in fleet provisioning only %s is", quoted, pseudoID)
		case c.kind == Bulk:
			c.add(ruleRefPseudo, finding.Warning, at, "nothing fills %s in a bulk template: each row must give it", quoted)
		case !declared && name != pseudoID: // AWS's own examples leave the id undeclared
			c.add(ruleParameterUndeclared, finding.Warning, at, "%s is not declared under Parameters, as it is in AWS's examples", quoted)
		}
	case strings.HasPrefix(name, "AWS::") && !declared:
		c.add(ruleRefPseudo, finding.Error, at, "%s is CloudFormation's; AWS IoT answers that it cannot resolve the reference", quoted)
	case declared:
		if _, hasDefault := c.compiler.defaults[name]; c.kind == JITP && !hasDefault {
			c.add(ruleParameterUnfilled, finding.Error, at, "nothing fills parameter %s in a JITP template: AWS fills only those named %s…; "+
				"give it a Default", quoted, pseudoPrefix)
		}
	case isResource:
		c.add(ruleRefResource, finding.Error, at, "%s is a resource; what a reference to one becomes is not documented", quoted)
	default:
		severity := finding.Warning // a row may fill it all the same
		if c.kind == JITP {
			severity = finding.Error
		}
		c.add(ruleParameterUndeclared, severity, at, "parameter %s is not declared%s", quoted, didYouMean(name, c.parameterNames))
	}
}

// cycles finds references that go round: through Defaults, and between resources.
func (c *checker) cycles() {
	edges := map[string][]string{}
	at := map[string]pointer{}
	collect := func(from string, place pointer, v Value) {
		at[from] = place
		walkRefs(v, place, func(name string, _ pointer) {
			if _, ok := c.t.Parameters[name]; ok {
				edges[from] = append(edges[from], "parameter "+name)
			} else if _, ok := c.t.Resources[name]; ok {
				edges[from] = append(edges[from], "resource "+name)
			}
		})
	}
	for name, p := range c.t.Parameters {
		collect("parameter "+name, pointerTo("/Parameters").child(name), p.Default)
	}
	for name, r := range c.t.Resources {
		_, props := properties(r)
		for _, p := range props {
			collect("resource "+name, pointerTo("/Resources").child(name), p.value)
		}
	}
	var trail []string
	const onTrail, done = 1, 2
	state := map[string]int{}
	var visit func(n string)
	visit = func(n string) {
		switch state[n] {
		case onTrail:
			i := slices.Index(trail, n)
			c.add(ruleReferenceCycle, finding.Error, at[n], "references go round: %s", strings.Join(append(slices.Clone(trail[i:]), n), " → "))
			return
		case done:
			return
		}
		state[n], trail = onTrail, append(trail, n)
		for _, next := range slices.Compact(slices.Sorted(slices.Values(edges[n]))) {
			visit(next)
		}
		state[n], trail = done, trail[:len(trail)-1]
	}
	for _, n := range slices.Sorted(maps.Keys(edges)) {
		visit(n)
	}
}
