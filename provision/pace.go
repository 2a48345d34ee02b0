package provision

import (
	"sync"
	"time"
)

// pace is what a run has seen of the service's speed and its own. From it follows how large the next part becomes: the
// service runs one task at a time, so the part is best ready at the moment when the task before it ends. Until then it
// grows. While the service has nothing to do, a small part now is better than a large one later.
type pace struct {
	mu sync.Mutex

	busy        bool          // a part is with the service or waits for its turn
	lines       int           // of the task in progress; 0 before it was started
	began       time.Time     // when that was
	first, last sighting      // its first progress, and the latest
	rate        float64       // lines a second of the task that ended last, its start-up included; 0 before any has
	lead        time.Duration // how long the latest part took from its last key to its upload
}

// sighting is a task's progress and when it was first seen.
type sighting struct {
	at      time.Time
	percent int
}

// What a part is at least, as long as there are devices: a task has a start-up of its own.
const (
	smallPart   = 250              // lines
	smallTask   = 5 * time.Second  // of the service's time
	firstMaking = 10 * time.Second // or so long a time of making keys, before the service's speed is known
	nextMaking  = time.Minute      // and afterwards
	firstLead   = 2 * time.Second  // the lead before one was seen
)

func newPace() *pace { return &pace{lead: firstLead} }

// taken: the service is given a part.
func (p *pace) taken() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy, p.lines, p.first, p.last = true, 0, sighting{}, sighting{}
}

// started: its task is in progress since then, perhaps from before an interruption.
func (p *pace) started(lines int, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines, p.began = lines, since
}

// progressed: its task was looked at.
func (p *pace) progressed(percent int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if percent <= p.last.percent {
		return
	}
	p.last = sighting{time.Now(), percent}
	if p.first.percent == 0 {
		p.first = p.last
	}
}

// left: its task has ended, or was not started after all.
func (p *pace) left(ended bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	// A time that can't be, because the clock was set, shows nothing.
	if took := time.Since(p.began); ended && p.lines > 0 && took >= 0 {
		p.rate = float64(p.lines) / max(took, time.Millisecond).Seconds()
	}
}

// uploaded: a part became ready so long after its last key was asked for.
func (p *pace) uploaded(lead time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lead = lead
}

// batch is how many devices are looked at in the account before keys are made. The service waits for a small part only.
func (p *pace) batch() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		return prepareBatch
	}
	return smallPart
}

// enough reports whether the part that is being made should be sent as it is. Devices that were refused count, too.
func (p *pace) enough(lines int, began time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	making := nextMaking
	if p.rate == 0 {
		making = firstMaking
	}
	if float64(lines) < max(smallPart, p.rate*smallTask.Seconds()) && time.Since(began) < making {
		return false
	}
	if !p.busy {
		return true
	}
	end, known := p.end()
	return known && time.Until(end) <= p.lead
}

// end is when the task in progress should end, going by what was seen of it: the earliest moment once it has shown its
// speed, and before that by the speed of the task before, whose start-up makes it seem slower.
func (p *pace) end() (time.Time, bool) {
	after := func(t time.Time, seconds float64) (time.Time, bool) {
		const year = 365 * 24 * 3600
		return t.Add(time.Duration(min(seconds, year) * float64(time.Second))), true
	}
	// A percentage is a whole number: the task may be nearly one further.
	left := float64(99 - p.last.percent)
	switch {
	case p.lines == 0: // it waits for its turn
		return time.Time{}, false
	case p.last.percent > p.first.percent:
		perPercent := p.last.at.Sub(p.first.at).Seconds() / float64(p.last.percent-p.first.percent+1)
		return after(p.last.at, left*perPercent)
	case p.rate == 0:
		return time.Time{}, false
	case p.last.percent > 0:
		return after(p.last.at, left/100*float64(p.lines)/p.rate)
	}
	return after(p.began, float64(p.lines)/p.rate)
}
