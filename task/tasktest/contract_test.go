package tasktest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// interfaceDocs returns the doc comments of the interfaces in package task and of their methods, each as one line.
func interfaceDocs(t *testing.T) (docs []string) {
	for _, file := range []string{"../backend.go", "../ability.go", "../ca.go", "../resources.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		add := func(group *ast.CommentGroup) { docs = append(docs, strings.Join(strings.Fields(group.Text()), " ")) }
		for _, decl := range parsed.Decls {
			general, ok := decl.(*ast.GenDecl)
			if !ok || general.Tok != token.TYPE {
				continue
			}
			face, ok := general.Specs[0].(*ast.TypeSpec).Type.(*ast.InterfaceType)
			if !ok {
				continue
			}
			add(general.Doc)
			for _, method := range face.Methods.List {
				add(method.Doc)
			}
		}
	}
	return docs
}

var (
	quote    = regexp.MustCompile(`“(.*)”`)
	sentence = regexp.MustCompile(`[^.]*(?:\.[^ ][^.]*)*\.(?: |$)`)
)

func TestEveryExplanationQuotesTheDocumentation(t *testing.T) {
	all := strings.Join(interfaceDocs(t), "\n")
	names := map[string]bool{}
	for _, c := range tasktest.Cases() {
		assert.False(t, names[c.Name], "two cases are called %s", c.Name)
		names[c.Name] = true
		found := quote.FindStringSubmatch(c.Explanation)
		if assert.NotNil(t, found, c.Name) {
			assert.Contains(t, all, found[1], "%s quotes what is not there", c.Name)
		}
	}
}

func TestEveryPromiseOfTheDocumentationHasACase(t *testing.T) {
	var quotes []string
	for _, c := range tasktest.Cases() {
		quotes = append(quotes, quote.FindStringSubmatch(c.Explanation)[1])
	}
	promises := 0
	for _, doc := range interfaceDocs(t) {
		for _, s := range sentence.FindAllString(doc, -1) {
			s = strings.TrimSpace(s)
			if !strings.Contains(s, " must ") || strings.HasPrefix(s, "The sentences of these") {
				continue
			}
			promises++
			covered := false
			for _, q := range quotes {
				covered = covered || strings.Contains(s, q) || strings.Contains(q, s)
			}
			assert.True(t, covered, "no case defends: %s", s)
		}
	}
	assert.Greater(t, promises, 25, "the promises were found")
}

// TestRunOnABrokenBackend is not a test of its own: TestRunPrintsTheExplanationOfAFailingCase starts it.
func TestRunOnABrokenBackend(t *testing.T) {
	if os.Getenv("TASKTEST_BROKEN") == "" {
		t.Skip("started by TestRunPrintsTheExplanationOfAFailingCase only")
	}
	tasktest.Run(t, func(t *testing.T) tasktest.Harness {
		f := newFake(t)
		return f.wrapped(opening(deny)(f.backend))
	})
}

func TestRunPrintsTheExplanationOfAFailingCase(t *testing.T) {
	command := exec.Command(os.Args[0], "-test.run=^TestRunOnABrokenBackend$/^open$/^(refused|offset)$", "-test.v")
	command.Env = append(os.Environ(), "TASKTEST_BROKEN=1")
	output, err := command.CombinedOutput()
	require.Error(t, err, "the run must fail")
	text := string(output)
	assert.Contains(t, text, "--- FAIL: TestRunOnABrokenBackend/open/refused")
	assert.Contains(t, text, "The promise: Open: “An expired or refused link must return [ErrLinkExpired].”")
	assert.NotContains(t, text, "FAIL: TestRunOnABrokenBackend/open/offset")
}
