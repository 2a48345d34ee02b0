package template_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/template"
)

// ask answers questions about device-one of a template.
func ask(t *testing.T, p *template.Permissions, tm *template.Template, questions ...string) []template.Answer {
	t.Helper()
	program, err := tm.Compile(template.CompileOptions{})
	require.NoError(t, err)
	row := map[string]string{"ThingName": "device-one", "SerialNumber": "s-1", "CSR": "-"}
	r, err := program.Resolve(row)
	require.NoError(t, err)
	var list []template.Question
	for _, text := range questions {
		q, err := template.ParseQuestion(text)
		require.NoError(t, err)
		list = append(list, q)
	}
	return p.May(r, func(field string) (string, bool) { v, ok := row[field]; return v, ok }, list...)
}

func here() *template.Permissions {
	return &template.Permissions{Partition: "aws", Region: "us-east-1", Account: "111122223333"}
}

func TestTheWalkthroughsDevicesMayPublishAndNotConnect(t *testing.T) {
	got := ask(t, here(), template.Walkthrough(), "connect", "publish:dt/{ThingName}/{SerialNumber}", "subscribe:cmd/{ThingName}/#")
	assert.Equal(t, []template.Answer{
		{template.Question{"iot:Connect", "device-one"}, template.Refused, "no statement of the template's resource policy allows it"},
		{template.Question{"iot:Publish", "dt/device-one/s-1"}, template.Allowed, "statement 1 of the template's resource policy allows it"},
		{template.Question{"iot:Subscribe", "cmd/device-one/#"}, template.Refused, "no statement of the template's resource policy allows it"},
	}, got)
}

func TestDevicesWithOwnTopicsMayConnect(t *testing.T) {
	tm := template.Walkthrough()
	tm.Resources["policy"] = template.Policy{PolicyDocument: template.OwnTopics("aws", "us-east-1", "111122223333")}
	for question, want := range map[string]string{
		"connect":                             "allowed",
		"connect:device-two":                  "refused",
		"publish:devices/{ThingName}/state":   "allowed",
		"publish:devices/device-two/state":    "refused",
		"retain:devices/{ThingName}/state":    "refused",
		"subscribe:devices/{ThingName}/#":     "allowed",
		"receive:devices/{ThingName}/command": "allowed",
		"GetThingShadow:{ThingName}":          "refused",
		"publish:devices/{Site}/state":        "refused",
	} {
		got := ask(t, here(), tm, question)[0]
		assert.EqualValues(t, want, got.Decision, "%s: %s", question, got.Why)
	}
	got := ask(t, here(), tm, "publish:devices/device-two/state")[0]
	assert.Equal(t, "no statement of the template's resource policy allows it", got.Why)
	got = ask(t, here(), tm, "connect:other", "publish:devices/device-one/state")[1]
	assert.Equal(t, template.Refused, got.Decision, "with another client id the variables of the thing have no value")
	got = ask(t, here(), tm, "publish:devices/{Site}/state")[0]
	assert.Equal(t, "there is no value for {Site}", got.Why)

	elsewhere := here()
	elsewhere.Region = "eu-central-1"
	assert.Equal(t, template.Refused, ask(t, elsewhere, tm, "connect")[0].Decision)
}

func TestPoliciesOfTheAccountAreReadWhereTheyCanBe(t *testing.T) {
	const allow = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	const denial = `{"Version":"2012-10-17","Statement":[{"Sid":"Secret","Effect":"Deny","Action":"iot:Publish","Resource":"*:topic/secret"}]}`
	tm := template.FromCSR(template.Policy{PolicyName: template.Literal("pumps")})
	thing := tm.Resources["thing"].(template.Thing)
	thing.ThingGroups = template.List{template.Literal("line")}
	tm.Resources["thing"] = thing
	one := func(p *template.Permissions, question string) template.Answer { return ask(t, p, tm, question)[0] }

	p := here()
	got := one(p, "connect")
	assert.Equal(t, template.Undecided, got.Decision)
	assert.Equal(t, "depends on the policy pumps, which was not read and on the policies of the thing group line, which were not read", got.Why)

	reads := 0
	p.ReadPolicy = func(name string) (string, error) {
		reads++
		return map[string]string{"pumps": allow, "site": denial}[name], nil
	}
	p.GroupPolicies = func(group string) ([]string, error) {
		assert.Equal(t, "line", group)
		reads++
		return []string{"site", "pumps"}, nil
	}
	got = one(p, "connect")
	assert.Equal(t, template.Answer{template.Question{"iot:Connect", "device-one"}, template.Allowed, "statement 1 of the policy pumps allows it"}, got)
	got = one(p, "publish:secret")
	assert.Equal(t, template.Refused, got.Decision)
	assert.Equal(t, "statement 1 (Sid Secret) of the policy site of the thing group line denies it", got.Why)
	assert.Equal(t, template.Allowed, ask(t, p, tm, "connect:other", "publish:secret")[1].Decision, "another client is not the thing, which is in the group")
	assert.Equal(t, 3, reads, "each is asked for once")

	p = here()
	p.GroupPolicies = func(string) ([]string, error) { return nil, errors.New("no permission") }
	p.ReadPolicy = func(string) (string, error) { return denial, nil }
	got = one(p, "connect")
	assert.Equal(t, "depends on the policies of the thing group line, which were not read: no permission", got.Why)
	assert.Equal(t, template.Refused, one(p, "publish:secret").Decision, "a denial is a denial whatever else there is")
}

