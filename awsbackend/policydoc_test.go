package awsbackend

import (
	"regexp"
	"strings"
	"testing"

	"github.com/seed1ff6f450/iotfleet/internal/partition"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPoliciesAreJudgedAsIAMDoes(t *testing.T) {
	const object = "arn:aws:s3:::fleet-bucket/in/part-1.json"
	for name, c := range map[string]struct {
		doc  string
		want verdict
	}{
		"exact":              {`{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket/in/*"}]}`, allowed},
		"one statement":      {`{"Statement":{"Effect":"Allow","Action":["s3:Get*"],"Resource":["*"]}}`, allowed},
		"case of the action": {`{"Statement":{"Effect":"Allow","Action":"S3:getobject","Resource":"*"}}`, allowed},
		"case of resources":  {`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::Fleet-Bucket/*"}}`, silent},
		"another prefix":     {`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket/out/*"}}`, silent},
		"the bucket itself":  {`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket"}}`, silent},
		"not action":         {`{"Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`, allowed},
		"not that action":    {`{"Statement":{"Effect":"Allow","NotAction":"s3:*","Resource":"*"}}`, silent},
		"not resource":       {`{"Statement":{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::other/*"}}`, allowed},
		"under a condition":  {`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true}}}}`, conditional},
		"denied":             {`{"Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, denied},
		"perhaps denied": {`{"Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},
			{"Effect":"Allow","Action":"*","Resource":"*"}]}`, conditional},
		"empty": {`{}`, silent},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parsePolicy(c.doc)
			require.NoError(t, err)
			assert.Equal(t, c.want, allows([]*policy{p}, "s3:GetObject", object))
		})
	}
}

func FuzzWildcardAgreesWithRegexp(f *testing.F) {
	f.Add("arn:aws:s3:::b/*", "arn:aws:s3:::b/in/x")
	f.Add("*a*b?", "xxaxbz")
	f.Add("**", "")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 12 || strings.ContainsFunc(pattern+s, func(r rune) bool { return r > 126 }) {
			return
		}
		re := regexp.QuoteMeta(pattern)
		re = strings.ReplaceAll(strings.ReplaceAll(re, `\*`, `.*`), `\?`, `.`)
		want := regexp.MustCompile(`(?s)^` + re + `$`).MatchString(s)
		if got := wildcard(pattern, s); got != want {
			t.Fatalf("wildcard(%q, %q) = %v", pattern, s, got)
		}
	})
}

func FuzzPolicyDocumentsOfAnyKindAreRead(f *testing.F) {
	f.Add(walkthroughTrust)
	f.Add(`{"Statement":{"Principal":"*","Condition":{"Bool":{"a":true}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePolicy(text)
		if err != nil {
			return
		}
		v := allows([]*policy{p}, "s3:GetObject", "arn:aws:s3:::b/k")
		if len(p.Statement) == 0 && v != silent {
			t.Fatalf("%q has no statement and says %v", text, v)
		}
		// Who is let in and nobody else: then a new trust policy cuts nobody off.
		if p.trusts(partition.IoT, "1") == silent && len(p.trustedBeside(partition.IoT)) == 0 && p.suffices("") {
			t.Fatalf("%q lets nobody in and suffices", text)
		}
	})
}
