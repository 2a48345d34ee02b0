package main

import (
	"flag"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFlagsOfAnOwnCANeedTheCA(t *testing.T) {
	load := func(args ...string) error {
		var o options
		flags := flag.NewFlagSet("bulkprovision", flag.ContinueOnError)
		flags.SetOutput(io.Discard)
		o.own.flags(flags)
		require.NoError(t, flags.Parse(args))
		return o.own.load(flags)
	}
	require.NoError(t, load())
	for _, args := range [][]string{
		{"-cert-mode", "without-ca"}, {"-cert-mode", "bulk"}, {"-cert-days", "5"}, {"-jit-template", "first.json"}, {"-crl", "ca.crl"},
	} {
		assert.EqualError(t, load(args...), args[0]+" needs -ca-cert and -ca-key")
	}
	for _, days := range []string{"0", "-3", "110000"} { // the last one has more nanoseconds than an int64
		assert.ErrorContains(t, load("-ca-cert", "ca.pem", "-ca-key", "ca.key", "-cert-days", days), "-cert-days is "+days)
	}
	assert.ErrorContains(t, load("-ca-cert", "ca.pem"), "give both")
}
