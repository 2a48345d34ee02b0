package iam

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// plainly is what a session has to answer: every policy is evaluated for the request.
func plainly(s *Session, action, resource string) bool {
	decisions := make([]Decision, 0, len(s.documents))
	for _, d := range s.documents {
		decisions = append(decisions, d.Evaluate(Request{Principal: s.RoleARN, Action: action, Resource: resource, Context: s.context}))
	}
	return slices.Contains(decisions, Allow) && !slices.Contains(decisions, Deny)
}

// choices turns bytes into a session and the requests to it. At the end of the bytes the first of all is chosen.
type choices []byte

func (c *choices) below(n int) int {
	if len(*c) == 0 {
		return 0
	}
	first := int((*c)[0])
	*c = (*c)[1:]
	return first % n
}

func (c *choices) of(list ...string) string { return list[c.below(len(list))] }

func (c *choices) some(list ...string) []string {
	out := make([]string, 1+c.below(3))
	for i := range out {
		out[i] = c.of(list...)
	}
	return out
}

func (c *choices) action() string {
	return c.of("iot:CreateThing", "iot:creatething", "iot:AttachPolicy", "iot:CreateThingGroup", "s3:GetObject", "iot", "")
}

func (c *choices) resource() string {
	return c.of("*", "arn:aws:iot:us-east-1:1:thing/a", "arn:aws:iot:us-east-1:1:thing/b", "arn:aws:iot:us-east-1:1:thing/red", "arn:aws:iot:us-east-1:1:thing/r*d",
		"arn:aws:iot:us-east-1:1:thing/${aws:Team}", "arn:aws:s3:::fleet/ä", "arn:aws:s3:::fleet/\xff", "")
}

func (c *choices) statement() map[string]any {
	s := map[string]any{"Effect": c.of("Allow", "Allow", "Deny")}
	s[c.of("Action", "Action", "Action", "NotAction")] = c.some("iot:CreateThing", "*", "iot:*", "IOT:Create*", "iot:CreateThin?", "s3:GetObject", "sts:AssumeRole")
	if kind := c.of("Resource", "Resource", "Resource", "NotResource", ""); kind != "" {
		s[kind] = c.some("*", "**", "arn:aws:iot:us-east-1:1:thing/*", "arn:aws:iot:us-east-1:1:thing/a", "arn:aws:iot:*:*:thing/?", "arn:aws:s3:::fleet/?",
			"arn:aws:iot:*:*:thing/${aws:Team}", "arn:aws:iot:*:*:thing/${aws:None}", "arn:aws:iot:*:*:thing/${aws:None,'b'}", "arn:aws:iot:*:*:thing/${*}", "${aws:Any}", "${aws:None,''}")
	}
	if c.below(3) == 1 {
		s["Condition"] = map[string]any{c.of("StringEquals", "StringNotEquals", "StringLike", "StringEqualsIfExists", "ForAllValues:StringLike"): map[string]any{
			c.of("aws:Team", "AWS:TEAM", "aws:None", "aws:Any"): c.some("red", "r*", "*", "${aws:Team}")}}
	}
	switch c.below(12) {
	case 1:
		s["Principal"] = map[string]any{"AWS": c.some("1", "2", "*", "arn:aws:iam::1:role/r")}
	case 2:
		s["NotPrincipal"] = map[string]any{"AWS": c.some("1", "2", "arn:aws:iam::1:role/r")}
	}
	return s
}

func (c *choices) session(t *testing.T) *Session {
	s := &Session{RoleARN: c.of("arn:aws:iam::1:role/r", "arn:aws:iam::1:role/other"), context: map[string]string{"aws:Team": c.of("red", "r*d", "b"), "aws:Any": "*"}}
	for range 1 + c.below(3) {
		document := map[string]any{"Version": c.of("2012-10-17", "2012-10-17", "2008-10-17")}
		statements := make([]map[string]any, 1+c.below(3))
		for i := range statements {
			statements[i] = c.statement()
		}
		document["Statement"] = statements
		text, err := json.Marshal(document)
		require.NoError(t, err)
		s.documents = append(s.documents, mustParse(t, string(text)))
	}
	return s
}

// compare asks one session about several actions and resources, and counts the answers.
func (c *choices) compare(t *testing.T, allowed, refused *int) {
	s := c.session(t)
	for range 8 {
		action, resource := c.action(), c.resource()
		got, want := s.Allows(action, resource), plainly(s, action, resource)
		if got != want {
			for _, d := range s.documents {
				t.Logf("%s: %+v", d.Version, d.Statements)
			}
			t.Fatalf("%s on %q with %v as %s: %v, and the policies themselves say %v", action, resource, s.context, s.RoleARN, got, want)
		}
		if got {
			*allowed++
		} else {
			*refused++
		}
	}
}

func TestASessionAnswersAsItsPoliciesDo(t *testing.T) {
	random := rand.NewChaCha8([32]byte{7})
	var allowed, refused int
	for range 5000 {
		c := make(choices, 120)
		random.Read(c)
		c.compare(t, &allowed, &refused)
	}
	assert.Greater(t, allowed, 5000, "too few of the requests are allowed to compare anything")
	assert.Greater(t, refused, 5000, "too few are refused")
}

// FuzzAllows checks that what a session remembers of an action makes no difference.
func FuzzAllows(f *testing.F) {
	f.Add([]byte("one policy of one statement"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var allowed, refused int
		(*choices)(&raw).compare(t, &allowed, &refused)
	})
}

func TestASessionMayBeAskedByManyAtOnce(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.PutRolePolicy("registration", "read", readFleet))
	session, err := s.Assume(roleARN, "iot.amazonaws.com", nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				assert.True(t, session.Allows("s3:GetObject", "arn:aws:s3:::fleet/a"))
				assert.False(t, session.Allows("s3:GetObject", "arn:aws:s3:::other/a"))
			}
		})
	}
	wg.Wait()
}
