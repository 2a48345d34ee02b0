package awsbackend

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

func answer(d policy.Decision) string {
	switch {
	case d.Undecided:
		return "undecided"
	case d.Allowed():
		return "allowed"
	case d.Denied():
		return "denied"
	}
	return "nothing"
}

func TestPoliciesAreJudgedAsIAMDoes(t *testing.T) {
	const object = "arn:aws:s3:::fleet-bucket/in/part-1.json"
	for name, c := range map[string]struct {
		doc  string
		want string
	}{
		"exact":              {`{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket/in/*"}]}`, "allowed"},
		"one statement":      {`{"Statement":{"Effect":"Allow","Action":["s3:Get*"],"Resource":["*"]}}`, "allowed"},
		"case of the action": {`{"Statement":{"Effect":"Allow","Action":"S3:getobject","Resource":"*"}}`, "allowed"},
		"case of resources":  {`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::Fleet-Bucket/*"}}`, "nothing"},
		"another prefix":     {`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket/out/*"}}`, "nothing"},
		"the bucket itself":  {`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::fleet-bucket"}}`, "nothing"},
		"not action":         {`{"Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`, "allowed"},
		"not that action":    {`{"Statement":{"Effect":"Allow","NotAction":"s3:*","Resource":"*"}}`, "nothing"},
		"not resource":       {`{"Statement":{"Effect":"Allow","Action":"*","NotResource":"arn:aws:s3:::other/*"}}`, "allowed"},
		"under a condition":  {`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":true}}}}`, "undecided"},
		"denied":             {`{"Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "denied"},
		"perhaps denied": {`{"Statement":[{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}},
			{"Effect":"Allow","Action":"*","Resource":"*"}]}`, "undecided"},
		"variable":           {`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::fleet-bucket/${aws:userid}/*"}}`, "undecided"},
		"variable elsewhere": {`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::home/${aws:userid}/*"}}`, "nothing"},
		"unknown operator":   {`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"NewEquals":{"aws:new":"x"}}}}`, "undecided"},
		"unknown members":    {`{"New":1,"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","New":[]}}`, "allowed"},
		"empty":              {`{}`, "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parsePolicy(c.doc)
			require.NoError(t, err)
			assert.Equal(t, c.want, answer(roleMay([]*policy.Document{p}, "s3:GetObject", object)))
		})
	}
}

func FuzzPolicyDocumentsOfAnyKindAreRead(f *testing.F) {
	f.Add(walkthroughTrust)
	f.Add(`{"Statement":{"Principal":"*","Condition":{"Bool":{"a":true}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parsePolicy(text)
		if err != nil {
			return
		}
		v := answer(roleMay([]*policy.Document{p}, "s3:GetObject", "arn:aws:s3:::b/k"))
		if len(p.Statements) == 0 && v != "nothing" {
			t.Fatalf("%q has no statement and says %v", text, v)
		}
		// Who is let in and nobody else: then a new trust policy cuts nobody off.
		if answer(trusts(p, "1")) == "nothing" && answer(trusts(p, "")) == "nothing" && suffices(p, "") {
			t.Fatalf("%q lets nobody in and suffices", text)
		}
	})
}

func TestTrustIsJudgedForTheAccountThatIsKnown(t *testing.T) {
	const guarded = `{"Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:SourceAccount":"123456789012"}}}}`
	const open = `{"Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}}`
	const perhapsDenied = `{"Statement":[{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"},
		{"Effect":"Deny","Principal":"*","Action":"sts:*","Condition":{"Bool":{"aws:SecureTransport":false}}}]}`
	for _, c := range []struct {
		doc, account, want       string
		enough, enoughForAccount bool
	}{
		{guarded, "123456789012", "allowed", true, true},
		{guarded, "999999999999", "nothing", true, false},
		{guarded, "", "undecided", true, true},
		{open, "123456789012", "allowed", true, false},
		{perhapsDenied, "123456789012", "undecided", true, false},
		{`{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}}`, "123456789012", "nothing", false, false},
		{`{"Statement":{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}`, "123456789012", "nothing", false, false},
	} {
		p, err := parsePolicy(c.doc)
		require.NoError(t, err)
		assert.Equal(t, c.want, answer(trusts(p, c.account)), "%s for %s", c.doc, c.account)
		assert.Equal(t, c.enough, suffices(p, ""), c.doc)
		if c.account != "" {
			assert.Equal(t, c.enoughForAccount, suffices(p, c.account), "%s for %s", c.doc, c.account)
		}
	}
}
