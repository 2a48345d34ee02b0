package tasktest_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

func TestABackendThatKeepsItsPromisesPassesEveryCase(t *testing.T) {
	for _, c := range tasktest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				require.NoError(t, c.Check(t.Context(), newReference()), c.Explanation)
			})
		})
	}
}
