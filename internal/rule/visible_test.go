package rule_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

func TestWhatHidesIsMadeVisible(t *testing.T) {
	for text, want := range map[string]string{
		"Müller & Söhne, 日本 \\": "Müller & Söhne, 日本 \\", "": "",
		"refused\n3 of 3 devices provisioned": `refused\n3 of 3 devices provisioned`,
		"\r\x1b[2K\x1b[32mok\x7f":             `\r\x1b[2K\x1b[32mok\x7f`,
		"a\u202eb\u2028c\u200d\u0085":         `a\u202eb\u2028c\u200d\u0085`,
		"a\xffb\ufffd":                        "a\\xffb\ufffd",
		"a\u00a0b":                            "a\u00a0b",
	} {
		assert.Equal(t, want, rule.Visible(text))
	}
}

func TestOneThingIsNotInThePlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 devices", 1: "1 device", 2: "2 devices"} {
		assert.Equal(t, want, rule.Count(n, "device"))
		assert.Equal(t, want, rule.Count(int64(n), "device"))
	}
}
