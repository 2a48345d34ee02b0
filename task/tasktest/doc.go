// Package tasktest checks that a [task.Backend] keeps the promises of its interface, each under a name of its own.
//
// A backend's own test needs a [Harness] and one call:
//
//	func TestBackend(t *testing.T) {
//		tasktest.Run(t, func(t *testing.T) tasktest.Harness {
//			return harness{newBackend(t), roleARN}
//		})
//	}
//
// Every case registers devices of its own making: keys and certificate signing requests on P-256, thing names that
// begin with "tasktest-". Nothing has to exist beforehand except the bucket and the role, and the account may hold
// other things. A case takes a few tasks of a few lines each; it waits in the time of its goroutine, so the suite runs
// against a real account as well as inside a testing/synctest bubble. Where the backend is a [task.Remover] and a
// [task.DeviceReader], a case removes its devices when it is done; their policy stays.
//
// What only a few harnesses can do is asked for by interface: [Faulter] to break connections, to leave requests without
// an answer and to fail lines on their way, [Pacer] to know what a long task is. A case that needs what is not there is
// skipped with the reason.
//
// Without a *testing.T, for instance in a command that tries out an account, range over [Cases] and call
// [Case.Check].
package tasktest
