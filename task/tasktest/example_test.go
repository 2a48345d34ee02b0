package tasktest_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/seed1ff6f450/iotfleet/fakebackend"
	"github.com/seed1ff6f450/iotfleet/task"
	"github.com/seed1ff6f450/iotfleet/task/tasktest"
)

// account is the least a harness can be: a backend and the role of its tasks.
type account struct {
	backend task.Backend
	role    string
}

func (a account) Backend() task.Backend { return a.backend }
func (a account) RoleARN() string       { return a.role }

// The suite runs outside of go test as well, for instance in a command that tries out a new account.
func ExampleCase_Check() {
	ctx := context.Background()
	backend, err := fakebackend.New(fakebackend.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	role, err := backend.EnsureRole(ctx, &task.RoleInput{Name: "bulk"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range tasktest.Cases() {
		if c.Name != "reports/results" && c.Name != "start/once" {
			continue
		}
		err := c.Check(ctx, account{backend, role})
		if skip, ok := errors.AsType[*tasktest.SkipError](err); ok {
			fmt.Println("skip", c.Name, "-", skip.Reason)
		} else if err != nil {
			fmt.Println("FAIL", c.Name, "-", err, "-", c.Explanation)
		} else {
			fmt.Println("ok  ", c.Name)
		}
	}
	// Output:
	// skip start/once - the harness is no Faulter, so it cannot drop the connection after StartThingRegistrationTask has taken effect
	// ok   reports/results
}
