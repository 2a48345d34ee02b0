package durable

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestReleasesOfKernelsAreCompared(t *testing.T) {
	for release, want := range map[string]bool{
		"5.8.0": true, "5.8": true, "5.10.0-28-amd64": true, "6.1.0": true, "10.0": true, "5.8-rc1": true,
		"5.7.19": false, "5.4.0-150-generic": false, "4.19.0": false, "3.10": false, "": false, "x": false, "5.x": false,
	} {
		assert.Equal(t, want, atLeast(release, 5, 8), release)
	}
}
