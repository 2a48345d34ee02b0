package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

// naive decides in the plainest way: it puts values in place of variables, as text in which a value's own * and ? are
// marked, and tries every way a pattern can match.
func naive(statements []naiveStatement, values map[string]string, action, resource string) (allowed, denied bool) {
	for _, s := range statements {
		if !naiveMatch([]rune(strings.ToLower(s.action)), []rune(strings.ToLower(action))) {
			continue
		}
		pattern, ok := naiveFill(s.resource, values)
		if !ok || naiveMatch(pattern, []rune(resource)) == s.not {
			continue
		}
		if s.key != "" && values[s.key] != s.value {
			continue
		}
		allowed, denied = allowed || !s.deny, denied || s.deny
	}
	return allowed && !denied, denied
}

type naiveStatement struct {
	deny, not        bool
	action, resource string
	key, value       string // of a StringEquals condition
}

func (s naiveStatement) json() string {
	member, effect, condition := "Resource", "Allow", ""
	if s.not {
		member = "NotResource"
	}
	if s.deny {
		effect = "Deny"
	}
	if s.key != "" {
		condition = `,"Condition":{"StringEquals":{"` + s.key + `":"` + s.value + `"}}`
	}
	return `{"Effect":"` + effect + `","Action":"` + s.action + `","` + member + `":"` + s.resource + `"` + condition + `}`
}

const (
	markedStar     = '\ue001'
	markedQuestion = '\ue002'
)

func naiveFill(text string, values map[string]string) (out []rune, ok bool) {
	for {
		before, rest, found := strings.Cut(text, "${")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return append(out, []rune(text)...), true
		}
		value, ok := values[name]
		if !ok {
			return nil, false
		}
		out = append(out, []rune(before)...)
		out = append(out, []rune(strings.NewReplacer("*", string(markedStar), "?", string(markedQuestion)).Replace(value))...)
		text = after
	}
}

func naiveMatch(pattern, text []rune) bool {
	if len(pattern) == 0 {
		return len(text) == 0
	}
	switch pattern[0] {
	case '*':
		if len(pattern) > 1 && pattern[1] == '*' { // the same, and each more would take as many times longer
			return naiveMatch(pattern[1:], text)
		}
		return naiveMatch(pattern[1:], text) || len(text) > 0 && naiveMatch(pattern, text[1:])
	case '?':
		return len(text) > 0 && naiveMatch(pattern[1:], text[1:])
	case markedStar:
		return len(text) > 0 && text[0] == '*' && naiveMatch(pattern[1:], text[1:])
	case markedQuestion:
		return len(text) > 0 && text[0] == '?' && naiveMatch(pattern[1:], text[1:])
	}
	return len(text) > 0 && text[0] == pattern[0] && naiveMatch(pattern[1:], text[1:])
}

// FuzzDecide makes policies, a device and a question of a fuzzer's bytes, and compares the decision with the naive one.
func FuzzDecide(f *testing.F) {
	f.Add([]byte("a seed of no meaning, long enough for two statements and a topic"))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23})
	words := []string{
		"*", "?", "a", "b", "/", "+", "#", "é", "${iot:ClientId}", "${iot:Connection.Thing.ThingName}", "${iot:Connection.Thing.ThingTypeName}",
		"${iot:CertificateId}", "*a", "a*",
	}
	plain := []string{"a", "b", "/", "+", "#", "*", "?", "é", "aa", "$"}
	actions := []string{"iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:RetainPublish", "iot:GetThingShadow"}
	patterns := slices.Concat(actions, []string{"iot:*", "*", "iot:p*", "IOT:PUBLISH", "iot:?ublish", "s3:*"})
	types := map[string]string{"iot:Connect": "client/", "iot:Subscribe": "topicfilter/", "iot:GetThingShadow": "thing/"}
	starts := []string{exampleARN + "topic/", exampleARN + "client/", exampleARN + "topicfilter/", exampleARN + "*/", "*", "arn:aws:iot:*:*:topic/", exampleARN}
	f.Fuzz(func(t *testing.T, data []byte) {
		next := func(n int) int {
			if len(data) == 0 {
				return 0
			}
			v := int(data[0]) % n
			data = data[1:]
			return v
		}
		text := func(from []string, most int) string {
			var b strings.Builder
			for range next(most + 1) {
				b.WriteString(from[next(len(from))])
			}
			return b.String()
		}
		d := atExample(policy.Device{ClientID: "c" + text(plain, 3)})
		values := map[string]string{"iot:ClientId": d.ClientID}
		if next(2) == 0 {
			d.Thing = &policy.Thing{Name: "t" + text(plain, 3)}
			values["iot:Connection.Thing.ThingName"] = d.Thing.Name
			if d.Thing.Type = text(plain, 2); d.Thing.Type != "" {
				values["iot:Connection.Thing.ThingTypeName"] = d.Thing.Type
			}
		}
		var statements []naiveStatement
		var documents []*policy.Document
		for range 1 + next(4) {
			s := naiveStatement{
				deny: next(3) == 0, not: next(5) == 0, action: patterns[next(len(patterns))], resource: starts[next(len(starts))] + text(words, 5),
			}
			if next(4) == 0 {
				s.key, s.value = "iot:Connection.Thing.ThingTypeName", "a"
			}
			statements = append(statements, s)
			documents = append(documents, mustParse(t, document(s.json())))
		}
		action, name := actions[next(len(actions))], text(plain, 6)
		kind, ok := types[action]
		if !ok {
			kind = "topic/"
		}
		allowed, denied := naive(statements, values, action, exampleARN+kind+name)
		got := policy.NewConnection(d).Decide(action, name, documents...)
		require.Equal(t, []bool{allowed, denied}, []bool{got.Allowed(), got.Denied()}, "%s on %q as %+v with %+v: %s", action, name, d, statements, got)
	})
}
