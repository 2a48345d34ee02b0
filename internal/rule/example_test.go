package rule_test

import (
	"fmt"

	"github.com/seed1ff6f450/iotfleet/internal/rule"
)

func ExampleRule_Check() {
	fmt.Println(rule.ThingName.Check("pump-1"))
	fmt.Println(rule.ThingName.Check("pump 1"))
	// Output:
	// <nil>
	// thing name "pump 1" has ' ' at byte 4; AWS allows [a-zA-Z0-9:_-]+
}
