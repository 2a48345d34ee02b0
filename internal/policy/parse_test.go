package policy_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/policy"
)

func TestADocumentIsReadWhole(t *testing.T) {
	d := mustParse(t, `{"Version":"2012-10-17","Id":"fleet","Statement":[
		{"Sid":"Trust","Effect":"Allow","Principal":{"Service":["iot.amazonaws.com","ec2.amazonaws.com"],"AWS":"*"},"Action":"sts:AssumeRole"},
		{"Effect":"Deny","NotPrincipal":"*","NotAction":["s3:*"],"NotResource":"arn:aws:s3:::b/*","Condition":{"Bool":{"aws:SecureTransport":[true,"false"]}}}]}`)
	assert.Equal(t, "2012-10-17", d.Version)
	assert.Equal(t, "fleet", d.ID)
	require.Len(t, d.Statements, 2)
	trust, other := d.Statements[0], d.Statements[1]
	assert.Equal(t, "Trust", trust.SID)
	assert.Equal(t, policy.Allow, trust.Effect)
	assert.Equal(t, policy.Principals{"Service": {"iot.amazonaws.com", "ec2.amazonaws.com"}, "AWS": {"*"}}, trust.Principals)
	assert.Equal(t, []string{"sts:AssumeRole"}, trust.Actions)
	assert.Nil(t, trust.Resources)
	assert.Equal(t, 1, other.Index)
	assert.Equal(t, policy.Deny, other.Effect)
	assert.Equal(t, policy.Principals{"AWS": {"*"}}, other.NotPrincipals)
	assert.Equal(t, []string{"s3:*"}, other.NotActions)
	assert.Equal(t, []string{"arn:aws:s3:::b/*"}, other.NotResources)
	require.Len(t, other.Conditions, 1)
	assert.Equal(t, "Bool", other.Conditions[0].Operator)
	assert.Equal(t, "aws:SecureTransport", other.Conditions[0].Key)
	assert.Equal(t, []string{"true", "false"}, other.Conditions[0].Values)
}

func TestEveryProblemIsReportedWithItsPlace(t *testing.T) {
	const good = `"Action":"s3:GetObject","Resource":"*"`
	for text, want := range map[string]policy.Problem{
		``:                            {Kind: policy.NotJSON, Statement: -1, Offset: 0, Message: "the policy document is not JSON: unexpected end of JSON input"},
		`{`:                           {Kind: policy.NotJSON, Statement: -1, Offset: 0},
		`{"Statement": [1, }`:         {Kind: policy.NotJSON, Statement: -1, Offset: 18},
		`{} {}`:                       {Kind: policy.NotJSON, Statement: -1, Offset: 3},
		`[]`:                          {Kind: policy.NotObject, Statement: -1, Message: "the policy document must be a JSON object, this is a list"},
		`{"Statement":[]}`:            {Kind: policy.NoStatement, Statement: -1, Offset: 13, Message: "the policy document has no Statement"},
		`{"Statement":null}`:          {Kind: policy.NoStatement, Statement: -1},
		`{"Version":"2012-10-17"}`:    {Kind: policy.NoStatement, Statement: -1},
		`{"version":"2012-10-17"}`:    {Kind: policy.UnknownMember, Statement: -1, Name: "version", Offset: 1},
		`{"Statement":"iot:Connect"}`: {Kind: policy.NotObject, Offset: 13, Message: "the Statement of the policy must be an object, this is a string"},
		`{"Version":"2020-01-01","Statement":{}}`:                                                 {Kind: policy.UnknownVersion, Statement: -1, Name: "2020-01-01", Offset: 11},
		`{"Version":2012,"Statement":{}}`:                                                         {Kind: policy.WrongType, Statement: -1, Name: "Version", Offset: 11},
		`{"Statement":[{"Effect":"allow",` + good + `}]}`:                                         {Kind: policy.NoEffect, Name: "allow", Offset: 24, Message: `statement 1 of the policy has the Effect "allow": it must be Allow or Deny`},
		`{"Statement":[{"Effect":["Allow"],` + good + `}]}`:                                       {Kind: policy.NoEffect, Offset: 24},
		`{"Statement":[{` + good + `}]}`:                                                          {Kind: policy.NoEffect, Offset: 14},
		`{"Statement":[{"Effect":"Deny","Resource":"*"}]}`:                                        {Kind: policy.NoAction, Offset: 14, Message: "statement 1 of the policy has no Action"},
		`{"Statement":[{"Effect":"Deny","Action":[],"Resource":"*"}]}`:                            {Kind: policy.NoAction, Offset: 14},
		document(allow(good), deny(`"Action":[7],"Resource":"*"`)):                                {Kind: policy.WrongType, Statement: 1, Name: "Action", Message: "statement 2 of the policy: Action must be a string or a list of strings, here is a number"},
		document(allow(good), deny(`"Action":"a:b","Resource":["*",{}]`)):                         {Kind: policy.WrongType, Statement: 1, Name: "Resource"},
		document(allow(`"Action":"s3:*","NotAction":"s3:*"`)):                                     {Kind: policy.Exclusive, Name: "Action"},
		document(allow(good + `,"NotResource":"*"`)):                                              {Kind: policy.Exclusive, Name: "Resource"},
		document(allow(good + `,"Principal":"*","NotPrincipal":"*"`)):                             {Kind: policy.Exclusive, Name: "Principal"},
		document(allow(good + `,"Resources":"*"`)):                                                {Kind: policy.UnknownMember, Name: "Resources"},
		document(allow(good + `,"Resource":"x"`)):                                                 {Kind: policy.RepeatedMember, Name: "Resource", Message: `statement 1 of the policy has "Resource" twice; the last one counts`},
		document(allow(good + `,"Principal":"iot.amazonaws.com"`)):                                {Kind: policy.WrongPrincipal, Name: "iot.amazonaws.com"},
		document(allow(good + `,"Principal":{"service":"x"}`)):                                    {Kind: policy.WrongPrincipal, Name: "service"},
		document(allow(good + `,"Principal":{"Service":[7]}`)):                                    {Kind: policy.WrongPrincipal, Name: "Service"},
		document(allow(good + `,"Principal":{}`)):                                                 {Kind: policy.WrongPrincipal},
		document(allow(good + `,"Condition":{"StringMatches":{"a":"b"}}`)):                        {Kind: policy.UnknownOperator, Name: "StringMatches"},
		document(allow(good + `,"Condition":{"NullIfExists":{"a":"true"}}`)):                      {Kind: policy.UnknownOperator, Name: "NullIfExists"},
		document(allow(good + `,"Condition":{"StringEquals":{"a":[]}}`)):                          {Kind: policy.ConditionNoValue, Name: "a"},
		document(allow(good + `,"Condition":{"StringEquals":{"a":{}}}`)):                          {Kind: policy.WrongType, Name: "a"},
		document(allow(good + `,"Condition":{"StringEquals":"a"}`)):                               {Kind: policy.WrongType, Name: "Condition"},
		document(allow(good + `,"Condition":[]`)):                                                 {Kind: policy.WrongType, Name: "Condition"},
		document(`{"Sid":"a","Effect":"Allow",`+good+`}`, `{"Sid":"a","Effect":"Deny",`+good+`}`): {Kind: policy.RepeatedSID, Statement: 1, Name: "a"},
	} {
		d, problems := policy.Parse(text)
		require.NotNil(t, d)
		require.NotEmpty(t, problems, text)
		got := problems[0]
		assert.Equal(t, want.Kind, got.Kind, text)
		assert.Equal(t, want.Statement, got.Statement, text)
		assert.Equal(t, want.Name, got.Name, text)
		assert.NotEmpty(t, got.Message, text)
		if want.Offset != 0 {
			assert.Equal(t, want.Offset, got.Offset, text)
		}
		if want.Message != "" {
			assert.Equal(t, want.Message, got.Message, text)
		}
	}
}

