package operation_test

import (
	"fmt"

	"github.com/seed1ff6f450/iotfleet/fakebackend/internal/operation"
)

func Example() {
	fmt.Println(operation.Known("PutObject"), operation.Known("putObject"), operation.Known("ListUsers"))
	fmt.Println(operation.Nearest("StartThingsRegistrationTask"))
	// Output:
	// true false false
	// [StartThingRegistrationTask StopThingRegistrationTask ListThingRegistrationTasks]
}
