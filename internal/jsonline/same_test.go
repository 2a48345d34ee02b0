package jsonline_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/internal/jsonline"
)

func TestTextsAreTheSameThatHoldTheSameValue(t *testing.T) {
	const text = `{"a": [1, "b"], "c": {"d": null}}`
	assert.True(t, jsonline.Same(text, `{"c":{"d":null},"a":[1,"b"]}`))
	assert.True(t, jsonline.Same("no JSON", "no JSON"))
	for _, other := range []string{`{"a": ["b", 1], "c": {"d": null}}`, `{"a": [1, "b"], "c": {}}`, "", "no JSON", text + text} {
		assert.False(t, jsonline.Same(text, other), other)
		assert.False(t, jsonline.Same(other, text), other)
	}
}
