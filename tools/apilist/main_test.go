package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const source = `package p

import "io"

const (
	First Kind = iota
	Second
	hidden
)

var ErrNone = io.EOF

type Kind int

type Box[T any] struct {
	io.Reader
	Name string ` + "`json:\"name\"`" + `
	size int
}

func (b *Box[T]) Open(name string) (io.Reader, error) { return nil, nil }
func (b *Box[T]) close()                              {}

type Lid interface {
	io.Closer
	Lift(by int) error
}

type inner struct{ Field int }

func (inner) Method() {}

func Make(n int,
	more ...string) *Box[int] { return nil }
`

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestTheListingHasEveryExportedNameAndNoOther(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "p.go"), source)
	write(t, filepath.Join(dir, "p_test.go"), "package p\n\nfunc Exported() {}\n")
	lines, names, err := exported(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"const First Kind = iota",
		"const Second Kind",
		"embed Box io.Reader",
		"embed Lid io.Closer",
		"field Box.Name string `json:\"name\"`",
		"func Make(n int, more ...string) *Box[int]",
		"method (*Box[T]) Open(name string) (io.Reader, error)",
		"method Lid.Lift(by int) error",
		"type Box[T any] struct",
		"type Kind int",
		"type Lid interface",
		"var ErrNone",
	}
	if !slices.Equal(lines, want) {
		t.Errorf("lines:\n%s\nwant:\n%s", strings.Join(lines, "\n"), strings.Join(want, "\n"))
	}
	if names != 7 {
		t.Errorf("%d names, want 7", names)
	}
}

func TestCheckFailsOnEveryChangeOfTheAPI(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "box", "box.go")
	write(t, filepath.Join(dir, "go.mod"), "module m\n")
	write(t, file, "package box\n\nfunc Make() {}\n")
	write(t, filepath.Join(dir, "box", "internal", "hidden", "hidden.go"), "package hidden\n\nfunc Hidden() {}\n")
	if err := run(dir, false, false); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true, false); err != nil {
		t.Errorf("nothing changed, but: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Join(dir, "docs", "api")); len(entries) != 1 {
		t.Errorf("%d files, want that of package box alone", len(entries))
	}
	for name, text := range map[string]string{
		"a new name":      "package box\n\nfunc Make() {}\nfunc More() {}\n",
		"a name gone":     "package box\n",
		"a new parameter": "package box\n\nfunc Make(n int) {}\n",
	} {
		write(t, file, text)
		if err := run(dir, true, false); err == nil {
			t.Errorf("%s: check passed", name)
		}
	}
}
