package given_test

import (
	"context"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/given"
)

func Example() {
	// A request with "thingTypeName": "" and no billingGroupName.
	ctx := given.With(context.Background(), given.Empty{"thingTypeName": true})

	empty := given.In(ctx)
	fmt.Println(empty["thingTypeName"], empty["billingGroupName"])
	// Output: true false
}