func TestAPolicyThatWasNotReadMayDenyWhatAnotherAllows(t *testing.T) {
	tm := template.Walkthrough()
	tm.Resources["more"] = template.Policy{PolicyName: template.Literal("pumps")}
	got := ask(t, here(), tm, "publish:a")[0]
	assert.Equal(t, template.Undecided, got.Decision)
	assert.Equal(t, "depends on the policy pumps, which was not read", got.Why)
}

func TestRetainingAMessageTakesPublishingToo(t *testing.T) {
	tm := template.Walkthrough()
	tm.Resources["policy"] = template.Policy{PolicyDocument: template.Literal(`{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":"iot:RetainPublish","Resource":"*"},{"Effect":"Allow","Action":"iot:Publish","Resource":"*:topic/both"}]}`)}
	got := ask(t, here(), tm, "retain:both", "retain:one")
	assert.Equal(t, template.Answer{template.Question{"iot:RetainPublish", "both"}, template.Allowed, "statement 1 of the template's resource policy allows it"}, got[0])
	assert.Equal(t, template.Answer{template.Question{"iot:RetainPublish", "one"}, template.Refused, "it takes iot:Publish, too: no statement of the template's resource policy allows it"}, got[1])
}

func TestOverHTTPAThingsVariablesHaveNoValue(t *testing.T) {
	tm := template.Walkthrough()
	tm.Resources["policy"] = template.Policy{PolicyDocument: template.Literal(`{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":["iot:GetThingShadow","iot:Publish"],"Resource":"arn:aws:iot:*:*:*/${iot:Connection.Thing.ThingName}"},` +
		`{"Effect":"Allow","Action":"iot:UpdateThingShadow","Resource":"arn:aws:iot:*:*:thing/device-*"}]}`)}
	var got []template.Decision
	for _, a := range ask(t, here(), tm, "publish:{ThingName}", "GetThingShadow:{ThingName}", "UpdateThingShadow:{ThingName}") {
		got = append(got, a.Decision)
	}
	assert.Equal(t, []template.Decision{template.Allowed, template.Refused, template.Allowed}, got)
}

func TestWhatDependsOnTheCertificateIsUndecided(t *testing.T) {
	tm := template.Walkthrough()
	tm.Resources["policy"] = template.Policy{PolicyDocument: template.Literal(`{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":"iot:Connect","Resource":"*","Condition":{"StringEquals":{"iot:Certificate.Subject.CommonName":"x"}}}]}`)}
	got := ask(t, here(), tm, "connect")[0]
	assert.Equal(t, template.Undecided, got.Decision)
	assert.Equal(t, "statement 1 of the template's resource policy may allow it: that depends on the certificate, or on how the device connects", got.Why)

	tm.Resources["certificate"] = template.Certificate{CertificateSigningRequest: template.Ref("CSR"), Status: template.Inactive}
	assert.Equal(t, "the certificate will be INACTIVE", ask(t, here(), tm, "connect")[0].Why)
	assert.Equal(t, template.Refused, ask(t, here(), template.WithoutCertificate(), "connect")[0].Decision)
}

func TestQuestionsAreReadAndWritten(t *testing.T) {
	for text, want := range map[string]string{
		"connect": "connect", " Connect ": "connect", "iot:connect:a": "connect:a", "PUBLISH:a/b": "publish:a/b", "subscribe:a/+/#": "subscribe:a/+/#",
		"retain:a": "retain:a", "iot:RetainPublish:a": "retain:a", "publish:a:b": "publish:a:b", "ListRetainedMessages": "ListRetainedMessages",
		"iotjobsdata:DescribeJobExecution:a": "DescribeJobExecution:a", "iot:GetPendingJobExecutions:a": "GetPendingJobExecutions:a",
		"getthingshadow:{ThingName}/s": "GetThingShadow:{ThingName}/s",
	} {
		q, err := template.ParseQuestion(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, q.String())
		again, err := template.ParseQuestion(q.String())
		require.NoError(t, err)
		assert.Equal(t, q, again)
	}
	q, err := template.ParseQuestion("DescribeJobExecution:a")
	require.NoError(t, err)
	assert.Equal(t, "iotjobsdata:DescribeJobExecution", q.Action)
	for text, want := range map[string]string{
		"":               "no action that AWS documents",
		"publsh:a":       "did you mean \"Publish\"",
		"publish":        "does not say on what: write publish:topic/…",
		"publish:":       "does not say on what",
		"publish:a/+":    "no topic's name has",
		"receive:#":      "no topic's name has",
		"subscribe:{a/b": "a { without }",
		"sns:Publish:a":  "no action that AWS documents",
	} {
		_, err := template.ParseQuestion(text)
		assert.ErrorContains(t, err, want, text)
	}
}

func FuzzParseQuestion(f *testing.F) {
	f.Add("publish:dt/{ThingName}/x")
	f.Add("iot:connect:{")
	f.Fuzz(func(t *testing.T, text string) {
		q, err := template.ParseQuestion(text)
		if err != nil {
			return
		}
		again, err := template.ParseQuestion(q.String())
		require.NoError(t, err)
		require.Equal(t, q, again)
	})
}
