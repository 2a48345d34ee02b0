package fakebackend

import (
	"encoding/json"
	"maps"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// RegisterThing.
//
// Models: one device by the same template and the same steps as a line of a task, with the errors the operation
// declares. No role is involved: the caller's own permissions apply, and those are not modelled.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterThing.html

var registerThingOperations = []*operation{
	operationOf("RegisterThing", "POST /things", (*account).registerThing),
}

type registerThingInput struct {
	TemplateBody string            `json:"templateBody" is:"TemplateBody" required:"true"`
	Parameters   map[string]string `json:"parameters" is:"Parameter,Value"`
}

type registerThingOutput struct {
	CertificatePem string            `json:"certificatePem,omitempty"`
	ResourceARNs   map[string]string `json:"resourceArns"`
}

// registerThing registers one device.
func (b *account) registerThing(now time.Time, in *registerThingInput) (*registerThingOutput, *task.Error) {
	if !json.Valid([]byte(in.TemplateBody)) {
		return nil, refuse(codeInvalidRequest, "Invalid registration template. The template is not valid JSON.")
	}
	program, err := b.compile(in.TemplateBody)
	if err != nil {
		return nil, refuse(codeInvalidRequest, "%s", err)
	}
	w := worker{b: b, at: now}
	if err := b.faults.line(StepParse, 0, in.Parameters["ThingName"]); err != nil {
		return nil, declared(err)
	}
	made, refusal := w.register(program, in.Parameters)
	if refusal != nil {
		return nil, declared(refusal)
	}
	out := &registerThingOutput{ResourceARNs: make(map[string]string)}
	if made.certificate != nil {
		out.CertificatePem = made.certificate.pem()
	}
	maps.Insert(out.ResourceARNs, b.arns(made))
	return out, nil
}

// declared turns the refusal of a step into one of the errors that RegisterThing declares, with the same text.
func declared(err *task.Error) *task.Error {
	switch err.Code {
	case codeInternalFailure, codeUnavailable, codeInvalidRequest, codeUnauthorized, codeThrottling:
		return err
	case codeResourceConflicts:
		return refuse(codeConflictingUpdate, "%s", err.Message)
	}
	return refuse(codeRegistrationFailure, "%s", err.Message)
}
