// Apilist writes the public API of every package of the module, a line for each exported name, field and method, to
// docs/api. The listing is under version control, so that a change of the API is seen in review.
//
//	go -C tools run ./apilist           # write the listing
//	go -C tools run ./apilist -check    # exit 1 and print the difference if it is not up to date
//	go -C tools run ./apilist -count    # print how many exported names each package has
//
// It reads declarations as text and compiles nothing. A method that a type gets by embedding is listed as the embedded
// type.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	root := flag.String("root", "..", "the module's folder")
	check := flag.Bool("check", false, "compare and write nothing")
	count := flag.Bool("count", false, "print the number of exported names of each package")
	flag.Parse()
	if err := run(*root, *check, *count); err != nil {
		fmt.Fprintln(os.Stderr, "apilist:", err)
		os.Exit(1)
	}
}

func run(root string, check, count bool) error {
	packages, err := publicPackages(root)
	if err != nil {
		return err
	}
	folder := filepath.Join(root, "docs", "api")
	want := map[string][]byte{}
	for _, dir := range packages {
		lines, names, err := exported(filepath.Join(root, dir))
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		if count {
			fmt.Printf("%4d %s\n", names, filepath.ToSlash(dir))
			continue
		}
		want[strings.ReplaceAll(filepath.ToSlash(dir), "/", ".")+".txt"] = []byte(strings.Join(lines, "\n") + "\n")
	}
	if count {
		return nil
	}
	if check {
		return compare(folder, want)
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for name, text := range want {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// publicPackages returns the folders, relative to root, of the packages that other modules can import.
func publicPackages(root string) (dirs []string, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() || path == root {
			return err
		}
		switch name := d.Name(); {
		case name == "internal", name == "testdata", name == "examples", name == "docs", strings.HasPrefix(name, "."):
			return fs.SkipDir
		}
		if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
			return fs.SkipDir // a module of its own
		}
		if _, err := build.ImportDir(path, 0); err == nil {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			dirs = append(dirs, rel)
		} else if _, none := errors.AsType[*build.NoGoError](err); !none {
			return err
		}
		return nil
	})
	return dirs, err
}

// exported returns the lines of a package, sorted, and how many package-level names it exports.
func exported(dir string) (lines []string, names int, err error) {
	pkg, err := build.ImportDir(dir, 0)
	if err != nil {
		return nil, 0, err
	}
	fset := token.NewFileSet()
	// The files of other systems count as well: the API is the same on each, or the listing shows that it is not.
	for _, name := range slices.Concat(pkg.GoFiles, pkg.IgnoredGoFiles) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, 0, err
		}
		if file.Name.Name != pkg.Name {
			continue // a program that is run by hand
		}
		for _, decl := range file.Decls {
			l := listing{fset: fset}
			l.decl(decl)
			lines, names = append(lines, l.lines...), names+l.names
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines), names, nil
}

type listing struct {
	fset  *token.FileSet
	lines []string
	names int
}

func (l *listing) add(format string, args ...any) {
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *listing) decl(decl ast.Decl) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if !d.Name.IsExported() {
			return
		}
		signature := strings.TrimPrefix(l.text(d.Type), "func")
		if d.Recv == nil {
			l.names++
			l.add("func %s%s", d.Name.Name, signature)
			return
		}
		if on := l.text(d.Recv.List[0].Type); ast.IsExported(strings.TrimLeft(on, "*")) {
			l.add("method (%s) %s%s", on, d.Name.Name, signature)
		}
	case *ast.GenDecl:
		var kind ast.Expr // of a constant that repeats the one before
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				l.typ(s)
			case *ast.ValueSpec:
				if s.Type != nil || len(s.Values) > 0 {
					kind = s.Type
				}
				l.values(d.Tok.String(), s, kind)
			}
		}
	}
}

func (l *listing) values(keyword string, s *ast.ValueSpec, kind ast.Expr) {
	for i, name := range s.Names {
		if !name.IsExported() {
			continue
		}
		l.names++
		line := keyword + " " + name.Name
		if kind != nil {
			line += " " + l.text(kind)
		}
		if keyword == "const" && i < len(s.Values) {
			line += " = " + l.text(s.Values[i])
		}
		l.add("%s", line)
	}
}

func (l *listing) typ(s *ast.TypeSpec) {
	if !s.Name.IsExported() {
		return
	}
	l.names++
	name := s.Name.Name
	head := "type " + name
	if s.TypeParams != nil {
		var params []string
		for _, p := range s.TypeParams.List {
			for _, n := range p.Names {
				params = append(params, n.Name+" "+l.text(p.Type))
			}
		}
		head += "[" + strings.Join(params, ", ") + "]"
	}
	if s.Assign.IsValid() {
		head += " ="
	}
	switch t := s.Type.(type) {
	case *ast.StructType:
		l.add("%s struct", head)
		l.members("field", name, t.Fields)
	case *ast.InterfaceType:
		l.add("%s interface", head)
		l.members("method", name, t.Methods)
	default:
		l.add("%s %s", head, l.text(s.Type))
	}
}

// members lists the fields of a struct or the methods of an interface.
func (l *listing) members(keyword, owner string, members *ast.FieldList) {
	for _, f := range members.List {
		if len(f.Names) == 0 {
			l.add("embed %s %s", owner, l.text(f.Type))
		}
		for _, n := range f.Names {
			if !n.IsExported() {
				continue
			}
			tag := ""
			if f.Tag != nil {
				tag = " " + f.Tag.Value
			}
			if keyword == "method" {
				l.add("method %s.%s%s", owner, n.Name, strings.TrimPrefix(l.text(f.Type), "func"))
				continue
			}
			l.add("field %s.%s %s%s", owner, n.Name, l.text(f.Type), tag)
		}
	}
}

// text writes a node on one line.
func (l *listing) text(node ast.Node) string {
	var b bytes.Buffer
	if err := format.Node(&b, l.fset, node); err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// compare reports every line that the listing in folder has too many or too few.
func compare(folder string, want map[string][]byte) error {
	changed := false
	have := map[string][]byte{}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if have[e.Name()], err = os.ReadFile(filepath.Join(folder, e.Name())); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range want {
			if !yield(name) {
				return
			}
		}
		for name := range have {
			if _, ok := want[name]; !ok && !yield(name) {
				return
			}
		}
	}) {
		old := strings.Split(strings.TrimSuffix(string(have[name]), "\n"), "\n")
		now := strings.Split(strings.TrimSuffix(string(want[name]), "\n"), "\n")
		for _, line := range old {
			if line != "" && !slices.Contains(now, line) {
				changed = true
				fmt.Printf("%s: - %s\n", name, line)
			}
		}
		for _, line := range now {
			if line != "" && !slices.Contains(old, line) {
				changed = true
				fmt.Printf("%s: + %s\n", name, line)
			}
		}
	}
	if changed {
		return errors.New("the public API is not as docs/api lists it; if the change is meant, run go -C tools run ./apilist, commit docs/api, and say it in CHANGELOG.md")
	}
	return nil
}
