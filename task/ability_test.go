package task_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

// wrapped is a decorator as users write them: the four methods it does not change come by embedding.
type wrapped struct{ task.Backend }

func (w wrapped) Unwrap() task.Backend { return w.Backend }

// opaque is a decorator that forgot Unwrap.
type opaque struct{ task.Backend }

type able struct {
	script
	name string
}

func (a *able) DataEndpoint(context.Context) (string, error) { return a.name, nil }

// wrappedAble is a decorator with the ability itself.
type wrappedAble struct{ wrapped }

func (wrappedAble) DataEndpoint(context.Context) (string, error) { return "outer", nil }

func TestAnAbilitySurvivesWrapping(t *testing.T) {
	inner := &able{name: "inner"}
	for name, c := range map[string]struct {
		backend task.Backend
		want    string // empty: not found
	}{
		"itself":                    {inner, "inner"},
		"wrapped once":              {wrapped{inner}, "inner"},
		"wrapped three times":       {wrapped{wrapped{wrapped{inner}}}, "inner"},
		"the nearest one counts":    {wrapped{wrappedAble{wrapped{inner}}}, "outer"},
		"nothing has it":            {wrapped{&script{}}, ""},
		"wrapped without an Unwrap": {opaque{inner}, ""},
		"wrapper around nothing":    {wrapped{nil}, ""},
		"nil":                       {nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			e, ok := task.As[task.Endpointer](c.backend)
			require.Equal(t, c.want != "", ok)
			if ok {
				got, err := e.DataEndpoint(t.Context())
				require.NoError(t, err)
				assert.Equal(t, c.want, got)
			}
		})
	}
	concrete, ok := task.As[*able](wrapped{inner})
	require.True(t, ok, "a concrete type is found as well")
	assert.Same(t, inner, concrete)
}

func TestARNsAreFoundUnderAnyLogicalName(t *testing.T) {
	arns := task.ARNs{
		"deviceThing":  "arn:aws:iot:us-east-1:123456789012:thing/line-a:device-1",
		"theCert":      "arn:aws:iot:us-east-1:123456789012:cert/8f2989f9",
		"policyB":      "arn:aws:iot:us-east-1:123456789012:policy/B",
		"policyA":      "arn:aws:iot:us-east-1:123456789012:policy/A",
		"certificate":  "not an ARN",
		"thing":        "arn:aws:s3:::thing/x",
		"anotherThing": "arn:aws-cn:iot:cn-north-1:123456789012:thinggroup/g",
	}
	assert.Equal(t, arns["deviceThing"], arns.Thing())
	assert.Equal(t, arns["theCert"], arns.Certificate())
	assert.Equal(t, []string{arns["policyA"], arns["policyB"]}, arns.Policies())
	assert.Empty(t, task.ARNs(nil).Thing())
	assert.Empty(t, task.ARNs(nil).Policies())

	two := task.ARNs{"b": "arn:aws:iot:r:1:thing/b", "a": "arn:aws:iot:r:1:thing/a"}
	for range 20 {
		assert.Equal(t, two["a"], two.Thing(), "the answer does not depend on the order of the map")
	}
}

func TestResourceNameIsTheLastPartOfAnIoTARN(t *testing.T) {
	for arn, want := range map[string]string{
		"arn:aws:iot:us-east-1:123456789012:thing/line-a:device-1": "line-a:device-1",
		"arn:aws-us-gov:iot:us-gov-west-1:1:cert/ab":               "ab",
		"arn:aws:iot:us-east-1:1:thing":                            "",
		"arn:aws:s3:::bucket/key":                                  "",
		"arn:aws:sts:us-east-1:1:thing/x":                          "",
		"urn:aws:iot:us-east-1:1:thing/x":                          "",
		"arn:aws:iot":                                              "",
		"thing/x":                                                  "",
		"":                                                         "",
	} {
		assert.Equal(t, want, task.ResourceName(arn), arn)
	}
}
