package spelling_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed1ff6f450/iotfleet/internal/spelling"
)

func ExampleDistance() {
	fmt.Println(spelling.Fold("serial_number") == spelling.Fold("SerialNumber"))
	fmt.Println(spelling.Distance("serialnumber", "serailnumbr"))
	// Output:
	// true
	// 2
}

func TestDistanceCountsWhatHasToBeChanged(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "abc", 0},
		{"abc", "abxc", 1}, {"abc", "ac", 1}, {"abc", "abd", 1}, {"abc", "acb", 1}, {"ab", "ba", 1},
		{"abcd", "badc", 2}, {"kitten", "sitting", 3}, {"größe", "grösse", 2}, {"ca", "abc", 3},
		{strings.Repeat("a", 64), "", 64}, {strings.Repeat("a", 65), strings.Repeat("a", 65), math.MaxInt},
	} {
		assert.Equal(t, c.want, spelling.Distance(c.a, c.b), "%q, %q", c.a, c.b)
		assert.Equal(t, c.want, spelling.Distance(c.b, c.a), "%q, %q", c.b, c.a)
	}
}

func TestFoldKeepsWhatMakesNamesDiffer(t *testing.T) {
	assert.Equal(t, "thingname", spelling.Fold("\ufeffThing-Name "))
	assert.Equal(t, "fnjoin", spelling.Fold("Fn::Join"))
	assert.NotEqual(t, spelling.Fold("Group1"), spelling.Fold("Group2"))
}
