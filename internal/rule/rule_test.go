package rule_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

var all = []*rule.Rule{
	rule.ThingName, rule.ThingTypeName, rule.ThingGroupName, rule.BillingGroupName, rule.AttributeName, rule.AttributeValue,
	rule.PolicyName, rule.CertificateID, rule.Bucket, rule.ObjectKey,
}

// published is what AWS's pattern and lengths say, by the regular expression itself.
func published(r *rule.Rule, s string) bool {
	n := utf8.RuneCountInString(s)
	return n >= r.Min && n <= r.Max && regexp.MustCompile(`^(?:`+r.Pattern+`)$`).MatchString(s)
}

func TestEveryRuleAllowsExactlyTheCharactersOfAWSsPattern(t *testing.T) {
	for _, r := range all {
		for c := range rune(0x250) {
			// Long enough for the rule, so that only the character decides.
			s := strings.Repeat("a", r.Min) + string(c)
			if r == rule.CertificateID {
				s = strings.Repeat("a", 63) + string(c)
			}
			assert.Equal(t, published(r, s), r.Check(s) == nil, "%s: %q", r.What, c)
		}
	}
}

func TestEveryRuleAllowsExactlyTheLengthsOfTheModel(t *testing.T) {
	for _, r := range all {
		for _, n := range []int{0, 1, 2, 3, r.Min - 1, r.Min, r.Min + 1, r.Max - 1, r.Max, r.Max + 1, 2 * r.Max} {
			if n < 0 {
				continue
			}
			err := r.Check(strings.Repeat("a", n))
			assert.Equal(t, n >= r.Min && n <= r.Max, err == nil, "%s of %d characters", r.What, n)
			if v, ok := errors.AsType[*rule.Violation](err); ok {
				assert.Equal(t, -1, v.Offset)
				assert.Contains(t, v.Error(), fmt.Sprintf("%d characters", n))
				assert.Contains(t, v.Error(), r.What)
			}
		}
	}
}

func TestACertificateIDMayBeginWith0x(t *testing.T) {
	digits := strings.Repeat("aF09", 16)
	for s, ok := range map[string]bool{
		digits: true, "0x" + digits[2:]: true, "0X" + digits[2:]: false, digits[:1] + "x" + digits[2:]: false,
		digits[:62] + "0x": false, "x" + digits[1:]: false,
	} {
		assert.Equal(t, ok, rule.CertificateID.Check(s) == nil, s)
		assert.Equal(t, ok, published(rule.CertificateID, s), s)
	}
}

func TestAViolationNamesTheFirstBadCharacterAndItsByte(t *testing.T) {
	err := rule.ThingName.Check("Gerät 1")
	v, ok := errors.AsType[*rule.Violation](err)
	require.True(t, ok)
	assert.Equal(t, 3, v.Offset)
	assert.Equal(t, `thing name "Gerät 1" has 'ä' at byte 3; AWS allows [a-zA-Z0-9:_-]+`, err.Error())
	assert.Contains(t, rule.ThingName.Check("").Error(), "AWS wants 1 at least")
	assert.Contains(t, rule.ThingName.Check("\xff").Error(), "at byte 0")
}

func TestQuoteCutsLongValuesBetweenCharacters(t *testing.T) {
	assert.Equal(t, `"a\"b"`, rule.Quote(`a"b`))
	long := strings.Repeat("ä", 100)
	assert.Equal(t, `"`+strings.Repeat("ä", 32)+`"… (200 bytes)`, rule.Quote(long))
	assert.Equal(t, `"a`+strings.Repeat("ä", 31)+`"… (201 bytes)`, rule.Quote("a"+long), "not cut within a character")
	assert.NotPanics(t, func() { rule.Quote(strings.Repeat("\x80", 100)) })
}

func TestAPrivateKeyInTheWrongPlaceIsNotShown(t *testing.T) {
	const key = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGsecret\n-----END PRIVATE KEY-----\n"
	assert.Equal(t, "[private key]", rule.Quote(key))
	err := rule.ThingName.Check(key)
	require.Error(t, err)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		assert.NotContains(t, fmt.Sprintf(verb, err), "MIGH", verb)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("device-1")
	f.Add("0x" + strings.Repeat("a", 62))
	f.Add("ä b")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range all {
			// A regular expression reads an invalid byte as U+FFFD, which no pattern allows.
			err := r.Check(s)
			if published(r, s) != (err == nil) {
				t.Fatalf("%s: %q: pattern says %v, Check says %v", r.What, s, published(r, s), err)
			}
			if err != nil && (err.Error() == "" || !utf8.ValidString(err.Error())) {
				t.Fatalf("%s: %q", r.What, err)
			}
		}
	})
}
