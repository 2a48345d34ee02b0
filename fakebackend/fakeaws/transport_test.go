package fakeaws

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestBodiesStreamInProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := make(chan string)   // what the handler has read so far
		answered := make(chan bool) // the client has read the first half of the answer
		client := &http.Client{Transport: newTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			half := make([]byte, 5)
			_, err := io.ReadFull(r.Body, half)
			assert.NoError(t, err)
			read <- string(half)
			rest, err := io.ReadAll(r.Body)
			assert.NoError(t, err)
			read <- string(rest)
			_, err = io.WriteString(w, "first")
			assert.NoError(t, err)
			assert.NoError(t, http.NewResponseController(w).Flush())
			<-answered
			_, err = io.WriteString(w, "second")
			assert.NoError(t, err)
		}))}
		body, write := io.Pipe()
		go func() {
			_, err := io.WriteString(write, "upper")
			assert.NoError(t, err)
			assert.Equal(t, "upper", <-read, "the handler reads what was sent while the rest is not there yet")
			_, err = io.WriteString(write, "lower")
			assert.NoError(t, err)
			assert.NoError(t, write.Close())
			assert.Equal(t, "lower", <-read)
		}()
		answer, err := client.Post("https://any.host/", "text/plain", body)
		require.NoError(t, err, "the answer is there when its headers are")
		half := make([]byte, 5)
		_, err = io.ReadFull(answer.Body, half)
		require.NoError(t, err)
		assert.Equal(t, "first", string(half))
		answered <- true
		rest, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		assert.Equal(t, "second", string(rest))
		require.NoError(t, answer.Body.Close())
	})
}

func TestAHandlerIsReleasedWhenTheBodyIsClosedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		released := make(chan error, 1)
		client := &http.Client{Transport: newTransport(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			endless := strings.Repeat("x", 64<<10)
			for {
				if _, err := io.WriteString(w, endless); err != nil {
					<-r.Context().Done()
					released <- r.Context().Err()
					return
				}
			}
		}))}
		answer, err := client.Get("http://any.host/")
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		assert.Error(t, <-released)
	})
}
