package fakeaws_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/fakebackend/fakeaws"
)

func TestEventsAreStreamedAsTheyHappen(t *testing.T) {
	backend := newBackend(t, fakebackend.Options{})
	server, err := fakeaws.NewServer(backend, fakeaws.Options{})
	require.NoError(t, err)
	defer server.Close()
	c := connect(server)
	assert.Empty(t, get(t, c, c.url+"/_fake/events?follow=false"))
	assert.Equal(t, backend.RootCA(), get(t, c, c.url+"/_fake/root.pem"))

	answer, err := c.http.Get(c.url + "/_fake/events")
	require.NoError(t, err)
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	next := func() (e fakebackend.Event) {
		require.True(t, lines.Scan())
		require.NoError(t, json.Unmarshal(lines.Bytes(), &e))
		return e
	}
	backend.Reset()
	assert.Equal(t, fakebackend.EventReset, next().Kind)
	c.setUp(t.Context(), t)
	line, _ := newLine(t, "device-one")
	c.upload(t.Context(), t, "k", line)
	_, err = c.start(t.Context(), "k")
	require.NoError(t, err)
	assert.Equal(t, fakebackend.EventTaskStarted, next().Kind)
	backend.Counts() // whoever looks has the task go on
	e := next()
	assert.Equal(t, []string{fakebackend.EventTaskEnded, "Completed: 1 of 1 lines registered, 0 failed"}, []string{e.Kind, e.Text})

	kept := strings.Split(strings.TrimSpace(string(get(t, c, c.url+"/_fake/events?follow=false"))), "\n")
	assert.Len(t, kept, 3)
	assert.True(t, strings.HasPrefix(kept[0], `{"number":1,"time":"`), kept[0])
	bad, err := c.http.Get(c.url + "/_fake/events?follow=maybe")
	require.NoError(t, err)
	bad.Body.Close()
	assert.Equal(t, http.StatusBadRequest, bad.StatusCode)
	server.Close() // ends the stream
	assert.False(t, lines.Scan())
}
