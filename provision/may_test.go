package provision_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/provision"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/template"
)

// three are the devices of AWS's walkthrough.
func three() []map[string]string {
	var rows []map[string]string
	for _, name := range []string{"device-one", "device-two", "device-three"} {
		rows = append(rows, map[string]string{"ThingName": name, "SerialNumber": "s-" + name})
	}
	return rows
}

func TestADryRunTellsThatTheWalkthroughsDevicesCantConnect(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.Template = template.Walkthrough()
	w.opts.May = []string{"publish:dt/{ThingName}/{SerialNumber}"}
	report, err := w.run(t).Check(t.Context(), provision.Rows(three()...))
	require.NoError(t, err)
	assert.False(t, report.OK())
	require.Equal(t, []provision.MayCount{
		{Question: "connect", Refused: 3}, {Question: "publish:dt/{ThingName}/{SerialNumber}", Allowed: 3},
	}, report.May.Questions, "connecting is asked first")
	require.Len(t, report.May.Devices, 3)
	two := report.May.Devices[1]
	assert.Equal(t, "device-two", two.Name)
	assert.Equal(t, "no statement of the template's resource policy allows it", two.Answers[0].Why)
	assert.Equal(t, "dt/device-two/s-device-two", two.Answers[1].Question.On)
	assert.Equal(t, strings.TrimSpace(`
may           connect    publish:dt/{ThingName}/{SerialNumber}
device-one    refused    allowed
device-two    refused    allowed
device-three  refused    allowed
all devices   3 refused  3 allowed
connect: device-one is refused: no statement of the template's resource policy allows it
publish:dt/{ThingName}/{SerialNumber}: device-one is allowed: statement 1 of the template's resource policy allows it
`), strings.TrimSpace(report.May.String()))

	who, err := w.fake.Identity(t.Context())
	require.NoError(t, err)
	tm := template.Walkthrough()
	tm.Resources["policy"] = template.Policy{PolicyDocument: template.OwnTopics(who.Partition, who.Region, who.Account)}
	w.opts.Template, w.opts.May = tm, []string{"connect", "publish:devices/{ThingName}/state", "subscribe:devices/{ThingName}/#"}
	report, err = w.run(t).Check(t.Context(), provision.Rows(three()...))
	require.NoError(t, err)
	assert.True(t, report.OK(), report.May)
	for _, q := range report.May.Questions {
		assert.EqualValues(t, 3, q.Allowed, q.Question)
	}

	w.opts.May = nil
	report, err = w.run(t).Check(t.Context(), provision.Rows(three()...))
	require.NoError(t, err)
	assert.Nil(t, report.May)
}

func TestADryRunReadsThePoliciesThatTheTemplateNames(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	who, err := w.fake.Identity(t.Context())
	require.NoError(t, err)
	w.opts.Template = template.FromCSR(template.Policy{PolicyName: template.Literal("pumps")})
	w.opts.May = []string{"publish:devices/{ThingName}/state"}
	devices := provision.Rows(map[string]string{"ThingName": "pump-1"}, map[string]string{"ThingName": "pump-2"})
	check := func() *provision.CheckReport {
		report, err := w.run(t).Check(t.Context(), devices)
		require.NoError(t, err)
		return report
	}
	report := check()
	assert.EqualValues(t, 2, report.May.Questions[0].Undecided)
	assert.Contains(t, report.May.Devices[0].Answers[0].Why, "depends on the policy pumps, which was not read: ")

	_, err = awsIoT(w.fake).CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: new("pumps"),
		PolicyDocument: new(string(template.OwnTopics(who.Partition, who.Region, who.Account)))})
	require.NoError(t, err)
	report = check()
	assert.EqualValues(t, 2, report.May.Questions[1].Allowed)
	assert.Equal(t, "statement 2 of the policy pumps allows it", report.May.Devices[0].Answers[1].Why)

	// A backend that can't read policies, and one that can't tell the account.
	w.opts.Backend = struct {
		task.Backend
		task.Identifier
	}{w.fake, w.fake}
	assert.Equal(t, "depends on the policy pumps, which was not read", check().May.Devices[0].Answers[0].Why)
	w.opts.Backend = struct{ task.Backend }{w.fake}
	report = check()
	assert.EqualValues(t, 2, report.May.Questions[0].Undecided)
	assert.Contains(t, report.May.Devices[0].Answers[0].Why, "depends on the account and region")
	assert.True(t, report.OK(), "what is not known is no refusal")
}

func TestADryRunReadsAFewPoliciesOnly(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	tm := template.FromCSR(template.Policy{PolicyName: template.Ref("Policy")})
	tm.Parameters["Policy"] = template.Parameter{Type: "String"}
	w.opts.Template, w.opts.May = tm, []string{"connect"}
	var rows []map[string]string
	for i := range 60 {
		name := fmt.Sprintf("p-%d", i)
		_, err := awsIoT(w.fake).CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: &name,
			PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`)})
		require.NoError(t, err)
		rows = append(rows, map[string]string{"ThingName": name, "Policy": name})
	}
	report, err := w.run(t).Check(t.Context(), provision.Rows(rows...))
	require.NoError(t, err)
	assert.Equal(t, []provision.MayCount{{Question: "connect", Allowed: 50, Undecided: 10}}, report.May.Questions)
	require.Len(t, report.May.Devices, 13, "three, and those with another answer")
	assert.Contains(t, report.May.Devices[12].Answers[0].Why, "only 50 policies and groups are read")
}

func TestAQuestionThatCantBeReadIsRefusedAtOnce(t *testing.T) {
	w := newWorld(t, fakebackend.Options{})
	w.opts.May = []string{"publsh:a"}
	_, err := provision.New(w.opts)
	assert.ErrorContains(t, err, "Options.May")
	assert.ErrorContains(t, err, "publsh")
}
