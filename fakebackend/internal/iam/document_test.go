package iam

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const walkthroughTrust = `{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "",
      "Effect": "Allow",
      "Principal": { "Service": "iot.amazonaws.com" },
      "Action": "sts:AssumeRole"
    }
  ]
}`

// document is a document of one statement with these members besides its effect.
func document(effect, members string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"` + effect + `",` + members + `}}`
}

func TestADocumentThatIAMWouldRefuseIsRefused(t *testing.T) {
	good := `"Action":"s3:GetObject","Resource":"*"`
	for text, want := range map[string]string{
		``:                         "This policy contains invalid Json",
		`{`:                        "This policy contains invalid Json",
		`{"Statement":[]}`:         "Syntax errors in policy: the policy document has no Statement",
		`[]`:                       "Syntax errors in policy: the policy document must be a JSON object, this is a list",
		`{} {}`:                    "This policy contains invalid Json",
		`{"version":"2012-10-17"}`: `Syntax errors in policy: the policy document has "version", which AWS does not document for policies`,
		`{"Version":"2020-01-01","Statement":{}}`:                                                            `Syntax errors in policy: the version "2020-01-01" of the policy document is neither 2012-10-17 nor 2008-10-17`,
		`{"Statement":{"Effect":"allow",` + good + `}}`:                                                      `Syntax errors in policy: the Statement of the policy has the Effect "allow": it must be Allow or Deny`,
		document("Allow", `"Action":"s3:GetObject","Resource":"fleet/*"`):                                    `Resource fleet/* must be in ARN format or "*". (statement 1)`,
		document("Allow", `"Action":"GetObject","Resource":"*"`):                                             "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. (statement 1)",
		document("Allow", `"Resource":"*"`):                                                                  "Policy statement must contain actions. (statement 1)",
		document("Allow", `"Action":[1],"Resource":"*"`):                                                     "Syntax errors in policy: the Statement of the policy: Action must be a string or a list of strings, here is a number",
		document("Allow", `"Action":null,"Resource":"*"`):                                                    "Policy statement must contain actions. (statement 1)",
		document("Allow", `"Action":"s3:*","NotAction":"s3:*"`):                                              "Syntax errors in policy: the Statement of the policy has both Action and NotAction",
		document("Allow", good+`,"Resources":"*"`):                                                           `Syntax errors in policy: the Statement of the policy has "Resources", which AWS does not document for policies`,
		document("Allow", good+`,"Resource":"*"`):                                                            `Syntax errors in policy: the Statement of the policy has "Resource" twice; the last one counts`,
		document("Allow", good+`,"Principal":"iot.amazonaws.com"`):                                           `Invalid principal in policy: "iot.amazonaws.com" (statement 1)`,
		document("Allow", good+`,"Principal":{"service":"x"}`):                                               `Invalid principal in policy: "service" (statement 1)`,
		document("Allow", good+`,"Condition":{"StringMatches":{"a":"b"}}`):                                   "Invalid Condition type : StringMatches (statement 1)",
		document("Allow", good+`,"Condition":{"StringEquals":{"a":[]}}`):                                     `Syntax errors in policy: the Statement of the policy: the condition "StringEquals" "a" has no value`,
		document("Allow", good+`,"Condition":{"StringEquals":{"a":{}}}`):                                     `Syntax errors in policy: the Statement of the policy: the values of condition "StringEquals" "a" must be strings, here is an object`,
		document("Allow", good+`,"Condition":[]`):                                                            "Syntax errors in policy: the Statement of the policy: Condition must be an object of operators, here is a list",
		`{"Statement":[{"Sid":"a","Effect":"Allow",` + good + `},{"Sid":"a","Effect":"Deny",` + good + `}]}`: "Statement IDs (SID) in a single policy must be unique.",
	} {
		_, err := Parse(text)
		var refusal *Error
		require.ErrorAs(t, err, &refusal, text)
		assert.Equal(t, "MalformedPolicyDocument", refusal.Code)
		assert.Equal(t, 400, refusal.Status)
		assert.Equal(t, want, refusal.Message, text)
	}
}
