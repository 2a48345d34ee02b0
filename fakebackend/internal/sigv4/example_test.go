package sigv4_test

import (
	"fmt"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/sigv4"
)

func ExampleEscapePath() {
	fmt.Println(sigv4.EscapePath("/fleet/part 1+2.json"))
	// Output: /fleet/part%201%2B2.json
}
