package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// site is one possible change: the bytes from start to end become text.
type site struct {
	pkg, path, file string
	line            int
	function        string
	start, end      int
	old, text       string
}

func (s site) apply(src []byte) []byte {
	return slices.Concat(src[:s.start], []byte(s.text), src[s.end:])
}

func (s site) String() string {
	return fmt.Sprintf("%s:%d %s: %s", s.file, s.line, s.function, s.change())
}

// change shows the change as a cell of a Markdown table.
func (s site) change() string {
	show := func(text string) string {
		text = strings.Join(strings.Fields(text), " ")
		if r := []rune(text); len(r) > 80 {
			text = string(r[:60]) + " … " + string(r[len(r)-15:])
		}
		return "`" + strings.ReplaceAll(text, "|", `\|`) + "`"
	}
	if s.text == "" {
		return "without " + show(s.old)
	}
	return show(s.old) + " → " + show(s.text)
}

// sitesOf finds what can be changed in a file, in the order of the code. What can't change behaviour is left out by
// rule: texts of errors and logs, sizes given to make, and methods that only print.
func sitesOf(path string, src []byte) ([]site, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	c := &collector{fset: fset, src: src}
	for _, decl := range file.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Body != nil && !slices.Contains([]string{"Error", "String", "GoString", "LogValue", "Format"}, d.Name.Name) {
				c.function, c.results = name(d), d.Type.Results
				ast.Inspect(d.Body, c.visit)
			}
		case *ast.GenDecl:
			c.function = "declaration"
			if d.Tok == token.CONST || d.Tok == token.VAR {
				ast.Inspect(d, c.visit)
			}
		}
	}
	slices.SortStableFunc(c.sites, func(a, b site) int { return a.start - b.start })
	return c.sites, nil
}

func name(d *ast.FuncDecl) string {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if star, ok := t.(*ast.StarExpr); ok {
		t = star.X
	}
	if index, ok := t.(*ast.IndexExpr); ok {
		t = index.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

type collector struct {
	fset     *token.FileSet
	src      []byte
	function string
	results  *ast.FieldList
	sites    []site
}

func (c *collector) offset(p token.Pos) int { return c.fset.Position(p).Offset }

func (c *collector) source(n ast.Node) string {
	return string(c.src[c.offset(n.Pos()):c.offset(n.End())])
}

func (c *collector) replace(n ast.Node, text string) { c.edit(n.Pos(), n.End(), text) }

func (c *collector) edit(from, to token.Pos, text string) {
	start, end := c.offset(from), c.offset(to)
	c.sites = append(c.sites, site{
		line: c.fset.Position(from).Line, function: c.function, start: start, end: end, old: string(c.src[start:end]), text: text,
	})
}

// instead holds what an operator becomes.
var instead = map[token.Token]token.Token{
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.EQL: token.NEQ, token.NEQ: token.EQL,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL,
	token.AND: token.OR, token.OR: token.AND, token.SHL: token.SHR, token.SHR: token.SHL,
}

func (c *collector) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		return c.call(n)
	case *ast.FuncLit:
		outer := c.results
		c.results = n.Type.Results
		ast.Inspect(n.Body, c.visit)
		c.results = outer
		return false
	case *ast.IfStmt:
		c.replace(n.Cond, "!("+c.source(n.Cond)+")")
		c.lastReturn(n.Body.List)
	case *ast.CaseClause:
		c.lastReturn(n.Body)
	case *ast.BinaryExpr:
		if to, ok := instead[n.Op]; ok {
			c.edit(n.OpPos, n.OpPos+token.Pos(len(n.Op.String())), to.String())
		}
	case *ast.BasicLit:
		if v, err := strconv.ParseInt(n.Value, 0, 64); n.Kind == token.INT && err == nil {
			c.replace(n, strconv.FormatInt(v+1, 10))
		}
	case *ast.Ident:
		switch n.Name {
		case "true":
			c.replace(n, "false")
		case "false":
			c.replace(n, "true")
		}
	case *ast.ExprStmt:
		if call, ok := n.X.(*ast.CallExpr); ok && !onlyText(call) {
			c.replace(n, "")
		}
	case *ast.DeferStmt:
		c.replace(n, "")
		if lit, ok := n.Call.Fun.(*ast.FuncLit); ok {
			ast.Inspect(lit, c.visit)
		}
		return false
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			c.replace(n, c.unused(n))
		}
	case *ast.IncDecStmt:
		c.replace(n, "")
	case *ast.BranchStmt:
		c.branch(n)
	case *ast.ReturnStmt:
		c.returned(n)
	}
	return true
}

// unused is what is left of an assignment that is dropped: its right side, so that no variable is unused.
func (c *collector) unused(n *ast.AssignStmt) string {
	if len(n.Rhs) != 1 || n.Tok != token.ASSIGN {
		return ""
	}
	left := strings.TrimSuffix(strings.Repeat("_, ", len(n.Lhs)), ", ")
	if all := c.source(n)[:c.offset(n.TokPos)-c.offset(n.Pos())]; strings.TrimSpace(all) == left {
		return "" // the assignment only calls something
	}
	return left + " = " + c.source(n.Rhs[0])
}

// call looks into a call unless it only makes a text, or room.
func (c *collector) call(n *ast.CallExpr) bool {
	if onlyText(n) {
		return false
	}
	if id, ok := n.Fun.(*ast.Ident); ok {
		switch id.Name {
		case "make":
			return false
		case "min":
			c.replace(id, "max")
		case "max":
			c.replace(id, "min")
		}
	}
	return true
}

// onlyText reports whether a call makes an error or a line of a log.
func onlyText(call *ast.CallExpr) bool {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		id, ok := call.Fun.(*ast.Ident)
		return ok && id.Name == "panic"
	}
	switch sel.Sel.Name {
	case "Errorf", "Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "LogAttrs":
		return true
	case "New":
		id, ok := sel.X.(*ast.Ident)
		return ok && id.Name == "errors"
	}
	return false
}

// lastReturn lets a block go on where it returns.
func (c *collector) lastReturn(body []ast.Stmt) {
	if len(body) == 0 {
		return
	}
	if ret, ok := body[len(body)-1].(*ast.ReturnStmt); ok {
		c.replace(ret, "")
	}
}

// returned puts nil in the place of an error that is returned.
func (c *collector) returned(n *ast.ReturnStmt) {
	if c.results == nil || len(n.Results) == 0 {
		return
	}
	types := c.results.List
	if id, ok := types[len(types)-1].Type.(*ast.Ident); !ok || id.Name != "error" || len(n.Results) != c.results.NumFields() {
		return
	}
	last := n.Results[len(n.Results)-1]
	if id, ok := last.(*ast.Ident); ok && id.Name == "nil" {
		return
	}
	c.replace(last, "nil")
}

func (c *collector) branch(n *ast.BranchStmt) {
	switch {
	case n.Label != nil || n.Tok == token.FALLTHROUGH || n.Tok == token.GOTO:
		return
	case n.Tok == token.BREAK:
		c.replace(n, "continue")
	default:
		c.replace(n, "break")
	}
	c.replace(n, "")
}
