package fakebackend

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
)

// RegisterThing.
//
// Models: one device by the same template and the same steps as a line of a task, with the errors the operation declares.
// No role is involved: the caller's own permissions apply, and those are not modelled.
//
// AWS: https://docs.aws.amazon.com/iot/latest/apireference/API_RegisterThing.html

const opRegisterThing = "RegisterThing"

// RegisterThingInput is the request of RegisterThing.
type RegisterThingInput struct {
	TemplateBody string            `json:"templateBody"`
	Parameters   map[string]string `json:"parameters,omitempty"`
}

// RegisterThingOutput is the answer to RegisterThing.
type RegisterThingOutput struct {
	CertificatePem string            `json:"certificatePem,omitempty"`
	ResourceARNs   map[string]string `json:"resourceArns"`
}

// RegisterThing registers one device.
func (b *IoT) RegisterThing(ctx context.Context, in *RegisterThingInput) (*RegisterThingOutput, error) {
	in = orZero(in)
	check := func(c *checker) {
		c.need("templateBody", in.TemplateBody, shapeTemplateBody)
		c.keysAndValues("parameters", in.Parameters, shapeParameterName, shapeParameterValue)
	}
	return invoke(ctx, b, opRegisterThing, in.Parameters["ThingName"], check, func(now time.Time) (*RegisterThingOutput, *task.Error) {
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
		out := &RegisterThingOutput{ResourceARNs: make(map[string]string)}
		if made.certificate != nil {
			out.CertificatePem = made.certificate.pem()
		}
		maps.Insert(out.ResourceARNs, b.arns(made))
		return out, nil
	})
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

// RegisterThing registers one device without a task. See [task.Registrar].
func (b *Backend) RegisterThing(ctx context.Context, in *task.RegisterInput) (*task.Registration, error) {
	in = orZero(in)
	out, err := b.IoT.RegisterThing(ctx, &RegisterThingInput{in.TemplateBody, in.Parameters})
	if err != nil {
		return nil, err
	}
	return &task.Registration{CertificatePEM: out.CertificatePem, ARNs: out.ResourceARNs}, nil
}
