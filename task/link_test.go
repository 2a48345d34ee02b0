package task_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/task"
)

func TestALinkNeverPrintsItsAddress(t *testing.T) {
	const secret = "X-Amz-Signature=c0ffee"
	link := task.NewLink("https://bucket.s3.amazonaws.com/report?" + secret)
	require.Contains(t, link.URL(), secret, "URL itself gives the address")

	type private struct {
		link  task.Link
		links []task.Link
	}
	page := &task.ReportPage{Links: []task.Link{link, link}}
	for name, v := range map[string]any{
		"link":             link,
		"pointer":          &link,
		"page":             page,
		"page value":       *page,
		"slice":            []task.Link{link},
		"map":              map[string]task.Link{"a": link},
		"array":            [1]task.Link{link},
		"interface":        []any{link, &link},
		"unexported field": private{link, page.Links},
		"pointer to it":    &private{link, page.Links},
		"nested":           struct{ A struct{ B private } }{struct{ B private }{private{link, page.Links}}},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%T"} {
			assert.NotContains(t, fmt.Sprintf(verb, v), "c0ffee", "%s of %s", verb, name)
			assert.NotContains(t, fmt.Sprintf(verb, v), fmt.Sprintf("%x", "c0ffee"), "%s of %s", verb, name)
		}
		text, err := json.Marshal(v)
		require.NoError(t, err)
		assert.NotContains(t, string(text), "c0ffee", name)
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("report", "value", v)
		slog.New(slog.NewJSONHandler(&log, nil)).Info("report", "value", v)
		assert.NotContains(t, log.String(), "c0ffee", name)
	}
	text, err := xml.Marshal(page)
	require.NoError(t, err)
	assert.NotContains(t, string(text), "c0ffee")
	assert.NotContains(t, fmt.Errorf("cannot open %v: %w", link, errors.New("x")).Error(), "c0ffee")
}

func TestTheZeroLinkIsEmpty(t *testing.T) {
	var link task.Link
	assert.True(t, link.IsZero())
	assert.Empty(t, link.URL())
	assert.True(t, task.NewLink("").IsZero())
	assert.False(t, task.NewLink("x").IsZero())
	assert.Equal(t, "[report link]", fmt.Sprint(link))
}
