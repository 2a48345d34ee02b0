package fakegateway_test

import (
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/fakebackend/fakegateway"
)

func TestAConnectionWithinTheProcessIsLikeANetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := fakegateway.NewPipe()
		n, err := near.Write([]byte("hello")) // which nobody reads yet
		assert.Equal(t, []any{5, nil}, []any{n, err})
		begin := time.Now()
		assert.NoError(t, near.SetDeadline(begin.Add(time.Minute)))
		_, err = near.Write(make([]byte, 64<<10))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded, "64 KiB are on their way")
		_, err = near.Read(make([]byte, 1))
		assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
		assert.Equal(t, time.Minute, time.Since(begin))
		assert.NoError(t, near.SetDeadline(time.Time{}))
		assert.NoError(t, near.Close())
		_, err = near.Write([]byte("x"))
		assert.ErrorIs(t, err, io.ErrClosedPipe)
		_, err = near.Read(make([]byte, 1))
		assert.ErrorIs(t, err, io.ErrClosedPipe)
		_, err = far.Write([]byte("lost"))
		assert.NoError(t, err, "so that it reads what came before the end")
		got, err := io.ReadAll(far)
		assert.NoError(t, err)
		assert.Len(t, got, 64<<10)
		var timeout net.Error
		assert.ErrorAs(t, os.ErrDeadlineExceeded, &timeout)
	})
}
