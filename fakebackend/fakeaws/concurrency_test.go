package fakeaws_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/smithy-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

// A hundred clients upload, start tasks and register single things at once, half of them things that another client
// registers, too. However they meet: at most one task is in progress, a task that was refused leaves none behind,
// counts add up, and no thing or certificate is there twice or half.
func TestAHundredClientsAtOnceKeepTheInvariants(t *testing.T) {
	const hundred = 100
	backend := newBackend(t, fakebackend.Options{Rate: 2000})
	server, err := fakeaws.NewServer(backend, fakeaws.Options{})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	c := connect(server)
	ctx := t.Context()
	c.setUp(ctx, t)

	var started, refused, registered atomic.Int64
	var clients sync.WaitGroup
	for i := range hundred {
		line, _ := newLine(t, fmt.Sprintf("task-%d", i))
		single, _ := newLine(t, fmt.Sprintf("shared-%d", i/2))
		var parameters map[string]string
		require.NoError(t, json.Unmarshal([]byte(single), &parameters))
		clients.Go(func() {
			own := connect(c.server)
			key := fmt.Sprintf("client-%d.json", i)
			own.upload(ctx, t, key, line)
			_, err := own.start(ctx, key)
			if err == nil {
				started.Add(1)
			} else if refusal, ok := errors.AsType[smithy.APIError](err); assert.True(t, ok, "%v", err) {
				assert.Equal(t, "InvalidRequestException", refusal.ErrorCode())
				refused.Add(1)
			}
			_, err = own.iot.RegisterThing(ctx, &iot.RegisterThingInput{TemplateBody: aws.String(fleetRules), Parameters: parameters})
			if assert.NoError(t, err) {
				registered.Add(1)
			}
			_, err = own.iot.CreateThing(ctx, &iot.CreateThingInput{ThingName: aws.String(fmt.Sprintf("made-%d", i/2))})
			assert.NoError(t, err, "the same thing once more is no error")
			things, err := own.iot.ListThings(ctx, &iot.ListThingsInput{})
			if assert.NoError(t, err) {
				for _, thing := range things.Things {
					assert.NotEmpty(t, *thing.ThingArn)
				}
			}
			running, err := own.iot.ListThingRegistrationTasks(ctx, &iot.ListThingRegistrationTasksInput{Status: "InProgress"})
			if assert.NoError(t, err) {
				assert.LessOrEqual(t, len(running.TaskIds), 1)
			}
		})
	}
	clients.Wait()

	require.EqualValues(t, hundred, started.Load()+refused.Load())
	assert.Contains(t, c.handler.Calls(), fakeaws.Call{Service: "iot", Operation: "RegisterThing", Count: hundred, Known: true})
	require.Positive(t, started.Load())
	backend.Advance(time.Minute) // whatever runs is over
	tasks, succeeded := int64(0), int64(0)
	for task := range backend.Tasks() {
		tasks++
		assert.True(t, task.Status.Done(), "%s is %s", task.ID, task.Status)
		assert.Equal(t, 1, task.Succeeded+task.Failed)
		succeeded += int64(task.Succeeded)
	}
	assert.Equal(t, started.Load(), tasks, "a refused start must leave no task")
	assert.Equal(t, started.Load(), succeeded)

	things := map[string]bool{}
	attached := map[string]bool{}
	for thing := range backend.Things() {
		assert.False(t, things[thing.ThingName], "%s is there twice", thing.ThingName)
		things[thing.ThingName] = true
		device, err := backend.ReadDevice(ctx, thing.ThingName)
		require.NoError(t, err)
		for _, certificate := range device.Certificates {
			assert.False(t, attached[certificate.ID], "a certificate belongs to one thing")
			attached[certificate.ID] = true
			assert.Len(t, certificate.Policies, 1)
		}
	}
	assert.Len(t, things, int(succeeded)+hundred/2+hundred/2)
	assert.Len(t, attached, int(succeeded+registered.Load()))
	certificates := 0
	for range backend.Certificates() {
		certificates++
	}
	assert.Len(t, attached, certificates, "every certificate is attached")
}
