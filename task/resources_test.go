package task_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

func TestGroupsStandBehindTheirParents(t *testing.T) {
	in := &task.ResourcesInput{ThingGroups: []task.ThingGroup{
		{Name: "c", Parent: "b"}, {Name: "b", Parent: "z"}, {Name: "a", Parent: "elsewhere"}, {Name: "z"}, {Name: "c"}, {Name: "b", Parent: "z"},
	}}
	got, err := in.Ordered()
	require.NoError(t, err)
	assert.Equal(t, []task.ThingGroup{{Name: "a", Parent: "elsewhere"}, {Name: "z"}, {Name: "b", Parent: "z"}, {Name: "c", Parent: "b"}}, got)
	got, err = new(task.ResourcesInput).Ordered()
	require.NoError(t, err)
	assert.Empty(t, got)
}

func TestResourcesThatCannotBeAreRefused(t *testing.T) {
	for name, in := range map[string]*task.ResourcesInput{
		"a circle":              {ThingGroups: []task.ThingGroup{{Name: "a", Parent: "b"}, {Name: "b", Parent: "a"}}},
		"its own parent":        {ThingGroups: []task.ThingGroup{{Name: "a", Parent: "a"}}},
		"two parents":           {ThingGroups: []task.ThingGroup{{Name: "a", Parent: "b"}, {Name: "a", Parent: "c"}}},
		"a group without name":  {ThingGroups: []task.ThingGroup{{Parent: "b"}}},
		"a type without name":   {ThingTypes: []string{""}},
		"a policy without name": {Policies: map[string]string{"": "{}"}},
		"a document not JSON":   {Policies: map[string]string{"p": "Allow all"}},
	} {
		_, err := in.Ordered()
		require.ErrorIs(t, err, task.ErrInvalidRequest, name)
	}
}
