package awsbackend

import (
	"errors"
	"testing"
	"time"

	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestResourcesAreWaitedForUntilTheyCanBeSeen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, w := onWire(t, answers{
			"DescribeThingType":    inTurn(missing, missing, missing, reply(200, `{"thingTypeName":"t"}`)),
			"CreateThingType":      reply(200, `{}`),
			"DescribeThingGroup":   inTurn(missing, reply(200, `{"thingGroupName":"p"}`), reply(200, `{"thingGroupName":"g","thingGroupMetadata":{"parentGroupName":"p"}}`)),
			"CreateThingGroup":     inTurn(missing, reply(200, `{}`)), // the parent is not known everywhere yet
			"DescribeBillingGroup": inTurn(missing, reply(200, `{"billingGroupName":"b"}`)),
			"CreateBillingGroup":   exception(409, "ResourceAlreadyExistsException", "somebody else made it"),
		})
		began := time.Now()
		err := b.EnsureResources(t.Context(), &task.ResourcesInput{ThingTypes: []string{"t", "t"}, BillingGroups: []string{"b"},
			ThingGroups: []task.ThingGroup{{Name: "g", Parent: "p"}}})
		require.NoError(t, err)
		assert.Equal(t, 1, w.count("CreateThingType"))
		assert.Equal(t, 2, w.count("CreateThingGroup"))
		assert.Greater(t, time.Since(began), time.Second, "it was waited for")
	})
}

func TestResourcesThatAWSNeverShowsAreAnError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		b, _ := onWire(t, answers{"DescribeThingType": missing, "CreateThingType": reply(200, `{}`)})
		err := b.EnsureResources(t.Context(), &task.ResourcesInput{ThingTypes: []string{"t"}})
		require.ErrorIs(t, err, task.ErrUnavailable)
		assert.NotErrorIs(t, err, task.ErrNotFound)
		assert.ErrorContains(t, err, "thing type")
	})
}

func TestResourcesThatNoLineCanUseAreAConflict(t *testing.T) {
	b, _ := onWire(t, answers{
		"DescribeThingType":  reply(200, `{"thingTypeName":"t","thingTypeMetadata":{"deprecated":true}}`),
		"DescribeThingGroup": reply(200, `{"thingGroupName":"g","queryString":"thingName:a*"}`),
	})
	require.ErrorIs(t, b.EnsureResources(t.Context(), &task.ResourcesInput{ThingTypes: []string{"t"}}), task.ErrConflict)
	require.ErrorIs(t, b.EnsureResources(t.Context(), &task.ResourcesInput{ThingGroups: []task.ThingGroup{{Name: "g"}}}), task.ErrConflict)
	err := b.EnsureResources(t.Context(), nil)
	_, ok := errors.AsType[*task.InputError](err)
	assert.True(t, ok)
}
