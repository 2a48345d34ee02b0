package main

import (
	"slices"
	"strings"
	"testing"
)

const sample = `package sample

import ("errors"; "fmt")

const limit = 3

func (t *thing) run(n int) (int, error) {
	defer t.close()
	if n < 1 && t.ok {
		return 0, fmt.Errorf("%d is less than %d", n, 1)
	}
	for i := range n {
		if i == 2 {
			continue
		}
		t.total += i
		t.log.Info("a line", "number", 7)
	}
	t.ok = false
	return min(n, limit), errors.New("5")
}

func (t *thing) String() string { return fmt.Sprint(t.total + 1) }
`

func TestEachStatementThatChangesBehaviourIsASite(t *testing.T) {
	sites, err := sitesOf("sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range sites {
		got = append(got, s.function+": "+s.change())
	}
	want := []string{
		"declaration: `3` → `4`",
		"thing.run: without `defer t.close()`",
		"thing.run: `n < 1 && t.ok` → `!(n < 1 && t.ok)`",
		"thing.run: `<` → `<=`",
		"thing.run: `1` → `2`",
		"thing.run: `&&` → `\\|\\|`",
		"thing.run: without `return 0, fmt.Errorf(\"%d is less than %d\", n, 1)`",
		"thing.run: `0` → `1`",
		"thing.run: `fmt.Errorf(\"%d is less than %d\", n, 1)` → `nil`",
		"thing.run: `i == 2` → `!(i == 2)`",
		"thing.run: `==` → `!=`",
		"thing.run: `2` → `3`",
		"thing.run: `continue` → `break`",
		"thing.run: without `continue`",
		"thing.run: without `t.total += i`",
		"thing.run: `t.ok = false` → `_ = false`",
		"thing.run: `false` → `true`",
		"thing.run: `min` → `max`",
		"thing.run: `errors.New(\"5\")` → `nil`",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestAChangeTouchesNothingElse(t *testing.T) {
	sites, err := sitesOf("sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sites {
		changed := string(s.apply([]byte(sample)))
		if want := strings.Replace(sample[s.start:], s.old, s.text, 1); changed != sample[:s.start]+want {
			t.Errorf("%s changes something else:\n%s", s.change(), changed)
		}
	}
}

func TestAFileThatCanNotBeParsedIsAnError(t *testing.T) {
	if _, err := sitesOf("sample.go", []byte("package")); err == nil {
		t.Error("there is no package name")
	}
}
