package awsbackend

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// caPEM names a CA; nobody looks into it.
const caPEM = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"

// TestAnAnswerWithoutItsMembersIsNoAnswer asks a server that answers {} with status 200 to everything.
func TestAnAnswerWithoutItsMembersIsNoAnswer(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		op, answer string
		ask        func(*Backend) error
		missing    string
	}{
		"a thing":         {"DescribeThing", `{}`, func(b *Backend) error { _, err := b.ReadDevice(ctx, "d1"); return err }, "thingName"},
		"a thing's ARN":   {"DescribeThing", `{"thingName":"d1"}`, func(b *Backend) error { _, err := b.ReadDevice(ctx, "d1"); return err }, "thingArn"},
		"a certificate":   {"DescribeCertificate", `{}`, func(b *Backend) error { _, err := b.ReadCertificate(ctx, certA); return err }, "certificateId"},
		"a CA":            {"DescribeCACertificate", `{}`, func(b *Backend) error { _, err := b.ReadCA(ctx, caPEM); return err }, "certificateId"},
		"its PEM":         {"DescribeCertificate", `{"certificateDescription":{"certificateId":"a","certificateArn":"arn","status":"ACTIVE"}}`, func(b *Backend) error { _, err := b.ReadCertificate(ctx, certA); return err }, "certificatePem"},
		"a task":          {describeOp, `{}`, func(b *Backend) error { _, err := b.DescribeTask(ctx, "id-1"); return err }, "taskId"},
		"a task's status": {describeOp, `{"taskId":"id-1"}`, func(b *Backend) error { _, err := b.DescribeTask(ctx, "id-1"); return err }, "status"},
		"the endpoint":    {endpointOp, `{}`, func(b *Backend) error { _, err := b.DataEndpoint(ctx); return err }, "endpointAddress"},
		"a registration":  {"RegisterThing", `{}`, func(b *Backend) error { _, err := b.RegisterThing(ctx, registerInput); return err }, "resourceArns"},
		"a start":         {startOp, `{}`, func(b *Backend) error { _, err := b.StartTask(ctx, startInput); return err }, "taskId"},
	} {
		t.Run(name, func(t *testing.T) {
			b, w := onWire(t, answers{c.op: reply(200, c.answer)})
			err := c.ask(b)
			require.ErrorIs(t, err, task.ErrNotService)
			assert.ErrorContains(t, err, "the answer has no "+c.missing)
			assert.Equal(t, 1, w.count(c.op), "asking again would bring the same")
			if c.op == "RegisterThing" || c.op == startOp {
				assert.ErrorIs(t, err, task.ErrOutcomeUnknown)
				assert.False(t, task.Refused(err), "the request was carried out, perhaps")
			}
		})
	}
}

// TestAnEmptyAnswerWithoutARequestIDIsNoAnswer: what may be empty when AWS answers must come from AWS.
func TestAnEmptyAnswerWithoutARequestIDIsNoAnswer(t *testing.T) {
	ctx := t.Context()
	thing := reply(200, `{"thingName":"d1","thingArn":"arn"}`)
	certificate := reply(200, `{"certificateDescription":{"certificateId":"`+certA+`","certificateArn":"arn","certificatePem":"pem","status":"ACTIVE"}}`)
	for op, ask := range map[string]func(*Backend) error{
		"ListThingPrincipals": func(b *Backend) error { _, err := b.ReadDevice(ctx, "d1"); return err },
		listOp: func(b *Backend) error {
			_, err := b.ListTasks(ctx, &task.ListInput{})
			return err
		},
		"StopThingRegistrationTask": func(b *Backend) error { return b.StopTask(ctx, "id-1") },
		"ListCertificates": func(b *Backend) (err error) {
			for _, err = range b.ListCertificates(ctx, time.Time{}) {
			}
			return err
		},
		"UpdateCertificate": func(b *Backend) error { _, err := b.RetireCertificate(ctx, "d1", certA); return err },
	} {
		t.Run(op, func(t *testing.T) {
			other := answers{"DescribeThing": thing, "DescribeCertificate": certificate}
			for _, op := range []string{"ListThingGroupsForThing", "DetachThingPrincipal", "ListPrincipalThings", "ListAttachedPolicies", "DeleteCertificate"} {
				other[op] = reply(200, `{}`)
			}
			other[op] = func(*request) *http.Response { return response(200, `{}`) }
			b, _ := onWire(t, other)
			require.ErrorIs(t, ask(b), task.ErrNotService)
			other[op] = func(*request) *http.Response { return response(200, `{}`, "X-Amzn-RequestId", "r") }
			b, _ = onWire(t, other)
			assert.NotErrorIs(t, ask(b), task.ErrNotService, "an empty list of AWS's may be left out")
		})
	}
}

func TestPreflightTakesNoEmptyAnswerForAThingThatExists(t *testing.T) {
	for op, in := range map[string]*task.PreflightInput{
		"DescribeThingType":    {ThingTypes: []string{"nope"}},
		"DescribeThingGroup":   {ThingGroups: []string{"nope"}},
		"DescribeBillingGroup": {BillingGroups: []string{"nope"}},
		"GetPolicy":            {Policies: []string{"nope"}},
	} {
		t.Run(op, func(t *testing.T) {
			b, _ := onWire(t, answers{op: reply(200, `{}`)})
			p := &preflight{b: b, in: in}
			for _, step := range []func(context.Context) error{p.thingTypes, p.thingGroups, p.billingGroups, p.policies} {
				if err := step(t.Context()); err != nil {
					require.ErrorIs(t, err, task.ErrNotService)
					assert.Empty(t, p.findings)
					return
				}
			}
			t.Error("nobody noticed")
		})
	}
}
