package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/seed1ff6f450/iotfleet/awsbackend"
	"github.com/seed1ff6f450/iotfleet/finding"
	"github.com/seed1ff6f450/iotfleet/provision"
)

// progress shows how a run is getting on: a bar on a terminal, a line every few seconds elsewhere.
type progress struct {
	terminal, complete   bool  // complete: the last line was shown
	total, done, current int64 // devices, those with a verdict, those of the task in progress that are done
	before               int64 // done when the run was taken up
	began, shown         time.Time

	mu          sync.Mutex
	unreachable string // the last host that did not answer, as it was shown
}

func newProgress() *progress {
	info, err := os.Stderr.Stat()
	return &progress{terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// noAnswer tells that a host did not answer, in whichever request of the program: it may be silent for minutes otherwise.
func (p *progress) noAnswer(host string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if text := finding.Visible(fmt.Sprintf("no answer from %s: %v; trying again", host, err)); text != p.unreachable {
		p.unreachable = text
		fmt.Fprintln(os.Stderr, text)
	}
}

// observe is called for one event at a time.
func (p *progress) observe(e provision.Event) {
	switch e := e.(type) {
	case provision.EventSpooled:
		p.total, p.done = e.Devices, e.Failed+e.Provisioned+e.NoKey+e.Issued
		p.before, p.began, p.complete = p.done, time.Now(), false
		if e.Replaced {
			fmt.Fprintln(os.Stderr, "the list takes the place of the one that this run had, of which nothing was sent")
		}
		for _, f := range e.Notes {
			fmt.Fprintln(os.Stderr, f)
		}
	case provision.EventPreflight:
		for _, f := range e.Findings.AtLeast(finding.Unknown) {
			if f.Rule == awsbackend.CheckEndpoint && f.Severity == finding.Warning { // that it is the fake, which the summary tells
				continue
			}
			if e.Stops && f.Severity.AtLeast(finding.Error) { // the run's error lists it
				continue
			}
			fmt.Fprintln(os.Stderr, "preflight:", flags.Replace(f.String()))
		}
		if e.Err != nil {
			fmt.Fprintf(os.Stderr, "preflight: the account could not be looked at, going on: %v\n", e.Err)
		}
		return
	case provision.EventUnreachable: // noAnswer has shown it
		return
	case provision.EventExisting:
		if e.Certified > 0 {
			fmt.Fprintf(os.Stderr, "%s looked at, with a certificate already that is not this run's: %d\n", count(int64(e.Looked), "device"), e.Certified)
		}
		p.done += int64(e.Failed + e.Provisioned + e.NoKey)
	case provision.EventIssued:
		p.done += int64(e.Issued + e.Failed)
	case provision.EventTaskWaiting:
		fmt.Fprintln(os.Stderr, "another registration task is running in this account; waiting for it")
	case provision.EventLookedThrough:
		fmt.Fprintf(os.Stderr, "looking which things have certificates that others have made since the run began: %d so far\n", e.Others)
		return
	case provision.EventStartLost:
		fmt.Fprintf(os.Stderr, "it is not known whether part %d was started; looking for its task until %s\n", e.Part, e.Until.Format(time.TimeOnly))
	case provision.EventDiscrepancy:
		what := "reading its devices back from the account"
		if !e.Until.IsZero() {
			what = "looking again until " + e.Until.Format(time.TimeOnly)
		}
		fmt.Fprintf(os.Stderr, "part %d, task %s: %s; %s\n", e.Part, e.Task, e.Problem, what)
		return
	case provision.EventTaskStarted:
		p.current = 0
	case provision.EventTaskProgress:
		p.current = int64(e.Description.Succeeded + e.Description.Failed)
	case provision.EventPartCollected:
		p.done, p.current = p.done+int64(e.Provisioned+e.NoKey+e.Failed+e.Unknown), 0
	}
	every := 5 * time.Second
	if p.terminal {
		every = 100 * time.Millisecond
	}
	done := min(p.done+p.current, p.total)
	if p.total == 0 || p.complete || done < p.total && time.Since(p.shown) < every {
		return
	}
	p.shown, p.complete = time.Now(), done == p.total
	line := fmt.Sprintf("%d of %s", done, count(p.total, "device"))
	if rate := float64(done-p.before) / time.Since(p.began).Seconds(); rate > 0 {
		line += fmt.Sprintf(", %.1f a second", rate)
		if left := time.Duration(float64(p.total-done) / rate * float64(time.Second)); !p.complete {
			line += fmt.Sprintf(", about %s to go", left.Round(time.Second))
		}
	}
	if p.terminal {
		const width = 30
		full := int(width * done / p.total)
		line = fmt.Sprintf("\r\033[K[%s%s] %s", strings.Repeat("#", full), strings.Repeat(".", width-full), line)
		if done < p.total {
			fmt.Fprint(os.Stderr, line)
			return
		}
	}
	fmt.Fprintln(os.Stderr, line)
}
