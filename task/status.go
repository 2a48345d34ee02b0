package task

// Status is the state of a registration task, in AWS's words.
type Status string

// The states of a registration task. A task with refused lines still ends as Completed: look at its Failed count.
const (
	InProgress Status = "InProgress"
	Completed  Status = "Completed"
	Failed     Status = "Failed"
	Cancelled  Status = "Cancelled"
	Cancelling Status = "Cancelling"
)

// Done reports whether the status is final: Completed, Failed or Cancelled.
func (s Status) Done() bool {
	return s == Completed || s == Failed || s == Cancelled
}
