package iam

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestASessionMayBeAskedByManyAtOnce(t *testing.T) {
	s := newStore(t)
	require.NoError(t, s.PutRolePolicy("registration", "read", readFleet))
	session, err := s.Assume(roleARN, "iot.amazonaws.com", nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				assert.True(t, session.Allows("s3:GetObject", "arn:aws:s3:::fleet/a"))
				assert.False(t, session.Allows("s3:GetObject", "arn:aws:s3:::other/a"))
			}
		})
	}
	wg.Wait()
}
