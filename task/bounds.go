package task

import (
	"errors"
	"fmt"
)

// What a service may send without an end is bounded by what a task can hold.
const (
	// maxTasks is how many tasks an account can have. AWS runs one at a time and forgets each 30 days after its end, so
	// that a million would leave less than three seconds for each.
	maxTasks = 1_000_000
	// maxIdlePages is how many pages in a row may bring nothing new. A page may be empty without being the last, such as
	// where the service filters by status after it has cut its pages.
	maxIdlePages = 1000
	// maxLineGap is how many bytes of a report may come without a line that is read: blank lines, or a line that is too
	// long. Lines of AWS's reports have some 2 KB, and at most about 70.
	maxLineGap = 16 << 20
	// spareLines is how many lines more than the task has lines a report may have before reading ends.
	spareLines = 1000
)

var (
	errIdlePages = fmt.Errorf("%d pages in a row brought nothing new", maxIdlePages)
	errManyTasks = fmt.Errorf("there are more than %d tasks, which no account can have", maxTasks)
	errNoLines   = fmt.Errorf("%d bytes came without a line: this is no report of the service", maxLineGap)
	errManyFiles = errors.New("the report has more files than the task has lines")
)

// mostLines returns how many lines of one of its reports are read of a task that has counted so many lines. The service
// writes one for each line of the data file; twice that is read, so that a report that holds its lines twice is read
// whole.
func mostLines(d *Description) int { return 2*max(0, d.Succeeded+d.Failed) + spareLines }
