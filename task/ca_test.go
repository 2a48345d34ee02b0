package task_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

func TestWhichRegisteredCASuits(t *testing.T) {
	const role, other = "arn:aws:iam::123456789012:role/jitp", "arn:aws:iam::123456789012:role/other"
	jitp := task.CAInput{AutoRegister: true, TemplateBody: `{"Resources": {}}`, RoleARN: role}
	for name, c := range map[string]struct {
		in   task.CAInput
		ca   task.CA
		text string // of the refusal; "" if it suits
	}{
		"for tasks":             {ca: task.CA{Active: true}},
		"inactive":              {ca: task.CA{}, text: "INACTIVE"},
		"no registration":       {in: task.CAInput{AutoRegister: true}, ca: task.CA{Active: true}, text: "newAutoRegistrationStatus ENABLE"},
		"registration":          {in: task.CAInput{AutoRegister: true}, ca: task.CA{Active: true, AutoRegister: true, SNIOnly: true}},
		"a template not wanted": {in: task.CAInput{AutoRegister: true}, ca: task.CA{Active: true, AutoRegister: true, TemplateName: "x"}, text: "none was asked for"},
		"its template":          {in: jitp, ca: task.CA{Active: true, AutoRegister: true, TemplateBody: `{"Resources":{}}`, RoleARN: role}},
		"another template":      {in: jitp, ca: task.CA{Active: true, AutoRegister: true, TemplateBody: `{}`, RoleARN: role}, text: "another template"},
		"another role":          {in: jitp, ca: task.CA{Active: true, AutoRegister: true, TemplateBody: `{"Resources":{}}`, RoleARN: other}, text: other},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.in.Suits(&c.ca)
			if c.text == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, task.ErrConflict)
			assert.ErrorContains(t, err, c.text)
		})
	}
}