func TestWhatCanBeReadIsReadInSpiteOfProblems(t *testing.T) {
	d, problems := policy.Parse(`{"Statement":[7,{"Effect":"Allow","Action":["iot:*",7],"Resource":"*","Sids":"x"}]}`)
	assert.Len(t, problems, 3)
	require.Len(t, d.Statements, 1)
	assert.Equal(t, 1, d.Statements[0].Index, "the statement keeps its place")
	assert.True(t, policy.Evaluate(policy.Request{Action: "iot:Connect"}, d).Allowed())
}

func TestWhiteSpaceDoesNotCountInTheSize(t *testing.T) {
	assert.Equal(t, 9, policy.Size("{ \"ä\" :\n\t\"\u00a0b\" }"))
}

// FuzzParse checks that documents of any kind are read, that one without problems is JSON, and that a denial of
// everything wins over it.
func FuzzParse(f *testing.F) {
	f.Add(`{"Statement":{"Effect":"Allow","Principal":{"Service":"iot.amazonaws.com"},"Action":"sts:AssumeRole"}}`, "s3:GetObject", "arn:aws:s3:::b/k", "v")
	f.Add(document(allow(`"Action":"s3:*","Resource":"arn:${aws:a}*?","Condition":{"ForAllValues:StringLikeIfExists":{"aws:a":["${aws:a}","*"]},"DateLessThan":{"aws:a":"1"}}`)), "s3:GetObject", "arn:*", "2026-01-01")
	f.Add(document(deny(`"NotAction":"*","NotResource":"*","Principal":{"AWS":"123456789012"}`)), "a", "b", `\*`)
	f.Add(document(allow(`"Action":"*","Resource":"*","Condition":{"ArnNotLike":{"aws:a":["*:*:?","::::::"]},"NotIpAddress":{"aws:a":"::/0"}}`)), "a", "b", `1:2:3:4:5:6`)
	everything, _ := policy.Parse(document(deny(`"Action":"*","Resource":"*"`)))
	f.Fuzz(func(t *testing.T, text, action, resource, value string) {
		d, problems := policy.Parse(text)
		for _, p := range problems {
			if p.Offset < 0 || p.Offset > len(text) || p.Kind == "" || p.Message == "" {
				t.Fatalf("%q: problem %+v", text, p)
			}
		}
		if len(problems) == 0 && !json.Valid([]byte(text)) {
			t.Fatal("it is no JSON")
		}
		r := policy.Request{Principal: "iot.amazonaws.com", Action: action, Resource: resource,
			Context: policy.Values{"aws:a": {value}, "aws:SourceArn": {value, action}}}
		first := policy.Evaluate(r, d)
		if second := policy.Evaluate(r, d); !reflect.DeepEqual(first, second) {
			t.Fatal("it decides one way and then another")
		}
		if first.Undecided {
			t.Fatal("a whole request is undecided")
		}
		if !policy.Evaluate(r, d, everything).Denied() {
			t.Fatal("a denial did not win")
		}
		// To know less can only take a decision back.
		r.Context, r.Partial = nil, true
		if less := policy.Evaluate(r, d); !less.Undecided && less.Effect != first.Effect {
			t.Fatalf("%q: %v of a partial request, %v with all keys", text, less, first)
		}
	})
}
