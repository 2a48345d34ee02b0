package template_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/template"
)

// FuzzParse checks that what parses means the same when written and parsed again, that errors have a place in the
// text, that nothing that comes after parsing panics, and that Check and CheckRow find what Compile and Resolve refuse.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.json")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range append(files, "testdata/walkthrough.json") {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, tc := range broken {
		f.Add([]byte(tc.src))
	}
	f.Add([]byte(good{attributes: `, "place": null`}.String()))
	f.Fuzz(func(t *testing.T, src []byte) {
		tm, err := template.Parse(src)
		if err != nil {
			e, ok := errors.AsType[*finding.Finding](err)
			if !ok || e.Offset < 0 || int(e.Offset) > len(src) || e.Line < 1 || e.Column < 1 || e.Message == "" {
				t.Fatalf("an error without a place: %#v", err)
			}
			return
		}
		text, err := tm.MarshalJSON()
		if err != nil {
			t.Fatalf("parsed and cannot be written: %v", err)
		}
		again, err := template.Parse(text)
		if err != nil {
			t.Fatalf("written as %s, which does not parse: %v", text, err)
		}
		if second, err := again.MarshalJSON(); err != nil || string(second) != string(text) {
			t.Fatalf("written as\n%s\nand then as\n%s\n%v", text, second, err)
		}
		// The meaning is that of the source, as encoding/json sees it. Templates in a wrapper are left to other tests.
		if plain := strings.TrimPrefix(string(src), "\ufeff"); !tm.Wrapped() && utf8.ValidString(plain) && json.Valid([]byte(plain)) {
			if want, got := canonical(t, []byte(plain)), canonical(t, text); want != got {
				t.Fatalf("the meaning changed:\n%s\n%s", want, got)
			}
		}
		for _, kind := range []template.Kind{template.Bulk, template.JITP, template.Fleet} {
			issues := tm.Check(kind)
			for _, i := range issues {
				if int(i.Offset) > len(src) || i.Rule == "" || i.Message == "" {
					t.Fatalf("odd issue %#v", i)
				}
				_ = i.String()
			}
			p, err := tm.Compile(template.CompileOptions{Kind: kind, AllowFunctions: true})
			if err != nil {
				e, ok := errors.AsType[*finding.Finding](err)
				if !ok {
					t.Fatalf("%T: %v", err, err)
				}
				if !slices.ContainsFunc(issues, func(i finding.Finding) bool { return i.Severity == finding.Error && i.Pointer == e.Pointer }) {
					t.Fatalf("Check does not find what Compile refuses: %v", err)
				}
				continue
			}
			row := map[string]string{}
			if _, err := p.Resolve(row); err == nil && len(p.Required()) > 0 {
				t.Fatalf("resolved without %q", p.Required())
			}
			for _, name := range p.Required() {
				row[name] = "0"
			}
			_, err = p.Resolve(row)
			if errors.Is(err, template.ErrMissingParameter) {
				t.Fatalf("all required parameters are there: %v", err)
			}
			found := slices.ContainsFunc(p.CheckRow(row), func(i finding.Finding) bool { return i.Severity == finding.Error })
			if err != nil && !found {
				t.Fatalf("CheckRow does not find why the row cannot be resolved: %v", err)
			}
		}
	})
}

// canonical is JSON with sorted keys and the last of duplicate members, numbers as written.
func canonical(t *testing.T, text []byte) string {
	out, err := json.Marshal(decoded(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
