package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/provision"
)

func TestDevicesToTryAreSpreadOverTheRun(t *testing.T) {
	results := func(n int) func(func(*provision.Result, error) bool) {
		return func(yield func(*provision.Result, error) bool) {
			for i := range 2 * n { // every other one has failed
				verdict := provision.Provisioned
				if i%2 == 1 {
					verdict = provision.Failed
				}
				if !yield(&provision.Result{Name: fmt.Sprint(i / 2), Verdict: verdict}, nil) {
					return
				}
			}
		}
	}
	for _, c := range []struct {
		devices, n int
		want       []string
	}{
		{0, 3, nil}, {2, 3, []string{"0", "1"}}, {3, 3, []string{"0", "1", "2"}}, {4, 3, []string{"0", "1", "2"}}, {5, 3, []string{"0", "1", "3"}},
		{6, 3, []string{"0", "2", "4"}}, {1000, 1, []string{"0"}},
	} {
		picked, err := pick(results(c.devices), c.n)
		require.NoError(t, err)
		var names []string
		for _, r := range picked {
			names = append(names, r.Name)
		}
		assert.Equal(t, c.want, names, "%d of %d", c.n, c.devices)
	}
	for _, devices := range []int{100, 1001, 12345} {
		picked, err := pick(results(devices), 7)
		require.NoError(t, err)
		require.Len(t, picked, 7)
		last := 0
		_, err = fmt.Sscan(picked[6].Name, &last)
		require.NoError(t, err)
		assert.Greater(t, last, devices*2/3, "of %d", devices)
	}
	_, err := pick(func(yield func(*provision.Result, error) bool) { yield(nil, errors.New("disk")) }, 3)
	require.EqualError(t, err, "disk")
}
